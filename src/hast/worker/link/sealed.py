"""One connection of the link under TLS: what an Outbox and a socket are to the rest of the link, over one socket.

The primary's side has two sessions in a row (daemon/tls.py): the first with the supervisor that admits it, the second
with the worker that serves it, bound to the first by the token of message 2. What is sent before a session is ready
waits. The secondary's worker makes its session before anything else happens (admitted.py) and goes on from there.
The worker's session is handed to the kernel after its handshake where that can be (daemon/kernel_tls.py): from then on
the socket is written and read as if it were plain.

Where it stays in user space, another session follows when its keys are used up: the primary ends its direction and
keeps what it has to send, the secondary ends the other one after what it has sent, then both shake hands again. Where
it does not, or the other side does not know of that, the connection fails with CONNECTION_IS_SPENT.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto

from hast.config.model import Resource
from hast.daemon import kernel_tls
from hast.daemon.kernel_tls import Handover, KernelSession
from hast.daemon.tls import RECORD_BYTES, Channel, TlsError, client_context, offer_new_keys
from hast.format.kernel_tls import MAX_RECORD_BYTES, RECORD_HEADER_BYTES
from hast.replication.types import Buffer
from hast.worker.interfaces import Reactor
from hast.worker.link.admitted import Session
from hast.worker.link.decisions.key_use import CONNECTION_IS_SPENT, MAX_RECORDS, are_used_up, have_to_end
from hast.worker.outbox import Outbox

log = logging.getLogger("hast.link")

KEY_RECORDS = int(os.environ.get("HAST_TLS_RECORDS", MAX_RECORDS))
"""Made with one key; tests shorten it."""
SEAL_BYTES = 64 * 1024
"""How much is encrypted before it is sent: the other side opens it while this one encrypts the next."""
WHOLE_BYTES = 16 * 1024
"""What is smaller is gathered into full records; what is not is encrypted where it lies."""
RECEIVE_BYTES = 512 * 1024
_LESS = ("kernel", "kernel-tx", "user")
ROOM_FOR_A_RECORD = RECORD_HEADER_BYTES + MAX_RECORD_BYTES


class _Phase(Enum):
    GREETING = auto()
    """The handshake of the first session."""
    ADMISSION = auto()
    """The first session: the messages that decide whether this connection is wanted."""
    GREETING_WORKER = auto()
    OPEN = auto()
    ENDING = auto()
    """Of the primary: it ended its direction, to change keys; the other one goes on until the secondary ends it."""
    ANSWERING = auto()
    """Of the secondary: both directions are ended, the handshake for the next keys is due."""
    SPENT = auto()
    """The keys are used up and nobody can change them: the owner is told, and is to end it."""


_WAITING = (_Phase.GREETING, _Phase.GREETING_WORKER, _Phase.ENDING, _Phase.ANSWERING, _Phase.SPENT)
"""Nothing can be sent."""


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
        self._kernel_records = 0
        self._peer = ""
        self._bound_by = bytearray()
        self._answers = session is not None
        """Whether the other side is the one that calls."""
        if session is not None:
            self._channel, self._kernel, self._context, self._binding = session
            self._peer = self._channel.peer
            return
        self._greet(_Phase.GREETING)

    def is_with(self, fingerprints: Iterable[str]) -> bool:
        """Whether the other side is one of these, or is not known yet."""
        return not self._channel.established or self._channel.peer in fingerprints

    @property
    def done_in(self) -> str:
        """Who makes the records of the session that carries data: `kernel`, `kernel-tx` (it only sends), `user`; empty
        before there is one."""
        if not self._peer:
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
        if self._phase in _WAITING:
            self._waiting += buffers
            return
        if self._kernel is not None:
            self._outbox.send(buffers)
            self._kernel_records += 1 + sum(map(len, buffers)) // RECORD_BYTES
            self._change_keys_if_due()
            return
        try:
            for part in self._sealed(buffers):
                self._outbox.send([part])
            self._change_keys_if_due()
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
        if self._phase in (_Phase.OPEN, _Phase.SPENT) and not self._outbox.queued_bytes:
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
            if self._phase in (_Phase.GREETING, _Phase.GREETING_WORKER) and not self._peer:
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
        if self._phase is _Phase.ANSWERING and not self._go_on_answering():
            raise BlockingIOError
        done = self._channel.open_into(view)
        if self._channel.ended:
            if self._phase is _Phase.OPEN:
                if not self._answers or not self._channel.takes_new_keys or self._is_closed():
                    return done
                self._answer_again()
            elif self._phase is _Phase.ENDING:
                self._greet(_Phase.GREETING_WORKER)
            elif self._binding:
                self._begin_again()
        else:
            self._change_keys_if_due()
        if not done:
            raise BlockingIOError
        return done

    def _go_on_greeting(self) -> None:
        answer = self._channel.handshake()
        if answer:
            self._outbox.send([answer])
        if not self._channel.established:
            return
        self._channel.require((self._peer,) if self._peer else self._fingerprints)
        if self._phase is _Phase.GREETING_WORKER:
            self._waiting.insert(0, self._binding)
            self._phase = _Phase.OPEN
            self._peer = self._channel.peer
            self._hand_over()
        else:
            self._phase = _Phase.ADMISSION
        self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.send(waiting)

    def _begin_again(self) -> None:
        self._outbox.send([self._channel.end()])
        assert self._context is not None
        if kernel_tls.missing():
            offer_new_keys(self._context)
        else:
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

    # -- the next keys

    def _change_keys_if_due(self) -> None:
        if self._phase is not _Phase.OPEN:
            return
        channel = self._channel
        sealed_records = channel.sealed_records + self._kernel_records
        if self._kernel is None and channel.takes_new_keys:
            if not self._answers and are_used_up(sealed_records, channel.opened_records, KEY_RECORDS):
                self._phase = _Phase.ENDING
                self._outbox.send([channel.end()])
                log.info("The keys of a connection to the peer are used up; others follow.")
            return
        if self._answers:
            spent = have_to_end(sealed_records, KEY_RECORDS)
        else:
            spent = are_used_up(sealed_records, channel.opened_records, KEY_RECORDS)
        if spent:
            self._phase = _Phase.SPENT
            self._failed(CONNECTION_IS_SPENT)

    def _answer_again(self) -> None:
        """The primary ended its direction. If it does so for good, the end of the connection follows."""
        assert self._context is not None
        self._outbox.send([self._channel.end()])
        self._channel = Channel(self._context, server=True)
        self._bound_by.clear()
        self._phase = _Phase.ANSWERING

    def _is_closed(self) -> bool:
        """Whether the other side has ended the connection, too."""
        try:
            return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _go_on_answering(self) -> bool:
        """Whether the next session is open: with the same node, and on the same connection."""
        if not self._channel.established:
            self._shake_hands()
            if not self._channel.established:
                return False
            self._channel.require((self._peer,))
        told = memoryview(bytearray(len(self._binding) - len(self._bound_by)))
        self._bound_by += told[: self._channel.open_into(told)]
        if len(self._bound_by) < len(self._binding):
            return False
        if not hmac.compare_digest(self._bound_by, self._binding):
            raise TlsError("the session does not belong to this connection")
        self._phase = _Phase.OPEN
        self._send_waiting()
        return True

    def _shake_hands(self) -> None:
        try:
            answer = self._channel.handshake()
        except TlsError:
            self._outbox.send([self._channel.last_words()])
            raise
        if answer:
            self._outbox.send([answer])

    def _say_end(self) -> None:
        if self._kernel is not None:
            self._kernel.end()
            return
        with contextlib.suppress(OSError):
            self._sock.send(self._channel.end(), socket.MSG_DONTWAIT)

    def _sealed(self, buffers: Sequence[Buffer]) -> Iterator[bytes]:
        """Ciphertext in parts of about SEAL_BYTES."""
        small: list[Buffer] = []
        size = 0
        for buffer in buffers:
            if len(buffer) < WHOLE_BYTES:
                small.append(buffer)
                size += len(buffer)
                if size >= SEAL_BYTES:
                    yield self._channel.seal(_joined(small))
                    small, size = [], 0
                continue
            pieces: list[Buffer] = [*_joined(small)]
            small, size = [], 0
            view = memoryview(buffer)
            for start in range(0, len(buffer), SEAL_BYTES):
                yield self._channel.seal([*pieces, view[start : start + SEAL_BYTES]])
                pieces = []
        if small:
            yield self._channel.seal(_joined(small))


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
