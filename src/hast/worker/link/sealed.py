"""One connection of the link under TLS: what an Outbox and a socket are to the rest of the link, over one socket.

The primary's side has two sessions in a row (daemon/tls.py): the first with the supervisor that admits it, the second
with the worker that serves it, bound to the first by the token of message 2. What is sent before a session is ready
waits. The secondary's worker makes its session before anything else happens, within a deadline, and goes on from there.
The worker's session is handed to the kernel after its handshake where that can be (daemon/kernel_tls.py): from then on
the socket is written and read as if it were plain.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple

from hast.config.model import Resource
from hast.daemon import kernel_tls
from hast.daemon.kernel_tls import Handover, KernelSession
from hast.daemon.tls import READ_BYTES, Channel, TlsError, client_context
from hast.format.kernel_tls import MAX_RECORD_BYTES, RECORD_HEADER_BYTES
from hast.replication.types import Buffer
from hast.worker.interfaces import Reactor
from hast.worker.outbox import Outbox

SEAL_BYTES = 256 * 1024
"""How much is encrypted before it is sent."""
WHOLE_BYTES = 16 * 1024
"""What is smaller is gathered into full records; what is not is encrypted where it lies."""
RECEIVE_BYTES = 512 * 1024
_LESS = ("kernel", "kernel-tx", "user")
ROOM_FOR_A_RECORD = RECORD_HEADER_BYTES + MAX_RECORD_BYTES


def binding(connection: str, token: bytes) -> bytes:
    """What the second session of connection "A" or "B" begins with."""
    return b"HAST-" + connection.encode() + token


class _Phase(Enum):
    GREETING = auto()
    """The handshake of the first session."""
    ADMISSION = auto()
    """The first session: the messages that decide whether this connection is wanted."""
    GREETING_WORKER = auto()
    OPEN = auto()


class Session(NamedTuple):
    """What `accept` made."""

    channel: Channel
    kernel: KernelSession | None


class SealedStream:
    """Reads like a non-blocking socket, sends like an Outbox. `failed(reason)` as there."""

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        failed: Callable[[str], None],
        context: ssl.SSLContext | None = None,
        fingerprints: tuple[str, ...] = (),
        session: Session | None = None,
    ) -> None:
        """Either `context` and `fingerprints`, of the side that opened it, or the `session` that `accept` made."""
        self._sock = sock
        self._failed = failed
        self._outbox = Outbox(reactor, sock, failed)
        self._context = context
        self._fingerprints = fingerprints
        self._waiting: list[Buffer] = []
        self._binding = b""
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._phase = _Phase.OPEN
        self._handover: Handover | None = None
        self._kernel: KernelSession | None = None
        if session is not None:
            self._channel, self._kernel = session
            return
        self._greet(_Phase.GREETING)

    def is_with(self, fingerprints: Iterable[str]) -> bool:
        """Whether the other side is one of these, or is not known yet."""
        return not self._channel.established or self._channel.peer in fingerprints

    @property
    def done_in(self) -> str:
        """Who makes the records of the session that carries data: `kernel`, `kernel-tx` (it only sends), `user`; empty
        before there is one."""
        if self._phase is not _Phase.OPEN:
            return ""
        if self._kernel is None:
            return "user"
        return "kernel" if self._kernel.receives else "kernel-tx"

    # -- as an Outbox

    @property
    def queued_bytes(self) -> int:
        return self._outbox.queued_bytes + sum(map(len, self._waiting))

    @property
    def sent_bytes(self) -> int:
        return self._outbox.sent_bytes

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Encrypt and send, or keep until the session is there."""
        if self._phase in (_Phase.GREETING, _Phase.GREETING_WORKER):
            self._waiting += buffers
            return
        if self._kernel is not None:
            self._outbox.send(buffers)
            return
        try:
            self._outbox.send(self._sealed(buffers))
        except TlsError as error:
            self._failed(str(error.strerror))

    def writable(self) -> None:
        self._outbox.writable()

    def watch(self, events: int) -> None:
        self._outbox.watch(events)

    def close(self) -> None:
        """Ends the session in order, if the socket takes that at once."""
        self._waiting.clear()
        if self._handover is not None:
            self._handover.close()
            self._handover = None
        if self._phase is _Phase.OPEN and not self._outbox.queued_bytes:
            self._say_end()
        self._outbox.close()

    # -- as a socket

    def recv(self, most: int) -> bytes:
        """As socket.recv. Raises BlockingIOError, OSError."""
        view = memoryview(bytearray(max(most, 2 * ROOM_FOR_A_RECORD)))
        return bytes(view[: self.recv_into(view)])

    def recv_into(self, view: memoryview) -> int:
        """As socket.recv_into. All that one call took from the socket fits into `view`: epoll tells of the rest.
        Raises BlockingIOError, OSError."""
        if self._kernel is not None and self._kernel.receives:
            return self._kernel.recv_into(view)
        most = min(max(len(view) - ROOM_FOR_A_RECORD, ROOM_FOR_A_RECORD), RECEIVE_BYTES)
        if self._handover is not None:
            most = self._handover.wanted_bytes
        received = self._sock.recv_into(self._buffer, most)
        if not received:
            if self._phase in (_Phase.GREETING, _Phase.GREETING_WORKER):
                raise TlsError(
                    "it ended the connection in the TLS handshake: either it does not know this node's key, "
                    "or it does not speak TLS"
                )
            return 0
        if self._handover is not None:
            self._handover.took(self._buffer[:received])
        self._channel.receive(self._buffer[:received])
        return self._advance(view)

    # -- the two sessions

    def proceed(self, bound_to: bytes) -> None:
        """The conversation with the supervisor is over: when it ends the session, the one with its worker follows."""
        self._binding = bound_to
        if self._phase is not _Phase.ADMISSION or not self._channel.ended:
            return
        try:
            self._begin_again()
        except TlsError as error:
            self._failed(str(error.strerror))

    def _greet(self, phase: _Phase) -> None:
        assert self._context is not None
        self._phase = phase
        self._channel = Channel(self._context, server=False)
        self._outbox.send([self._channel.handshake()])

    def _advance(self, view: memoryview) -> int:
        if self._phase in (_Phase.GREETING, _Phase.GREETING_WORKER):
            self._go_on_greeting()
            if not self._channel.established:
                raise BlockingIOError
        done = self._channel.open_into(view)
        if self._channel.ended and self._phase is _Phase.OPEN:
            return done
        if self._channel.ended and self._binding:
            self._begin_again()
        if not done:
            raise BlockingIOError
        return done

    def _go_on_greeting(self) -> None:
        answer = self._channel.handshake()
        if answer:
            self._outbox.send([answer])
        if not self._channel.established:
            return
        self._channel.require(self._fingerprints)
        waiting, self._waiting = self._waiting, []
        if self._phase is _Phase.GREETING_WORKER:
            waiting.insert(0, self._binding)
            self._phase = _Phase.OPEN
            self._hand_over()
        else:
            self._phase = _Phase.ADMISSION
        if waiting:
            self.send(waiting)

    def _begin_again(self) -> None:
        self._outbox.send([self._channel.end()])
        if not kernel_tls.missing():
            self._context = client_context()
            self._handover = kernel_tls.begin(self._context)
        self._greet(_Phase.GREETING_WORKER)

    def _hand_over(self) -> None:
        """What waits in the outbox is of the handshake, and must not be encrypted again."""
        handover, self._handover = self._handover, None
        if handover is not None:
            with handover:
                if not self._outbox.queued_bytes:
                    self._kernel = handover.give(self._sock, self._channel, server=False)

    def _say_end(self) -> None:
        if self._kernel is not None:
            self._kernel.end()
            return
        with contextlib.suppress(OSError):
            self._sock.send(self._channel.end(), socket.MSG_DONTWAIT)

    def _sealed(self, buffers: Sequence[Buffer]) -> list[bytes]:
        sealed: list[bytes] = []
        pieces: list[Buffer] = []
        small: list[Buffer] = []
        size = 0
        for buffer in buffers:
            if len(buffer) < WHOLE_BYTES:
                small.append(buffer)
            else:
                pieces += [*_joined(small), buffer]
                small = []
            size += len(buffer)
            if size >= SEAL_BYTES:
                sealed.append(self._channel.seal([*pieces, *_joined(small)]))
                pieces, small, size = [], [], 0
        if size:
            sealed.append(self._channel.seal([*pieces, *_joined(small)]))
        return sealed


