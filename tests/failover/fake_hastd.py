"""A control socket that answers like hastd's, with roles and devices that are only files or links."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

from hast.format import frame, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES


class FakeHastd:
    """Holds roles, makes DEV/NAME on primary (a link to `backing[name]` or a plain file) and removes it otherwise."""

    def __init__(self, directory: Path, resources: tuple[str, ...]) -> None:
        self.path = directory / "control"
        self.devices = directory / "dev"
        self.devices.mkdir()
        self.roles = dict.fromkeys(resources, "secondary")
        self.backing: dict[str, str] = {}
        self.refusals: dict[str, list[str]] = {}
        self.told: dict[str, Any] = {}
        """Further keys of every status object."""
        self.delay_s = 0.0
        self.with_devices = True
        self.requests: list[dict[str, Any]] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self.path))
        self._server.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        try:
            self._server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self._server.close()
        self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            decoder = frame.FrameDecoder(MAX_CONTROL_BODY_BYTES, 0)
            while (message := decoder.next()) is None:
                block = connection.recv(65536)
                if not block:
                    return
                decoder.feed(block)
            request = json.loads(message.nv.get("json", nv.NvType.STRING) or "{}")
            self.requests.append(request)
            reply = self._handle(request)
            fields = [nv.string("json", json.dumps(reply))]
            try:
                connection.sendall(b"".join(bytes(part) for part in frame.encode(2, fields)))
            except OSError:
                pass

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] == "status":
            rows = [{"name": name, "role": role, "provname": name, **self.told} for name, role in self.roles.items()]
            return {"error": None, "resources": rows}
        time.sleep(self.delay_s)
        rows = [{"name": name, "error": self._change(name, request["role"])} for name in request["resources"]]
        return {"error": None, "resources": rows}

    def _change(self, name: str, role: str) -> str | None:
        if name not in self.roles:
            return f"unknown resource {name}"
        if self.refusals.get(name):
            return self.refusals[name].pop(0)
        self.roles[name] = role
        device = self.devices / name
        device.unlink(missing_ok=True)
        if role == "primary" and self.with_devices:
            if name in self.backing:
                device.symlink_to(self.backing[name])
            else:
                device.touch()
        return None
