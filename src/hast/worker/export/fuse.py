"""The FUSE file: serves one file of the device's size on an inherited /dev/fuse descriptor; a loop device sits on it.

The supervisor opens the descriptor, mounts, and keeps it, so this worker may die and be replaced under a mounted file
system. Therefore nothing here may be remembered from one worker to the next, and the buffers that the kernel copies
into are resident (a page fault while the worker is being killed fails that request upwards). One read(2) yields one
request: a wake-up reads until the descriptor is empty and submits once. May not touch the mount or the loop device.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import struct
from collections.abc import Callable

from hast.daemon.logs import in_words
from hast.format import fuse
from hast.replication.types import FLUSH, READ, WRITE, ZERO, Request
from hast.worker.export.intake import Intake
from hast.worker.export.receive_memory import CHUNK_BYTES, ReceiveMemory, lock_memory
from hast.worker.interfaces import Reactor, Submit

BATCH_REQUESTS = 64
"""Requests read in one wake-up before they are submitted and others get their turn."""

log = logging.getLogger(__name__)

_READ = int(fuse.Opcode.READ)
_WRITE = int(fuse.Opcode.WRITE)
_ZEROING = {
    fuse.FALLOCATE_KEEP_SIZE | fuse.FALLOCATE_PUNCH_HOLE,
    fuse.FALLOCATE_KEEP_SIZE | fuse.FALLOCATE_ZERO_RANGE,
    fuse.FALLOCATE_ZERO_RANGE,
}
"""A loop device sends punch-hole for both discard and write-zeroes, so all of these must leave zeros."""


class FuseFile:
    """Front end and client for the FUSE channel.

    `descriptor` stays the caller's. With `resume`, the kernel is first asked to send again what an earlier worker
    read and did not answer; that worker must be dead and reaped by then, or an acknowledged write could be lost.
    """

    def __init__(
        self,
        reactor: Reactor,
        submit: Submit,
        congested: Callable[[], bool],
        size_bytes: int,
        block_size_bytes: int,
        *,
        descriptor: int,
        resume: bool = False,
    ) -> None:
        self._reactor = reactor
        self._submit = submit
        self._size_bytes = size_bytes
        self._block_mask = block_size_bytes - 1
        self._fd = descriptor
        self._resume = resume
        self._memory = ReceiveMemory()
        header_page = mmap.mmap(-1, fuse.PAGE_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        header_page[0] = 0
        self._header = memoryview(header_page)[: fuse.HOT_IN_SIZE_BYTES]
        self._serving = False
        self._intake = Intake(reactor, congested, lambda: None)
        self.in_flight = 0
        self.requests = 0
        """Reads, writes, flushes and zeroings received in all."""

    def start(self) -> None:
        """Begin to serve. Raises OSError when the descriptor is of no use."""
        if not lock_memory():
            log.warning("cannot lock memory; killing this worker may fail a request of the device")
        os.set_blocking(self._fd, False)
        if self._resume:
            self._ask_resend()
        self._intake.begin(self._fd, self._ready)
        self._serving = True

    def resume(self) -> None:
        """Congestion has ended: read again."""
        self._intake.resume()

    def close(self) -> None:
        """Stop serving; what is in the engine is completed into the void, what comes waits for the next worker."""
        self._intake.end()
        self._serving = False

    @property
    def serving(self) -> bool:
        """False before `start`, after `close`, and when the file was unmounted or its connection aborted."""
        return self._serving

    def status(self) -> dict[str, int | bool]:
        """Figures for the worker's status."""
        return {"serving": self._serving, "in_flight": self.in_flight, "requests": self.requests}

    def _ask_resend(self) -> None:
        try:
            os.write(self._fd, fuse.RESEND_MESSAGE)
        except OSError as error:
            log.error(
                "kernel does not send the device's unanswered requests again (%s); detach the device", in_words(error)
            )

    def _ready(self, _events: int) -> None:
        if self._intake.pause_if_congested():
            return
        batch: list[Request] = []
        self._read_batch(batch)
        if batch:
            self.in_flight += len(batch)
            self.requests += len(batch)
            self._submit(batch)
        self._intake.pause_if_congested()

    def _read_batch(self, batch: list[Request]) -> None:
        """Read until the descriptor is empty, at most BATCH_REQUESTS. The hot path of the device."""
        memory, header, fd = self._memory, self._header, self._fd
        readv, unpack = os.readv, fuse.HOT_IN.unpack_from
        room_bytes = fuse.MAX_WRITE_BYTES + fuse.PAGE_BYTES
        size_bytes, mask, header_bytes = self._size_bytes, self._block_mask, fuse.HOT_IN_SIZE_BYTES
        for _ in range(BATCH_REQUESTS):
            position = memory.position
            if CHUNK_BYTES - position < room_bytes:
                if not memory.next_chunk():
                    self._intake.wait_for_memory()
                    return
                position = 0
            view = memory.view
            try:
                received = readv(fd, (header, view[position : position + room_bytes]))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                self._lost(error)
                return
            _length, opcode, unique, offset, size = unpack(header)
            if opcode == _WRITE:
                whole = size and received == header_bytes + size
                if not whole or (offset | size) & mask or offset + size > size_bytes:
                    self._reply(unique, -errno.EINVAL)
                    continue
                batch.append(Request(WRITE, offset, size, view[position : position + size], self, unique))
                memory.position = (position + size + 4095) & -4096
            elif opcode == _READ:
                if offset + size > size_bytes:
                    size = max(0, size_bytes - offset)
                if (offset | size) & mask:
                    self._reply(unique, -errno.EINVAL)
                elif size:
                    batch.append(Request(READ, offset, size, None, self, unique))
                else:
                    self._reply(unique, 0)
            else:
                self._other(
                    opcode, unique, bytes(view[position : position + max(0, received - header_bytes)]), received, batch
                )

    def _other(self, opcode: int, unique: int, rest: bytes, received: int, batch: list[Request]) -> None:
        """A request that is neither READ nor WRITE: it may have spilled from the header into the payload room."""
        if opcode in fuse.WITHOUT_REPLY:
            return
        body = bytes(self._header[fuse.IN_HEADER.size : received]) + rest
        node = fuse.IN_HEADER.unpack_from(self._header)[3]
        try:
            if opcode == fuse.Opcode.FSYNC:
                batch.append(Request(FLUSH, 0, 0, None, self, unique))
            elif opcode == fuse.Opcode.FALLOCATE:
                self._fallocate(unique, body, batch)
            else:
                self._answer(opcode, unique, node, body)
        except struct.error:
            log.error("FUSE request %d of %d bytes is too short; refused", opcode, received)
            self._reply(unique, -errno.EIO)

    def _fallocate(self, unique: int, body: bytes, batch: list[Request]) -> None:
        _handle, offset, length, mode = fuse.FALLOCATE_IN.unpack_from(body)
        if mode not in _ZEROING:
            self._reply(unique, -errno.EOPNOTSUPP)
        elif (offset | length) & self._block_mask or offset + length > self._size_bytes or not length:
            self._reply(unique, -errno.EINVAL)
        else:
            batch.append(Request(ZERO, offset, length, None, self, unique))

    def _answer(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        """The requests that do not reach the engine. Raises struct.error."""
        size_bytes = self._size_bytes
        if opcode == fuse.Opcode.INIT:
            self._reply(unique, 0, fuse.init_reply(body))
        elif opcode == fuse.Opcode.LOOKUP:
            known = node == fuse.ROOT_NODE and body.rstrip(b"\0") == fuse.FILE_NAME
            self._reply(unique, 0 if known else -errno.ENOENT, fuse.entry_reply(size_bytes) if known else b"")
        elif opcode == fuse.Opcode.GETATTR:
            self._reply(unique, 0, fuse.attributes_reply(node, size_bytes))
        elif opcode == fuse.Opcode.SETATTR:
            valid, _padding, _handle, size = fuse.SETATTR_IN.unpack_from(body)
            if valid & fuse.SETATTR_SIZE and size != size_bytes:
                self._reply(unique, -errno.EPERM)
            else:
                self._reply(unique, 0, fuse.attributes_reply(node, size_bytes))
        elif opcode == fuse.Opcode.OPEN:
            self._reply(unique, 0, fuse.open_reply())
        elif opcode == fuse.Opcode.OPENDIR:
            self._reply(unique, 0, fuse.opendir_reply())
        elif opcode == fuse.Opcode.READDIR:
            self._reply(unique, 0, fuse.readdir_reply(body))
        elif opcode == fuse.Opcode.STATFS:
            self._reply(unique, 0, fuse.statfs_reply(size_bytes))
        else:
            self._reply(unique, 0 if opcode in fuse.ACKNOWLEDGED else -errno.ENOSYS)

    def completed(self, batch: list[Request]) -> None:
        """Answer these requests; the kernel takes one reply a write."""
        self.in_flight -= len(batch)
        if not self._serving:
            return
        fd, write, writev = self._fd, os.write, os.writev
        pack, pack_write = fuse.OUT_HEADER.pack, fuse.WRITE_REPLY.pack
        for request in batch:
            unique, error = request.cookie, request.error
            try:
                if error:
                    write(fd, pack(16, -error, unique))
                elif request.op == WRITE:
                    write(fd, pack_write(24, 0, unique, request.length, 0))
                elif request.op == READ:
                    assert request.data is not None
                    writev(fd, (pack(16 + request.length, 0, unique), request.data))
                else:
                    write(fd, pack(16, 0, unique))
            except OSError as problem:
                self._reply_failed(unique, problem)
        self._intake.something_ended()

    def _reply(self, unique: int, error: int, body: bytes = b"") -> None:
        try:
            os.writev(self._fd, (fuse.OUT_HEADER.pack(16 + len(body), error, unique), body))
        except OSError as problem:
            self._reply_failed(unique, problem)

    def _reply_failed(self, unique: int, problem: OSError) -> None:
        """ENOENT: the kernel no longer waits for it (interrupted, or aborted)."""
        if problem.errno == errno.ENOENT:
            return
        if problem.errno == errno.ENODEV:
            self._lost(problem)
            return
        log.error("kernel refuses the reply to FUSE request %d: %s", unique, problem.strerror)
        try:
            os.write(self._fd, fuse.OUT_HEADER.pack(16, -errno.EIO, unique))
        except OSError:
            pass

    def _lost(self, problem: OSError) -> None:
        """Unmounted or aborted: nothing more comes from this descriptor."""
        if self._serving:
            log.info("FUSE file is gone: %s", problem.strerror)
            self.close()
