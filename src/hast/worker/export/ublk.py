"""The ublk queue: serves one block device of the kernel's ublk driver, through io_uring.

The supervisor makes the device (device/attach_ublk.py); this worker opens its channel /dev/ublkcN, as the only process,
and keeps one command for each tag with the kernel: it comes back when the device is asked something. The kernel learns
of this worker's death by the end of the channel, and gives what was not answered to the next worker. Data are copied by
pread and pwrite on the channel, into memory of our own, since a payload lives longer than its request where answers are
given early. A wake-up takes all that is there and submits once; answers of a batch go back in one system call.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable

from hast.daemon.io_uring import Ring
from hast.daemon.logs import in_words
from hast.format import ublk
from hast.format.ublk import QUEUE_DEPTH
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Request
from hast.worker.export.intake import Intake
from hast.worker.export.receive_memory import CHUNK_BYTES, ReceiveMemory, lock_memory
from hast.worker.interfaces import Reactor, Submit
from hast.worker.ring_submit import submit

BATCH_REQUESTS = 64
"""Requests taken in one wake-up before others get their turn."""

log = logging.getLogger(__name__)

_OPERATIONS = {
    int(ublk.Operation.READ): READ,
    int(ublk.Operation.WRITE): WRITE,
    int(ublk.Operation.FLUSH): FLUSH,
    int(ublk.Operation.DISCARD): DELETE,
    int(ublk.Operation.WRITE_ZEROES): ZERO,
}
_FETCH, _COMMIT = int(ublk.QueueCommand.FETCH), int(ublk.QueueCommand.COMMIT_AND_FETCH)


def channel_path(number: int) -> str:
    """Of the device /dev/ublkbN."""
    return f"/dev/ublkc{number}"


def open_channel(number: int) -> int:
    """As the only process; root's. Raises OSError."""
    return os.open(channel_path(number), os.O_RDWR | os.O_CLOEXEC)


