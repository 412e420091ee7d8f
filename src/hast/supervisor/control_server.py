"""The control socket: reference messages and JSON commands in, replies out (section 9.5, docs/control.md).

Each connection is one conversation of its own task, with deadlines, a size limit and a check of who is calling (root or
the daemon's own user). It knows the protocol; what a command does is the supervisor's `Commands`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from typing import Any, Protocol

from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.daemon.logs import in_words
from hast.format import control, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES, ControlCommand, HastError, Role
from hast.supervisor.events import EventBus

log = logging.getLogger("hast.control")

REQUEST_DEADLINE_S = 10.0
SEND_DEADLINE_S = 10.0
MAX_CLIENTS = 128
MAX_REQUEST_BYTES = 1024 * 1024
_CREDENTIALS = struct.Struct("3i")


class Commands(Protocol):
    """What the supervisor does for clients. Replies are JSON objects with `error`: null or one line of text."""

    @property
    def events(self) -> EventBus: ...

    async def run(self, request: dict[str, Any]) -> dict[str, Any]: ...


class ControlServer:
    """Serves one listening socket until closed. `anybody`: who may open the socket may ask."""

    def __init__(self, commands: Commands, sock: socket.socket, *, anybody: bool = False) -> None:
        self._commands = commands
        self._sock = sock
        self._anybody = anybody
        self._clients: set[asyncio.Task[None]] = set()
        self._acceptor = asyncio.create_task(self._accept())

    async def close(self, grace_s: float = 1.0) -> None:
        """Stop accepting; let replies under way finish for `grace_s`, then drop the clients."""
        self._acceptor.cancel()
        self._sock.close()
        if self._clients:
            await asyncio.wait(self._clients, timeout=grace_s)
        for task in list(self._clients):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _address = await loop.sock_accept(self._sock)
            except OSError as error:
                log.error("Unable to accept a control connection: %s.", error.strerror)
                await asyncio.sleep(0.2)
                continue
            if len(self._clients) >= MAX_CLIENTS:
                log.warning("Control connection refused: %d are open.", len(self._clients))
                client.close()
                continue
            task = asyncio.create_task(self._serve(client))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket) -> None:
        try:
            if self._anybody or self._permitted(client):
                await self._converse(client)
        except ConversationError as error:
            log.debug("Control connection closed: %s.", error)
        except Exception:
            log.exception("Control request failed")
        finally:
            client.close()

    @staticmethod
    def _permitted(client: socket.socket) -> bool:
        if client.family != socket.AF_UNIX:
            return True
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        if uid in (0, os.geteuid()):
            return True
        log.warning("Control connection of process %d refused: user %d is neither root nor hastd's user.", pid, uid)
        return False

    async def _converse(self, client: socket.socket) -> None:
        message, _body = await receive_frame(client, MAX_REQUEST_BYTES, REQUEST_DEADLINE_S)
        fields = message.nv
        command = fields.get("cmd", nv.NvType.UINT8)
        if command is None:
            raise ConversationError("a request without a command")
        if command == ControlCommand.JSON:
            await self._json(client, fields.get("json", nv.NvType.STRING))
        elif command == ControlCommand.STATUS:
            await send_frame(client, await self._status(fields), SEND_DEADLINE_S)
        elif command == ControlCommand.SETROLE and not self._anybody:
            await send_frame(client, await self._set_role(fields), SEND_DEADLINE_S)
        else:
            await send_frame(client, control.error_reply(HastError.UNIMPLEMENTED), SEND_DEADLINE_S)

    async def _status(self, fields: nv.Nv) -> list[nv.Field]:
        names = control.resource_names(fields)
        if not names:
            return control.error_reply(HastError.INVALID)
        reply = await self._commands.run({"command": "status", "resources": names})
        return control.status_reply(reply["resources"])

    async def _set_role(self, fields: nv.Nv) -> list[nv.Field]:
        names = control.resource_names(fields)
        role = control.requested_role(fields)
        if not names or role is None:
            return control.error_reply(HastError.INVALID)
        by_force = role is not Role.PRIMARY  # as the reference does; its hastctl has no word for it
        request = {"command": "role", "role": str(role), "resources": names, "force": by_force}
        reply = await self._commands.run(request)
        return control.role_reply(reply["resources"])

    async def _json(self, client: socket.socket, text: str | None) -> None:
        try:
            request = json.loads(text or "")
        except ValueError as error:
            await self._answer(client, {"error": f"The request is not JSON: {error}."})
            return
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            await self._answer(client, {"error": "The request is not an object with a command."})
            return
        if request["command"] == "events":
            await self._stream_events(client, request)
            return
        await self._answer(client, await self._commands.run(request))

    @staticmethod
    async def _answer(client: socket.socket, reply: dict[str, Any]) -> None:
        text = json.dumps(reply)
        if len(text) > MAX_CONTROL_BODY_BYTES - 1024:
            text = json.dumps({"error": "The reply would be too large; ask for fewer resources."})
        await send_frame(client, [nv.string("json", text)], SEND_DEADLINE_S)

    async def _stream_events(self, client: socket.socket, request: dict[str, Any]) -> None:
        since = request.get("since")
        events = self._commands.events
        subscription = events.subscribe(since if isinstance(since, int) else None)
        loop = asyncio.get_running_loop()
        closed = asyncio.create_task(loop.sock_recv(client, 1))
        try:
            await self._line(client, {"error": None, "seq": events.seq, "pid": os.getpid()})
            while not closed.done():
                following = asyncio.create_task(subscription.next())
                await asyncio.wait((following, closed), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                event = following.result()
                if event is None:
                    await self._line(client, {"error": "Too slow: events were lost. Subscribe again."})
                    return
                await self._line(client, event)
        finally:
            events.unsubscribe(subscription)
            closed.cancel()

    @staticmethod
    async def _line(client: socket.socket, value: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_DEADLINE_S):
                await asyncio.get_running_loop().sock_sendall(client, json.dumps(value).encode() + b"\n")
        except (TimeoutError, OSError) as error:
            raise ConversationError(f"events not taken: {in_words(error)}") from None
