"""The FUSE file over a socket pair in place of /dev/fuse: exact structures, batches, limits, and what it refuses."""

from __future__ import annotations

import errno
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from ram_worker import RamEngine

from hast.replication.types import FLUSH, READ, WRITE, ZERO
from hast.worker.export.fuse import FuseFile
from hast.worker.export.receive_memory import CHUNK_BYTES, MAX_CHUNKS, ReceiveMemory
from hast.worker.reactor import CallTimer, EpollReactor

SIZE = 8 << 20
LOOKUP, GETATTR, SETATTR, OPEN, RELEASE, FSYNC, GETXATTR, INIT = 1, 3, 4, 14, 18, 20, 22, 26
OPENDIR, READDIR, STATFS, FALLOCATE, FORGET = 27, 28, 17, 43, 2


class Timers:
    """A reactor that only notes what is to be called later."""

    def __init__(self, reactor: EpollReactor) -> None:
        self.noted: list[float] = []
        self.now, self.add, self.modify, self.remove = reactor.now, reactor.add, reactor.modify, reactor.remove
        self.call_soon_threadsafe, self.run, self.stop = reactor.call_soon_threadsafe, reactor.run, reactor.stop

    def call_at(self, when_s: float, callback: Callable[[], None]) -> CallTimer:
        self.noted.append(when_s)
        return CallTimer(when_s, callback)


class Kernel:
    """The kernel's end: one packet is one read(2) of the server, as on /dev/fuse."""

    def __init__(self, resume: bool = False, block_bytes: int = 512) -> None:
        self.sock, self._served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (self.sock, self._served):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.sock.setblocking(False)
        self.reactor = EpollReactor(poll_window_s=0)
        self.engine = RamEngine(SIZE)
        self.engine.keep_batches = True
        self.timers = Timers(self.reactor)
        self.front = FuseFile(
            self.timers,
            self.engine.submit,
            self.engine.congested,
            SIZE,
            block_bytes,
            descriptor=self._served.fileno(),
            resume=resume,
        )
        self.front.start()

    def send(self, opcode: int, unique: int, body: bytes = b"", node: int = 2) -> None:
        header = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, node, 0, 0, 0, 0, 0)
        self.sock.send(header + body)

    def write(self, unique: int, offset: int, data: bytes) -> None:
        self.send(16, unique, struct.pack("=QQIIQII", 5, offset, len(data), 0, 0, 0, 0) + data)

    def read(self, unique: int, offset: int, size: int) -> None:
        self.send(15, unique, struct.pack("=QQIIQII", 5, offset, size, 0, 0, 0, 0))

    def serve(self) -> None:
        """One wake-up of the server, if there is anything."""
        if self.front._intake.open and select.select([self._served], [], [], 0)[0]:
            self.front._ready(select.EPOLLIN)

    def reply(self) -> tuple[int, int, bytes]:
        """(errno, unique, body) of the next reply."""
        data = self.sock.recv(2 << 20)
        length, error, unique = struct.unpack_from("=IiQ", data)
        assert length == len(data)
        return -error, unique, data[16:]

    def call(self, opcode: int, body: bytes = b"", node: int = 2) -> tuple[int, bytes]:
        self.send(opcode, 99, body, node)
        self.serve()
        error, unique, answer = self.reply()
        assert unique == 99
        return error, answer

    def close(self) -> None:
        self.front.close()
        self.reactor.close()
        self.sock.close()
        self._served.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


def init_body(flags: int) -> bytes:
    return struct.pack("=IIIII", 7, 45, 1 << 17, flags & 0xFFFFFFFF, flags >> 32) + bytes(44)


def test_init_negotiates_resend_and_large_requests(kernel: Kernel) -> None:
    error, body = kernel.call(INIT, init_body(2**64 - 1), node=0)
    assert (error, len(body)) == (0, 64)
    major, minor, _ahead, flags, background, congestion, max_write = struct.unpack_from("=IIIIHHI", body)
    flags2 = struct.unpack_from("=I", body, 32)[0]
    assert (major, minor, max_write) == (7, 31, 1 << 20)
    assert struct.unpack_from("=H", body, 28)[0] == 256
    assert flags & (1 << 30)
    assert flags2 & (1 << 7)
    assert (background, congestion) == (64, 48)


def test_init_takes_only_what_an_old_kernel_offers(kernel: Kernel) -> None:
    _error, body = kernel.call(INIT, struct.pack("=IIII", 7, 26, 0, 1 << 5), node=0)
    assert struct.unpack_from("=I", body, 12)[0] == 1 << 5
    assert struct.unpack_from("=I", body, 32)[0] == 0


