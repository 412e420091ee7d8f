"""A worker with memory for a disk, for tests of the front ends: usable as a module, or as a process of its own.

    python ram_worker.py nbd SOCKET SIZE_BYTES [BLOCK_BYTES]
    python ram_worker.py listener DESCRIPTOR DISK_FILE BLOCK_BYTES
    python ram_worker.py fuse DESCRIPTOR DISK_FILE resume|new BLOCK_BYTES
    python ram_worker.py ublk NUMBER DISK_FILE BLOCK_BYTES
The last three keep their disk in a file, so that another process can take over. Prints `ready` and then serves until it
is killed.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hast.replication.types import READ, WRITE, Request
from hast.worker.export.export import NbdExport
from hast.worker.export.fuse import FuseFile
from hast.worker.export.limits import ExportLimits
from hast.worker.reactor import EpollReactor


class RamEngine:
    """Carries requests out on a bytearray, at once, or when told with `hold` and `release`."""

    def __init__(self, size_bytes: int, memory: Any = None) -> None:
        self.memory: Any = bytearray(size_bytes) if memory is None else memory
        self.view = memoryview(self.memory)
        self.batches: list[list[Request]] = []
        self.keep_batches = False
        self.hold = False
        self.is_congested = False
        self.held: list[Request] = []
        self.fail: Callable[[Request], int] | None = None

    def congested(self) -> bool:
        return self.is_congested

    def submit(self, batch: list[Request]) -> None:
        if self.keep_batches:
            self.batches.append(batch)
        if self.hold:
            self.held.extend(batch)
        else:
            self.carry_out(batch)

    def release(self) -> None:
        held, self.held = self.held, []
        self.carry_out(held)

    def carry_out(self, batch: list[Request]) -> None:
        view = self.view
        clients: dict[Any, list[Request]] = {}
        for request in batch:
            start, end = request.offset, request.offset + request.length
            if self.fail is not None:
                request.error = self.fail(request)
            if request.error:
                pass
            elif request.op == WRITE:
                view[start:end] = request.data  # type: ignore[assignment]
            elif request.op == READ:
                request.data = view[start:end]
            elif request.length:
                view[start:end] = bytes(request.length)
            clients.setdefault(request.client, []).append(request)
        for client, requests in clients.items():
            client.completed(requests)


class RamNbd:
    """An export on a Unix socket, its reactor in a thread; `call` runs something in that thread."""

    def __init__(
        self,
        path: Path,
        size_bytes: int = 8 << 20,
        block_bytes: int = 512,
        limits: ExportLimits | None = None,
    ) -> None:
        self.path = path
        self.engine = RamEngine(size_bytes)
        self.reactor = EpollReactor()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        self.export = NbdExport(
            self.reactor,
            self.engine.submit,
            self.engine.congested,
            size_bytes,
            block_bytes,
            name="disk1",
            listeners=[listener],
            limits=limits,
        )
        self.export.start()
        self._thread = threading.Thread(target=self.reactor.run, daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        return f"nbd+unix:///disk1?socket={self.path}"

    def call(self, function: Callable[[], Any]) -> Any:
        done = threading.Event()
        result: list[Any] = []

        def run() -> None:
            result.append(function())
            done.set()

        self.reactor.call_soon_threadsafe(run)
        assert done.wait(10)
        return result[0]

    def stop(self) -> None:
        self.call(self.export.close)
        self.reactor.stop()
        self._thread.join(10)
        self.reactor.close()


def _disk_file(path: str) -> RamEngine:
    size_bytes = os.stat(path).st_size
    with open(path, "r+b") as file:
        return RamEngine(size_bytes, mmap.mmap(file.fileno(), size_bytes))


def _serve_nbd(listener: socket.socket, engine: RamEngine, block_bytes: int) -> None:
    reactor = EpollReactor()
    size_bytes = len(engine.view)
    export = NbdExport(
        reactor, engine.submit, engine.congested, size_bytes, block_bytes, name="disk1", listeners=[listener]
    )
    export.start()
    print("ready", flush=True)
    reactor.run()


def _serve_fuse(descriptor: int, disk_file: str, resume: bool, block_bytes: int) -> None:
    engine = _disk_file(disk_file)
    size_bytes = len(engine.view)
    reactor = EpollReactor()
    front = FuseFile(
        reactor, engine.submit, engine.congested, size_bytes, block_bytes, descriptor=descriptor, resume=resume
    )
    front.start()
    print("ready", flush=True)
    reactor.run()


def _serve_ublk(number: int, engine: RamEngine, block_bytes: int) -> None:
    from hast.worker.export.ublk import UblkQueue, open_channel

    reactor = EpollReactor()
    queue = UblkQueue(
        reactor, engine.submit, engine.congested, len(engine.view), block_bytes, channel=open_channel(number)
    )
    queue.start()
    print("ready", flush=True)
    reactor.run()


def main(arguments: list[str]) -> None:
    kind, where, disk, *rest = arguments
    if kind == "fuse":
        _serve_fuse(int(where), disk, rest[0] == "resume", int(rest[1]))
    elif kind == "ublk":
        _serve_ublk(int(where), _disk_file(disk), int(rest[0]))
    elif kind == "listener":
        _serve_nbd(socket.socket(fileno=int(where)), _disk_file(disk), int(rest[0]))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where)
        listener.listen(64)
        _serve_nbd(listener, RamEngine(int(disk)), int(rest[0]) if rest else 512)


if __name__ == "__main__":
    main(sys.argv[1:])
