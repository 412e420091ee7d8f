"""A small client of hastd's control socket (docs/control.md): JSON in, JSON out, with a deadline.

One request and one reply per connection. Never waits past `timeout_s`, whatever the other side does.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from hast.format import frame, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES

JSON_COMMAND = 64
CONTROL_VERSION = 2
CONNECT_S = 5.0
POLL_S = 0.1
GRACE_S = 2.0
"""What a request may take longer than the time given to hastd for it."""


class HastdError(Exception):
    """hastd did not do what was asked. `str()` is one line; `code` as in docs/control.md, 0 where there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class HastdAbsent(HastdError):
    """Nobody listens on the control socket."""


class Abandoned(Exception):
    """The caller no longer wants the answer; hastd goes on with what was asked."""


class Hastd:
    """Talks to the daemon behind one control address (a path, or uds:// or unix:// before it)."""

    def __init__(self, control: str) -> None:
        self.path = control.removeprefix("uds://").removeprefix("unix://")

    def roles(self, timeout_s: float) -> dict[str, dict[str, Any]]:
        """Every resource of this host by name, as its object of the status reply. Raises HastdError."""
        reply = self.ask({"command": "status", "resources": ["all"]}, timeout_s)
        resources = reply.get("resources")
        if not isinstance(resources, list):
            raise HastdError(f"hastd at {self.path} sent a status without resources")
        return {str(entry.get("name")): entry for entry in resources if isinstance(entry, dict)}

    def set_role(self, resource: str, role: str, timeout_s: float, abandon: Callable[[], bool] = lambda: False) -> None:
        """Ask for a role and wait until the resource has it. Raises HastdError with hastd's reason, Abandoned."""
        request = {"command": "role", "role": role, "resources": [resource], "wait": True}
        request["force"] = role != "primary"  # its users were stopped as far as that was possible
        reply = self.ask({**request, "timeout_s": max(1.0, timeout_s - 0.5)}, timeout_s, abandon)
        for entry in reply.get("resources") or ():
            if isinstance(entry, dict) and entry.get("error"):
                code = entry.get("code")
                raise HastdError(str(entry["error"]), code if isinstance(code, int) else 0)

    def ask(
        self, request: dict[str, Any], timeout_s: float, abandon: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """Send one request and return its reply. Raises HastdError, HastdAbsent; Abandoned once `abandon()` is true."""
        until = time.monotonic() + timeout_s + GRACE_S
        with self.connect(min(CONNECT_S, timeout_s + GRACE_S)) as connection:
            try:
                connection.sendall(encode_request(request))
                return self._reply(connection, until, abandon)
            except TimeoutError:
                raise HastdError(f"hastd at {self.path} did not answer within {timeout_s + GRACE_S:.0f} s") from None
            except OSError as error:
                raise HastdError(f"hastd at {self.path} broke the connection: {error.strerror}") from None
            except ValueError as error:
                raise HastdError(f"hastd at {self.path} sent what is no reply: {error}") from None

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection to the control socket. Raises HastdAbsent, HastdError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise HastdAbsent(f"hastd does not run here (nobody listens on {self.path}); start it") from None
        except (OSError, ValueError) as error:
            connection.close()
            raise HastdError(f"hastd at {self.path} cannot be reached: {error}") from None
        return connection

    def _reply(self, connection: socket.socket, until: float, abandon: Callable[[], bool]) -> dict[str, Any]:
        decoder = frame.FrameDecoder(MAX_CONTROL_BODY_BYTES, 0)
        while (message := decoder.next()) is None:
            left_s = until - time.monotonic()
            connection.settimeout(max(0.01, min(left_s, POLL_S)))
            try:
                block = connection.recv(65536)
            except TimeoutError:
                if abandon():
                    raise Abandoned from None
                if left_s <= 0:
                    raise
                continue
            if not block:
                raise ValueError("the connection ended early")
            decoder.feed(block)
        return _checked(message.nv)


def encode_request(request: dict[str, Any]) -> bytes:
    """A JSON request as the bytes that go to the control socket."""
    fields = [nv.u8("cmd", JSON_COMMAND), nv.string("json", json.dumps(request))]
    return b"".join(bytes(part) for part in _parts(fields))


def _parts(fields: Iterable[nv.Field]) -> Iterable[nv.Buffer]:
    return frame.encode(CONTROL_VERSION, fields)


def _checked(fields: nv.Nv) -> dict[str, Any]:
    text = fields.get("json", nv.NvType.STRING)
    if text is None:
        raise HastdError(f"hastd refused the request (error {fields.get('error', nv.NvType.INT16)})")
    reply = json.loads(text)
    if not isinstance(reply, dict):
        raise ValueError("a reply that is no object")
    if reply.get("error"):
        raise HastdError(str(reply["error"]))
    return reply
