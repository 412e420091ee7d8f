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
        """Send a JSON command, return its reply. Raises ControlError, also for a reply that is one error.

        A hastd that speaks the reference's messages only, FreeBSD's, is asked again in those.
        """
        until = time.monotonic() + timeout_s
        fields = self._exchange(_json_fields(request), until, timeout_s)
        text = fields.get("json", nv.NvType.STRING)
        if text is None:
            return self._ask_reference(request, until, timeout_s)
        try:
            reply = json.loads(text)
        except ValueError as error:
            raise self._lost(str(error)) from None
        if not isinstance(reply, dict):
            raise self._lost("a reply that is no object")
        if reply.get("error"):
            raise ControlError(f"Error received from hastd: {reply['error']}", EX_SOFTWARE)
        return reply

    def _ask_reference(self, request: dict[str, Any], until: float, timeout_s: float) -> dict[str, Any]:
        from hast.cli import reference
        from hast.format import control

        try:
            asked = reference.request(request)
        except reference.NotSpoken as error:
            raise self._not_spoken(str(error)) from None
        try:
            return reference.reply(request, self._exchange(asked, until, timeout_s))
        except control.ControlError as error:
            raise ControlError(str(error), EX_SOFTWARE) from None

    def events(self, since: int | None = None) -> Iterator[dict[str, Any]]:
        """The event stream, first line included, until hastd closes. Raises ControlError."""
        with self._send(_json_fields({"command": "events"} | ({} if since is None else {"since": since}))) as sock:
            sock.settimeout(None)
            with sock.makefile("rb") as lines:
                try:
                    for line in lines:
                        if not line.startswith(b"{"):
                            raise self._not_spoken("events")
                        yield json.loads(line)
                except OSError as error:
                    raise self._lost(error.strerror or str(error)) from None
                except ValueError as error:
                    raise self._lost(str(error)) from None

    def _exchange(self, fields: list[nv.Field], until: float, timeout_s: float) -> nv.Nv:
        """One message there, one back. Raises ControlError."""
        with self._send(fields) as sock:
            try:
                return self._receive(sock, until)
            except TimeoutError:
                raise self._lost(f"no reply within {timeout_s:g} s") from None
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from None
            except ValueError as error:
                raise self._lost(str(error)) from None

    def _send(self, fields: list[nv.Field]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(self._path)
        except (OSError, ValueError) as error:
            sock.close()
            text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            hint = "; is hastd running?" if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) else ""
            raise ControlError(f"Unable to connect to hastd via {self.address}: {text}{hint}", EX_OSERR) from None
        try:
            sock.sendall(b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, fields)))
        except OSError as error:
            sock.close()
            text = f"Unable to send command to hastd via {self.address}: {error.strerror or error}"
            raise ControlError(text, EX_UNAVAILABLE) from None
        return sock

    def _receive(self, sock: socket.socket, until: float) -> nv.Nv:
        decoder = frame.FrameDecoder(MAX_CONTROL_BODY_BYTES, 0)
        while (message := decoder.next()) is None:
            sock.settimeout(max(0.01, until - time.monotonic()))
            piece = sock.recv(1 << 16)
            if not piece:
                raise ValueError(
                    "connection closed; see the log of hastd" if os.geteuid() == 0 else "connection closed"
                )
            decoder.feed(piece)
        return message.nv

    def _lost(self, reason: str) -> ControlError:
        return ControlError(f"cannot receive reply from hastd via {self.address}: {reason}", EX_UNAVAILABLE)

    def _not_spoken(self, command: str) -> ControlError:
        from hast.cli.reference import SPOKEN

        text = f"hastd via {self.address} is not ours and does not know {command}: {SPOKEN}."
        return ControlError(text, EX_UNAVAILABLE)


def _json_fields(request: dict[str, Any]) -> list[nv.Field]:
    return [nv.u8("cmd", ControlCommand.JSON), nv.string("json", json.dumps(request))]