def test_the_directory_holds_one_file_of_the_devices_size(kernel: Kernel) -> None:
    error, entry = kernel.call(LOOKUP, b"disk\0", node=1)
    assert error == 0
    assert struct.unpack_from("=Q", entry)[0] == 2
    assert struct.unpack_from("=QQ", entry, 40) == (2, SIZE)
    assert kernel.call(LOOKUP, b"other\0", node=1) == (errno.ENOENT, b"")
    _error, listing = kernel.call(READDIR, struct.pack("=QQIIQII", 6, 0, 4096, 0, 0, 0, 0), node=1)
    assert b"disk" in listing
    assert kernel.call(READDIR, struct.pack("=QQIIQII", 6, 1, 4096, 0, 0, 0, 0), node=1) == (0, b"")
    for opcode in (OPEN, OPENDIR, STATFS, RELEASE):
        assert kernel.call(opcode, bytes(24))[0] == 0


def test_handles_and_attributes_are_the_same_for_every_worker() -> None:
    answers = []
    for _ in range(2):
        kernel = Kernel()
        requests = [(INIT, init_body(2**64 - 1)), (OPEN, bytes(8)), (OPENDIR, bytes(8)), (GETATTR, bytes(16))]
        answers.append([kernel.call(opcode, body) for opcode, body in requests])
        kernel.close()
    assert answers[0] == answers[1]


def test_size_cannot_be_changed_but_other_attributes_are_accepted(kernel: Kernel) -> None:
    assert kernel.call(SETATTR, struct.pack("=IIQQ", 8, 0, 5, 0) + bytes(64))[0] == errno.EPERM
    assert kernel.call(SETATTR, struct.pack("=IIQQ", 8, 0, 5, SIZE) + bytes(64))[0] == 0
    assert kernel.call(SETATTR, struct.pack("=IIQQ", 1, 0, 0, 0) + bytes(64))[0] == 0


def test_unknown_requests_get_enosys_and_silent_ones_nothing(kernel: Kernel) -> None:
    assert kernel.call(GETXATTR, bytes(8) + b"security.capability\0") == (errno.ENOSYS, b"")
    kernel.send(FORGET, 5, bytes(8))
    kernel.serve()
    with pytest.raises(BlockingIOError):
        kernel.reply()


def test_what_waits_is_read_at_once_and_submitted_as_one_batch(kernel: Kernel) -> None:
    for index in range(20):
        kernel.write(100 + index, index * 4096, bytes([index]) * 4096)
    kernel.read(200, 0, 4096)
    kernel.send(FSYNC, 201, bytes(16))
    kernel.send(FALLOCATE, 202, struct.pack("=QQQII", 5, 4096, 8192, 3, 0))
    kernel.serve()
    (batch,) = kernel.engine.batches
    assert [request.op for request in batch] == [WRITE] * 20 + [READ, FLUSH, ZERO]
    replies = [kernel.reply() for _ in range(23)]
    assert replies[0] == (0, 100, struct.pack("=II", 4096, 0))
    assert replies[20] == (0, 200, b"\0" * 4096)
    assert replies[21:] == [(0, 201, b""), (0, 202, b"")]
    assert kernel.engine.memory[4096:12288] == bytes(8192)
    assert kernel.engine.memory[12288] == 3


def test_resent_requests_are_answered_with_their_unique_unchanged(kernel: Kernel) -> None:
    unique = 1 << 63 | 4242
    kernel.write(unique, 0, b"r" * 512)
    kernel.serve()
    assert kernel.reply()[:2] == (0, unique)


def test_a_replacement_asks_for_what_was_not_answered() -> None:
    kernel = Kernel(resume=True)
    assert kernel.sock.recv(100) == struct.pack("=IiQ", 16, 7, 0)
    kernel.close()


@pytest.mark.parametrize("mode", [3, 16, 17])
def test_punching_and_zeroing_leave_zeros(kernel: Kernel, mode: int) -> None:
    assert kernel.call(FALLOCATE, struct.pack("=QQQII", 5, 0, 4096, mode, 0))[0] == 0
    assert kernel.engine.batches[0][0].op == ZERO


def test_other_fallocate_modes_are_not_supported(kernel: Kernel) -> None:
    for mode in (0, 1, 2, 8, 32):
        assert kernel.call(FALLOCATE, struct.pack("=QQQII", 5, 0, 4096, mode, 0))[0] == errno.EOPNOTSUPP


def test_unaligned_and_outside_requests_are_refused(kernel: Kernel) -> None:
    for offset, data in ((1, b"x" * 512), (0, b"x" * 100), (SIZE, b"x" * 512), (0, b"")):
        kernel.write(1, offset, data)
        kernel.serve()
        assert kernel.reply()[0] == errno.EINVAL
    kernel.read(2, 100, 512)
    kernel.serve()
    assert kernel.reply()[0] == errno.EINVAL
    assert kernel.call(FALLOCATE, struct.pack("=QQQII", 5, SIZE, 4096, 3, 0))[0] == errno.EINVAL
    assert kernel.engine.batches == []


