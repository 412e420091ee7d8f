"""The control socket of a FreeBSD hastd, as far as a client can tell: reference messages only (section 9.5).

One request and one reply per connection. What it does not know is refused by number: a request that names no resource
with 2 whatever its command, an unknown command with 4, an unknown resource with 1.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

from hast.format import control, frame, nv
from hast.format.constants import PROTOCOL_VERSION, ControlCommand, HastError, Role

STATISTICS = ("reads", "writes", "deletes", "flushes", "activemap_updates")
ERRORS = ("read_errors", "write_errors", "delete_errors", "flush_errors")


def resource(name: str, **changes: Any) -> dict[str, Any]:
    """A primary that is connected."""
    return {
        "name": name,
        "error": None,
        "role": "primary",
        "provname": name,
        "localpath": "/dev/da0",
        "remoteaddr": "tcp4://10.0.0.2",
        "replication": "memsync",
        "checksum": "none",
        "compression": "hole",
        "status": "complete",
        "workerpid": 1234,
        "dirty": 4194304,
        "extentsize": 2097152,
        "keepdirty": 64,
        "statistics": dict.fromkeys((*STATISTICS, *ERRORS), 3),
        "queues": dict.fromkeys(("idle", "local", "send", "recv", "done"), 0),
    } | changes


class ReferenceHastd:
    """Listens on `path` until closed. `recorded` (message bytes) is the answer to every status request, if given."""

    def __init__(self, path: Path, resources: list[dict[str, Any]], recorded: bytes = b"") -> None:
        self.resources = {entry["name"]: entry for entry in resources}
        self.unknown_command = int(HastError.UNIMPLEMENTED)
        self.global_error = 0
        self._recorded = recorded
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(str(path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(5)

    def __enter__(self) -> ReferenceHastd:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._sock.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        decoder = frame.FrameDecoder(1 << 20, 0)
        while (message := decoder.next()) is None:
            piece = client.recv(4096)
            if not piece:
                return
            decoder.feed(piece)
        command = message.nv.get("cmd", nv.NvType.UINT8)
        if not command:
            return
        if command == ControlCommand.STATUS and self._recorded:
            client.sendall(self._recorded)
            return
        fields = self._answer(command, message.nv)
        client.sendall(b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, fields)))

    def _answer(self, command: int, fields: nv.Nv) -> list[nv.Field]:
        names, role = control.resource_names(fields), control.requested_role(fields)
        if not names or (command == ControlCommand.SETROLE and role is None):
            return control.error_reply(HastError.INVALID)
        if command not in (ControlCommand.SETROLE, ControlCommand.STATUS):
            return control.error_reply(self.unknown_command)
        if self.global_error:
            return control.error_reply(self.global_error)
        wanted = list(self.resources) if names[0] == "all" else names
        unknown = {"error": "not configured", "code": int(HastError.NOENTRY)}
        if role is None or command == ControlCommand.STATUS:
            return control.status_reply([self.resources.get(name, unknown | {"name": name}) for name in wanted])
        return control.role_reply(
            [self._change(name, role) if name in self.resources else unknown | {"name": name} for name in wanted]
        )

    def _change(self, name: str, role: Role) -> dict[str, Any]:
        previous, self.resources[name]["role"] = self.resources[name]["role"], str(role)
        return {"name": name, "error": None, "previous": previous}
