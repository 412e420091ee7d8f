"""hastctl's side of the control socket: one request, one reply, with a deadline (docs/control.md)."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from hast.format import frame, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES, PROTOCOL_VERSION, ControlCommand

CONNECT_S = 5.0
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_OSERR = 71


class ControlError(Exception):
    """hastd could not be asked; `str()` is one line, `exit_code` the sysexits code (section 9.2)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ControlClient:
    """Talks to the hastd behind one control address (a path, or uds:// or unix:// before it)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._path = address.removeprefix("uds://").removeprefix("unix://")

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a JSON command, return its reply. Raises ControlError, also for a reply that is one error."""
        until = time.monotonic() + timeout_s
        with self._send(request) as sock:
            try:
                reply = self._receive(sock, until)
            except TimeoutError:
                raise self._lost(f"no reply within {timeout_s:g} s") from None
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from None
            except ValueError as error:
                raise self._lost(str(error)) from None
        if reply.get("error"):
            raise ControlError(f"Error received from hastd: {reply['error']}", EX_SOFTWARE)
        return reply

    def events(self, since: int | None = None) -> Iterator[dict[str, Any]]:
        """The event stream, first line included, until hastd closes. Raises ControlError."""
        with self._send({"command": "events"} | ({} if since is None else {"since": since})) as sock:
            sock.settimeout(None)
            with sock.makefile("r", encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)

    def _send(self, request: dict[str, Any]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(self._path)
        except (OSError, ValueError) as error:
            sock.close()
            text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            hint = "; is hastd running?" if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) else ""
            raise ControlError(f"Unable to connect to hastd via {self.address}: {text}{hint}", EX_OSERR) from None
        fields = [nv.u8("cmd", ControlCommand.JSON), nv.string("json", json.dumps(request))]
        try:
            sock.sendall(b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, fields)))
        except OSError as error:
            sock.close()
            text = f"Unable to send command to hastd via {self.address}: {error.strerror or error}"
            raise ControlError(text, EX_UNAVAILABLE) from None
        return sock

    def _receive(self, sock: socket.socket, until: float) -> dict[str, Any]:
        decoder = frame.FrameDecoder(MAX_CONTROL_BODY_BYTES, 0)
        while (message := decoder.next()) is None:
            sock.settimeout(max(0.01, until - time.monotonic()))
            piece = sock.recv(1 << 16)
            if not piece:
                raise ValueError(
                    "connection closed; see the log of hastd" if os.geteuid() == 0 else "connection closed"
                )
            decoder.feed(piece)
        text = message.nv.get("json", nv.NvType.STRING)
        reply = json.loads(text if isinstance(text, str) else "")
        if not isinstance(reply, dict):
            raise ValueError("a reply that is no object")
        return reply

    def _lost(self, reason: str) -> ControlError:
        return ControlError(f"cannot receive reply from hastd via {self.address}: {reason}", EX_UNAVAILABLE)