def test_reads_end_at_the_end_of_the_device(kernel: Kernel) -> None:
    kernel.read(1, SIZE - 512, 4096)
    kernel.read(2, SIZE, 4096)
    kernel.serve()
    replies = sorted(kernel.reply() for _ in range(2))
    assert [(error, unique, len(body)) for error, unique, body in replies] == [(0, 1, 512), (0, 2, 0)]


def test_errors_of_the_engine_are_passed_on(kernel: Kernel) -> None:
    kernel.engine.fail = lambda _request: errno.EIO
    kernel.write(1, 0, b"x" * 512)
    kernel.read(2, 0, 512)
    kernel.serve()
    assert [kernel.reply(), kernel.reply()] == [(errno.EIO, 1, b""), (errno.EIO, 2, b"")]


def test_requests_cut_short_are_refused_not_believed(kernel: Kernel) -> None:
    assert kernel.call(FALLOCATE, b"\0" * 4)[0] == errno.EIO
    kernel.send(16, 7, struct.pack("=QQIIQII", 5, 0, 4096, 0, 0, 0, 0) + b"x" * 512)
    kernel.serve()
    assert kernel.reply()[:2] == (errno.EINVAL, 7)


def test_congestion_stops_reading_and_resume_goes_on(kernel: Kernel) -> None:
    kernel.engine.is_congested = True
    kernel.write(1, 0, b"x" * 512)
    kernel.serve()
    kernel.serve()
    assert kernel.engine.batches == []
    kernel.engine.is_congested = False
    kernel.front.resume()
    kernel.serve()
    assert kernel.reply()[:2] == (0, 1)


def test_with_all_memory_in_use_reading_waits_for_completions(kernel: Kernel) -> None:
    kernel.engine.keep_batches = False
    kernel.engine.hold = True
    sent = 0
    while not kernel.timers.noted:
        kernel.write(sent, 0, bytes([sent % 256]) * (1 << 20))
        sent += 1
        kernel.serve()
        assert sent <= MAX_CHUNKS * CHUNK_BYTES // (1 << 20)
    held = len(kernel.engine.held)
    assert [bytes(request.data[:1]) for request in kernel.engine.held] == [bytes([index]) for index in range(held)]
    kernel.engine.release()
    for _ in range(3):
        kernel.serve()
    assert kernel.engine.held or sent == held
    kernel.engine.release()
    assert kernel.front.in_flight == 0


def test_receive_memory_is_reused_when_its_last_view_is_gone_and_not_before() -> None:
    memory = ReceiveMemory()
    first = memory.view[:10]
    first[:] = b"0123456789"
    chunks = set()
    for _ in range(20):
        assert memory.next_chunk()
        chunks.add(id(memory.view.obj))
        memory.view[:10] = b"##########"
    assert len(chunks) == 2
    assert bytes(first) == b"0123456789"


def test_receive_memory_that_is_only_named_somewhere_is_reused() -> None:
    memory = ReceiveMemory()
    named = memory.view.obj
    for _ in range(2):
        assert memory.next_chunk()
    assert memory.view.obj is named
    assert len(memory.view) == CHUNK_BYTES


def test_close_leaves_the_descriptor_to_its_owner_and_answers_nothing(kernel: Kernel) -> None:
    kernel.engine.hold = True
    kernel.write(1, 0, b"x" * 512)
    kernel.serve()
    kernel.front.close()
    kernel.engine.release()
    with pytest.raises(BlockingIOError):
        kernel.reply()
    kernel.write(2, 0, b"x" * 512)
    assert kernel._served.recv(100)[:4] == struct.pack("=I", 40 + 40 + 512)


RESIDENT = """
import re
from hast.worker.export.receive_memory import CHUNK_BYTES, ReceiveMemory, lock_memory
locked = lock_memory()
memory = ReceiveMemory()
views = [memory.view]
memory.next_chunk()
views.append(memory.view)
maps = re.findall(r"/dev/zero.*?Size: +(\\d+) kB.*?Rss: +(\\d+) kB", open("/proc/self/smaps").read(), re.DOTALL)
print(locked, *[rss for size, rss in maps if int(size) * 1024 >= CHUNK_BYTES])
"""


def test_receive_memory_is_resident_whether_it_is_taken_before_or_after_memory_is_locked() -> None:
    """A page that is touched for the first time by the read of a worker that is being killed fails that request."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, timeout=30, check=True)
    locked, *resident_kib = done.stdout.split()
    if locked != "True":
        pytest.skip("memory cannot be locked here")
    assert sum(map(int, resident_kib)) == 2 * CHUNK_BYTES // 1024