def _joined(buffers: list[Buffer]) -> list[bytes]:
    return [b"".join(buffers)] if buffers else []


def still_wanted(stream: Outbox | SealedStream | None, resource: Resource) -> bool:
    """Whether a connection may go on under this configuration: it is secured as that says, with a key that it names."""
    if stream is None:
        return True
    if isinstance(stream, SealedStream):
        return resource.is_secured and stream.is_with(resource.peer_fingerprints)
    return not resource.is_secured


def done_in(*connections: Outbox | SealedStream | None) -> str | None:
    """Of all of them the one that the kernel does least for; None without TLS, and while there is no link."""
    words = [each.done_in for each in connections if isinstance(each, SealedStream) and each.done_in]
    return max(words, key=_LESS.index) if len(words) == len(connections) else None


def accept(
    sock: socket.socket, context: ssl.SSLContext, fingerprints: tuple[str, ...], bound_to: bytes, deadline_s: float
) -> Session:
    """The second session, on the side that accepted: waits for it, in a process that has nothing else to do yet, and
    that makes one session with `context` at a time. Raises TlsError, TimeoutError, OSError."""
    until_s = time.monotonic() + deadline_s
    channel = Channel(context, server=True)
    with kernel_tls.begin(context) or contextlib.nullcontext() as handover:
        while not channel.established:
            _receive(sock, channel, until_s, handover)
            try:
                sock.sendall(channel.handshake())
            except TlsError:
                sock.sendall(channel.last_words())
                raise
        channel.require(fingerprints)
        session = Session(channel, handover.give(sock, channel, server=True) if handover is not None else None)
    if not hmac.compare_digest(_begins_with(sock, session, len(bound_to), until_s), bound_to):
        raise TlsError("it does not belong to the connection that was admitted")
    return session


def _begins_with(sock: socket.socket, session: Session, size: int, until_s: float) -> bytes:
    """The first `size` bytes of what the other side says."""
    channel, kernel = session
    told = bytearray(size)
    view = memoryview(told)
    done = 0
    while done < size:
        if kernel is not None and kernel.receives:
            _await(sock, until_s)
            try:
                count = kernel.recv_into(view[done:])
            except BlockingIOError:  # the record is not whole yet
                continue
            ended = not count
        else:
            count = channel.open_into(view[done:])
            ended = channel.ended
            if not count and not ended:
                _receive(sock, channel, until_s)
        done += count
        if ended:
            raise TlsError("it ended the session")
    return bytes(told)


def _receive(sock: socket.socket, channel: Channel, until_s: float, handover: Handover | None = None) -> None:
    _await(sock, until_s)
    data = sock.recv(READ_BYTES if handover is None else handover.wanted_bytes)
    if not data:
        raise TlsError("it closed the connection in the TLS handshake")
    if handover is not None:
        handover.took(data)
    channel.receive(data)


def _await(sock: socket.socket, until_s: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(max(0.0, until_s - time.monotonic()) * 1000):
        raise TimeoutError("no TLS handshake in time")