class UblkQueue:
    """Front end and client for the one queue of a device, over its open channel, which it takes."""

    def __init__(
        self,
        reactor: Reactor,
        submit: Submit,
        congested: Callable[[], bool],
        size_bytes: int,
        block_size_bytes: int,
        *,
        channel: int,
    ) -> None:
        self._reactor = reactor
        self._submit = submit
        self._size_bytes = size_bytes
        self._block_mask = block_size_bytes - 1
        self._memory = ReceiveMemory()
        self._fd = channel
        self._ring: Ring | None = None
        self._descriptors: mmap.mmap | None = None
        self._waiting: deque[int] = deque()
        """Tags that came and were not taken up yet."""
        self._intake = Intake(reactor, congested, self._go_on)
        self.in_flight = 0
        self.requests = 0
        """Reads, writes, flushes and zeroings received in all."""

    def start(self) -> None:
        """Offer every tag to the kernel. Raises OSError."""
        if not lock_memory():
            log.warning("cannot lock memory; under memory pressure the device may stall")
        size = QUEUE_DEPTH * ublk.DESCRIPTOR.size
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._descriptors = mmap.mmap(self._fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, flags, mmap.PROT_READ)
        self._ring = ring = Ring(QUEUE_DEPTH)
        for tag in range(QUEUE_DEPTH):
            ring.command(self._fd, _FETCH, ublk.IO.pack(0, tag, 0, 0), tag)
        ring.submit()
        self._intake.begin(ring.fd, self._ready)

    def resume(self) -> None:
        """Congestion has ended: go on with what has come."""
        self._intake.resume()

    def _go_on(self) -> None:
        """What came and was not taken up is taken up in the next round."""
        if self._waiting:
            self._reactor.call_soon_threadsafe(lambda: self._ready(0))

    def close(self) -> None:
        """Stop serving; what is not answered waits for the next worker, or fails when the device is taken away."""
        self._intake.end()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._descriptors is not None:
            self._descriptors.close()
            self._descriptors = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def serving(self) -> bool:
        """False before `start`, after `close`, and when the device was taken away."""
        return self._ring is not None

    def status(self) -> dict[str, int | bool]:
        """Figures for the worker's status."""
        return {"serving": self.serving, "in_flight": self.in_flight, "requests": self.requests}

    # -- in

    def _ready(self, _events: int) -> None:
        if self._ring is None or not self._intake.open or self._intake.pause_if_congested():
            return
        if not self._collect(self._ring):
            self._lost()
            return
        batch = self._take_up()
        if batch:
            self.in_flight += len(batch)
            self.requests += len(batch)
            self._submit(batch)
        if not self._intake.pause_if_congested() and self._intake.open:
            self._go_on()

    def _collect(self, ring: Ring) -> bool:
        """Note the tags that came. False when the kernel takes its device back."""
        for tag, result in ring.completions(QUEUE_DEPTH):
            if result != ublk.RESULT_OK:
                return False
            self._waiting.append(tag)
        return True

    def _take_up(self) -> list[Request]:
        """The hot path of the device: descriptors to requests, with the payload of writes."""
        batch: list[Request] = []
        refused: list[tuple[int, int]] = []
        waiting, memory, descriptors = self._waiting, self._memory, self._descriptors
        assert descriptors is not None
        unpack, shift = ublk.DESCRIPTOR.unpack_from, ublk.SECTOR_SHIFT
        entry_bytes, mask, size_bytes = ublk.DESCRIPTOR.size, self._block_mask, self._size_bytes
        for _ in range(min(len(waiting), BATCH_REQUESTS)):
            tag = waiting[0]
            flags, sectors, start, _address = unpack(descriptors, tag * entry_bytes)
            operation = _OPERATIONS.get(flags & ublk.OPERATION_MASK, -1)
            offset, length = (start << shift, sectors << shift) if operation != FLUSH else (0, 0)
            if operation < 0 or (offset | length) & mask or offset + length > size_bytes:
                refused.append((tag, -errno.EOPNOTSUPP if operation < 0 else -errno.EINVAL))
                waiting.popleft()
                continue
            data = None
            if operation == WRITE:
                if CHUNK_BYTES - memory.position < length and not memory.next_chunk():
                    self._intake.wait_for_memory()
                    break
                position = memory.position
                data = memory.view[position : position + length]
                if not self._fetch(tag, data):
                    refused.append((tag, -errno.EIO))
                    waiting.popleft()
                    continue
                memory.position = (position + length + 4095) & -4096
            waiting.popleft()
            fua = operation != READ and bool(flags & ublk.FLAG_FUA)
            batch.append(Request(operation, offset, length, data, self, tag, fua))
        if refused:
            self._answer(refused)
        return batch

    def _fetch(self, tag: int, room: memoryview) -> bool:
        """Copy what a user writes."""
        try:
            return os.preadv(self._fd, (room,), ublk.copy_offset(tag)) == len(room)
        except OSError as error:
            log.error("kernel refuses the data of ublk request %d: %s", tag, in_words(error))
            return False

    def _lost(self) -> None:
        """The device was taken away: nothing more comes from it."""
        log.info("the ublk device is gone")
        self.close()

    # -- out

    def completed(self, batch: list[Request]) -> None:
        """Answer these requests, in one system call."""
        self.in_flight -= len(batch)
        if self._ring is None:
            return
        answers: list[tuple[int, int]] = []
        for request in batch:
            tag, result = request.cookie, -request.error
            if not request.error:
                result = request.length
                if request.op == READ:
                    result = self._hand_out(tag, request)
            answers.append((tag, result))
        self._answer(answers)
        self._intake.something_ended()

    def _hand_out(self, tag: int, request: Request) -> int:
        """Copy what was read to where the kernel wants it; returns the result of the request."""
        assert request.data is not None
        try:
            return os.pwritev(self._fd, (request.data,), ublk.copy_offset(tag))
        except OSError as error:
            log.error("kernel refuses data of ublk request %d: %s", tag, in_words(error))
            return -errno.EIO

    def _answer(self, answers: Iterable[tuple[int, int]]) -> None:
        """Give these tags back with their results, open for the next requests."""
        ring = self._ring
        if ring is None:
            return
        pack, fd = ublk.IO.pack, self._fd
        for tag, result in answers:
            ring.command(fd, _COMMIT, pack(0, tag, result, 0), tag)
        self._submit_answers()

    def _submit_answers(self) -> None:
        if self._ring is not None:
            submit(self._ring, self._reactor, self._submit_answers)
