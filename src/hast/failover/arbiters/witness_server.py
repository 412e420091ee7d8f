"""The witness: a small server on a third machine that remembers leases and outdated copies, and holds no data.

One JSON line in, one out, over TCP (docs/hast-witness.8.md). What must be durable is in one small file, replaced and
flushed before the answer is sent. The rules are those of election/arbiter.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from hast.election.arbiter import MAX_NAME_BYTES, Lease, LeaseTable, Refused
from hast.failover.arbiters.witness import MAX_LINE_BYTES

MAX_CLIENTS = 256
REQUEST_DEADLINE_S = 10.0
MIN_TTL_S = 1.0
MAX_TTL_S = 60.0
MAX_EPOCH = 1 << 62

_log = logging.getLogger("hast.witness")


class RequestError(ValueError):
    """A request that cannot be understood; `str()` is one line."""


class StateError(Exception):
    """The state file cannot be used; `str()` is one line."""


class StateFile:
    """The file with everything that must survive a restart. Raises StateError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity = secrets.token_hex(8)

    def load(self, now: float) -> LeaseTable:
        """What an earlier witness knew; an empty table, durable at once, where there is no file."""
        try:
            value = json.loads(self._path.read_text())
            self.identity = str(value["witness"])
            return LeaseTable.from_json(value["resources"], now)
        except FileNotFoundError:
            table = LeaseTable()
            self.save(table)
            return table
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._path} is not a witness state file: {error}") from None

    def save(self, table: LeaseTable) -> None:
        """Write, flush, replace, flush the directory."""
        text = json.dumps({"witness": self.identity, "resources": table.to_json()}, indent=1) + "\n"
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StateError(f"{self._path} cannot be written: {error.strerror}") from None
        table.dirty = False


class Witness:
    """Answers requests against one table."""

    def __init__(self, state: StateFile, now: float) -> None:
        self._state = state
        self._table = state.load(now)

    def answer(self, request: Any, now: float) -> dict[str, Any]:
        """The reply to one decoded request.

        A change that cannot be made durable is answered as an error; it holds in memory, where it can only make the
        witness refuse more, and is written with the next change.
        """
        try:
            reply = self._answer(request, now)
            if self._table.dirty:
                self._state.save(self._table)
        except RequestError as error:
            return {"error": str(error)}
        except StateError as error:
            _log.error("%s.", error)
            return {"error": str(error)}
        return {"witness": self._state.identity, **reply}

    def _answer(self, request: Any, now: float) -> dict[str, Any]:
        if not isinstance(request, dict):
            raise RequestError("the request is not a JSON object")
        table = self._table
        resource, node = _name(request, "resource"), _name(request, "node")
        match request.get("do"):
            case "is-outdated":
                return {"outdated": table.is_outdated(resource, node)}
            case "acquire":
                ttl_s, force = _seconds(request), request.get("force") is True
                answer = table.acquire(resource, node, _epoch(request), ttl_s, now, force)
                _log.info("%s: %s", resource, _describe(node, answer))
                return _reply(answer)
            case "keepalive":
                return _reply(table.keepalive(resource, node, _epoch(request), now))
            case "record-outdated":
                answer = table.record_outdated(resource, node, _epoch(request), str(request.get("peer"))[:255], now)
                if isinstance(answer, Lease):
                    _log.warning("%s: %s goes on without its peer.", resource, node)
                return _reply(answer)
            case "clear-outdated":
                return _reply(table.clear_outdated(resource, node, _epoch(request), now))
            case "release":
                table.release(resource, node, _epoch(request))
                return {"released": True}
        raise RequestError(f"unknown request {str(request.get('do'))[:40]!r}")


class WitnessServer:
    """Serves a listening TCP socket."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._clients = 0

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Raises OSError."""
        return await asyncio.start_server(self._serve, host or None, port, limit=MAX_LINE_BYTES, reuse_address=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MAX_CLIENTS:
            writer.close()
            return
        self._clients += 1
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass
        finally:
            self._clients -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
        except ValueError:
            reply: dict[str, Any] = {"error": f"the request is longer than {MAX_LINE_BYTES} bytes"}
        else:
            if not line:
                return
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                reply = {"error": "the request is not JSON"}
            else:
                reply = self._witness.answer(request, asyncio.get_running_loop().time())
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()


def _describe(node: str, answer: Lease | Refused) -> str:
    if isinstance(answer, Refused):
        return f"lease refused to {node}: {answer.reason}."
    return f"lease given to {node}, epoch {answer.epoch}."


def _reply(answer: Lease | Refused) -> dict[str, Any]:
    if isinstance(answer, Refused):
        return {"refused": answer.reason, "holder": answer.holder, "epoch": answer.epoch}
    return {"epoch": answer.epoch, "ttl_s": answer.ttl_s}


def _name(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES:
        raise RequestError(f"{key} is not a name of 1 to {MAX_NAME_BYTES} bytes")
    return value


def _epoch(request: dict[str, Any]) -> int:
    value = request.get("epoch")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_EPOCH:
        raise RequestError("epoch is not a number")
    return value


def _seconds(request: dict[str, Any]) -> float:
    value = request.get("ttl_s")
    if not isinstance(value, int | float) or isinstance(value, bool) or not MIN_TTL_S <= value <= MAX_TTL_S:
        raise RequestError(f"ttl_s is not a number from {MIN_TTL_S:g} to {MAX_TTL_S:g}")
    return float(value)
