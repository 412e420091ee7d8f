"""Real worker processes in a test: starts them as a supervisor does, and plays the listener of a secondary."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hast.config.model import Device, Resource
from hast.format import frame, handshake
from hast.format import metadata as metadata_format
from hast.format.constants import OUR_FEATURES, Role
from hast.format.geometry import Geometry
from hast.worker import messages

DEADLINE_S = 20.0


def create_image(path: Path, resource: str = "disk1", size_bytes: int = 8 * 1024 * 1024, **changes: Any) -> Geometry:
    """A provider as `hastctl create` makes it, with 64 KiB extents."""
    geometry = Geometry(size_bytes, 65536, 512)
    metadata = metadata_format.Metadata(resource, geometry.datasize_bytes, 65536, 4, geometry.offset_bytes, **changes)
    with path.open("wb") as file:
        file.write(metadata_format.encode(metadata))
        file.truncate(size_bytes)
    return geometry


def data_area(path: Path) -> bytes:
    content = path.read_bytes()
    return content[metadata_format.decode(content[:4096]).offset_bytes :]


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {deadline_s} s: {what}")


class Worker:
    """One worker process and the supervisor's end of its socket."""

    def __init__(self, start: dict[str, Any], descriptors: list[int]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hast.worker.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.said: list[dict[str, Any]] = []
        self._next_id = 1
        messages.send(self.control, {"do": "start", "debug": 1, "foreground": True, **start}, descriptors)

    def expect(self, accept: Callable[[dict[str, Any]], bool], deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The first message, also of those already received, that `accept` takes."""
        end = time.monotonic() + deadline_s
        seen = 0
        while True:
            for message in self.said[seen:]:
                if accept(message):
                    return message
            seen = len(self.said)
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.control], [], [], left)[0]:
                raise AssertionError(f"not said within {deadline_s} s; said: {self.said}; log: {self.log()}")
            message, _ = messages.receive(self.control)
            if message is None:
                raise AssertionError(f"the worker ended ({self.process.wait(5)}); said: {self.said}; log: {self.log()}")
            self.said.append(message)

    def expect_ready(self) -> dict[str, Any]:
        return self.expect(lambda message: message.get("say") == "ready")

    def expect_event(self, name: str, count: int = 1) -> dict[str, Any]:
        def enough(_message: dict[str, Any]) -> bool:
            return sum(message.get("name") == name for message in self.said) >= count

        return self.expect(enough)

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        number = self._next_id
        self._next_id += 1
        messages.send(self.control, {"do": do, "id": number, **fields})
        return self.expect(lambda message: message.get("reply") == number)

    def status(self) -> dict[str, Any]:
        status = self.ask("status")["status"]
        assert isinstance(status, dict)
        return status

    def stop(self, deadline_s: float = 10.0) -> int:
        messages.send(self.control, {"do": "stop", "id": 0, "deadline_s": deadline_s})
        return self.process.wait(deadline_s + 5)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.control.close()

    def log(self) -> str:
        """What it wrote so far, once it has ended."""
        if self.process.poll() is None:
            return "(running)"
        assert self.process.stdout is not None
        return self.process.stdout.read() if not self.process.stdout.closed else ""


class SecondaryNode:
    """A node in role secondary: its listener in a thread, one worker per connection pair, as the supervisor does."""

    def __init__(self, image: Path, features: int = int(OUR_FEATURES), **settings: Any) -> None:
        self.image = image
        self.features = features
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp4://127.0.0.1:{self.listener.getsockname()[1]}"
        self.resource = Resource("disk1", "disk1", str(image), (), device=Device.NONE, **settings)
        self.workers: list[Worker] = []
        self.refuse: handshake.HelloReply | None = None
        self._pending: socket.socket | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def worker(self) -> Worker:
        return wait_until(lambda: self.workers and self.workers[-1], "a secondary worker")

    def close(self) -> None:
        self._closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.listener.close()
        for worker in self.workers:
            worker.kill()
        if self._pending is not None:
            self._pending.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            try:
                self._converse(sock)
            except (OSError, ValueError):
                sock.close()

    def _converse(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        message = read_frame(sock)
        first = handshake.read_first(message.nv)
        if isinstance(first, handshake.Hello):
            reply = self.refuse or handshake.HelloReply(2, b"t" * 16, first.features & self.features)
            sock.sendall(b"".join(frame.encode(2, reply.fields())))
            if reply.errmsg:
                sock.close()
                return
            self._end_worker()
            self._pending, self._agreed = sock, reply.features
            return
        assert self._pending is not None
        start = {
            "role": str(Role.SECONDARY),
            "resource": messages.resource_to_json(self.resource),
            "hello": b"".join(frame.encode(2, first.fields()))[frame.HEADER_BYTES :].hex(),
            "version": 2,
            "features": self._agreed,
            "peer": "tester",
        }
        self.workers.append(Worker(start, [self._pending.fileno(), sock.fileno()]))
        self._pending.close()
        self._pending = None
        sock.close()

    def _end_worker(self) -> None:
        if self.workers and self.workers[-1].process.poll() is None:
            try:
                self.workers[-1].stop(5)
            except OSError:
                pass


def read_frame(sock: socket.socket) -> frame.Frame:
    """One whole message from a blocking socket."""
    decoder = frame.FrameDecoder(65536, 64 * 1024 * 1024)
    while (message := decoder.next()) is None:
        data = sock.recv(decoder.needed)
        if not data:
            raise ConnectionResetError("end of stream inside a message")
        decoder.feed(data)
    return message


def start_primary(image: Path, remotes: tuple[str, ...], directory: Path, **settings: Any) -> tuple[Worker, Path]:
    """A primary worker with an NBD socket; returns it and the socket's path."""
    path = directory / f"{os.getpid()}-{time.monotonic_ns()}.nbd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        resource = replace(Resource("disk1", "disk1", str(image), remotes, device=Device.NONE), **settings)
        start = {
            "role": str(Role.PRIMARY),
            "resource": messages.resource_to_json(resource),
            "force": False,
            "resume": False,
        }
        return Worker(start, [listener.fileno()]), path
