"""What is looked at: hastd's status and events on its socket, and what failover(8) wrote last.

Everything has a deadline. A hastd that is away is asked for again; events that it remembers are fetched then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.format import nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES, ControlCommand

CONNECT_S = 5.0
STATUS_S = 10.0
RETRY_S = 1.0
MAX_LINE_BYTES = 128 * 1024
MAX_RECORD_BYTES = 1024 * 1024
_log = logging.getLogger("hast.notify")


class SourceError(Exception):
    """hastd cannot be asked; `str()` is one line."""


async def status(path: str) -> list[dict[str, Any]]:
    """The status object of every resource. Raises SourceError."""
    try:
        with await _ask(path, {"command": "status", "resources": ["all"]}) as sock:
            message, _body = await receive_frame(sock, MAX_CONTROL_BODY_BYTES, STATUS_S)
        reply = json.loads(message.nv.get("json", nv.NvType.STRING) or "null")
    except (ConversationError, ValueError) as error:
        raise SourceError(f"no status: {error}") from None
    found = reply.get("resources") if isinstance(reply, dict) else None
    if not isinstance(found, list):
        raise SourceError(f"no status: {reply.get('error') if isinstance(reply, dict) else 'no object'}")
    return [entry for entry in found if isinstance(entry, dict) and not entry.get("error")]


async def _ask(path: str, request: dict[str, Any]) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, path)
        await send_frame(sock, [nv.u8("cmd", ControlCommand.JSON), nv.string("json", json.dumps(request))], CONNECT_S)
    except (OSError, TimeoutError, ConversationError) as error:
        sock.close()
        raise SourceError(getattr(error, "strerror", None) or str(error) or "no answer") from None
    return sock


@dataclass(slots=True)
class Place:
    """How far the events of hastd were read; kept over restarts."""

    seq: int | None = None
    pid: int = 0
    time_s: float = 0.0


async def follow(path: str, place: Place, take: Callable[[dict[str, Any]], None], lost: Callable[[int], None]) -> None:
    """Hand every event to `take`, until cancelled. `lost(n)`: so many were forgotten before they were read."""
    away = ""
    while True:
        try:
            await _follow_once(path, place, take, lost)
            reason = "it closed the stream"
        except (SourceError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if reason != away:
            away = reason
            _log.info("hastd (%s): %s; trying again", path, reason)
        await asyncio.sleep(RETRY_S)


async def _follow_once(
    path: str, place: Place, take: Callable[[dict[str, Any]], None], lost: Callable[[int], None]
) -> None:
    """One connection. After a restart of hastd all that it remembers is read, and what is known by its time left out:
    the numbers may have begun anew."""
    since: int | None = place.seq
    while True:
        request = {"command": "events"} | ({} if since is None else {"since": since})
        sock = await _ask(path, request)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)
        try:
            async with asyncio.timeout(STATUS_S):
                head = await _line(reader)
            pid, newest = int(head.get("pid") or 0), int(head.get("seq") or 0)
            if since and (pid != place.pid or newest < since):
                place.seq, place.pid = min(since, newest), pid
                since = 0
                continue
            place.pid = pid
            if place.seq is None:
                place.seq = newest
            await _events(reader, place, since, take, lost)
            return
        except TimeoutError:
            raise SourceError("no answer") from None
        finally:
            writer.close()


async def _events(
    reader: asyncio.StreamReader,
    place: Place,
    since: int | None,
    take: Callable[[dict[str, Any]], None],
    lost: Callable[[int], None],
) -> None:
    """Told anew (`since` is 0), what was read before is known by its time and left out."""
    expected = since + 1 if since else None
    begins = since == 0
    while True:
        event = await _line(reader)
        seq, time_s = event.get("seq"), event.get("time")
        if not isinstance(seq, int) or not isinstance(time_s, (int, float)):
            continue
        missing = seq - expected if expected is not None else 0
        expected = seq + 1
        if since == 0 and (time_s, seq) <= (place.time_s, place.seq or 0):
            begins = False
            continue
        if missing > 0 or (begins and seq > 1):
            lost(missing)
        begins = False
        place.seq, place.time_s = seq, float(time_s)
        take(event)


async def _line(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Raises SourceError, also at the end of the stream."""
    try:
        line = await reader.readline()
        value = json.loads(line) if line else None
    except ValueError:
        raise SourceError("it sent what is no line of JSON") from None
    if not isinstance(value, dict):
        raise SourceError("it closed the stream")
    if value.get("error"):
        raise SourceError(str(value["error"]))
    return value


def last_run(path: Path) -> dict[str, Any]:
    """What failover(8) wrote last; empty where it never ran, or cannot be read."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
