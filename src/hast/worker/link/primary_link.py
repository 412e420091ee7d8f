"""The primary's side of the two connections to the peer: opening, handshake, requests out, replies in, trying again.

Every step has a deadline. Decides nothing about data: what is said in the handshake comes from the engine and from
`PrimaryHandshake`; this file moves bytes and keeps time. Connection A carries requests, B replies (section 4).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple, Protocol

from hast.config.model import Resource
from hast.daemon.tls import TlsError, client_context
from hast.format.constants import MAX_BODY_BYTES, MAX_DATA_BYTES
from hast.format.frame import Frame, FrameDecoder, FrameError
from hast.format.handshake import HandshakeError
from hast.format.reply import ReplyDecoder
from hast.format.request import encode_requests
from hast.replication.core import MAP_OFFSET_BYTES
from hast.replication.handshake import PeerChanges, Refused
from hast.replication.splitbrain import Changes
from hast.replication.types import Metadata, Peer, WireReply, WireRequest
from hast.worker.buffers import ReceiveBuffer, Source
from hast.worker.interfaces import Reactor, Timer
from hast.worker.link.decisions.key_use import CONNECTION_IS_SPENT
from hast.worker.link.dial import Dialer, tune
from hast.worker.link.peer_handshake import PeerHandshake
from hast.worker.link.sealed import SealedStream, done_in, still_wanted
from hast.worker.outbox import Outbox

log = logging.getLogger("hast.link")

RECONNECT_S = float(os.environ.get("HAST_RECONNECT_S", "10"))
"""Between two attempts at a peer that answers and says no; tests shorten it."""
QUICK_RETRY_S = 1.0
QUICK_RETRIES = 10
IDLE_RETRY_S = 2.0
"""A peer that has no role yet has just started, most likely."""
HURRIED_RETRY_S = 0.2
HURRIED_ROUNDS = 2
"""How often each remote address is dialled within the time given by `hurry_s`: one lost packet is no dead host."""
CONNECT_DEADLINE_S = 5.0
"""Longest wait for one remote address to take a connection; `timeout` when that is shorter."""
MAP_SLACK_BYTES = 8192
"""A peer sizes its map by its own disk and sectors: it may be twice as large as ours and this, not more."""


class Stage(Enum):
    """Where the link is, as the log and status name it."""

    OFF = auto()
    """No remote address is configured."""
    WAITING = auto()
    """Between two attempts."""
    CONNECTING = auto()
    HELLO = auto()
    """Message 1 is sent, message 2 is awaited on A."""
    SETTLING = auto()
    """The engine makes its counters durable, connection B is being opened."""
    VERDICT = auto()
    """Message 3 is sent, message 4 is awaited on A, or a refusal on B."""
    UP = auto()


SETTLING, UP = Stage.SETTLING, Stage.UP
"""Asked for in every round."""


class Outcome(NamedTuple):
    """How an attempt ended. `answered`: the peer itself said no; `busy`: it asks to be tried again soon; `idle`: it
    has no role yet; `reached`: its host took a connection, whatever came of that; `spent`: it has to be followed by
    another, and nothing is wrong.
    """

    connected: bool
    reason: str = ""
    answered: bool = False
    busy: bool = False
    idle: bool = False
    reached: bool = False
    spent: bool = False


class Core(Protocol):
    """Of the engine, as far as the link asks it."""

    @property
    def meta(self) -> Metadata: ...


class Engine(Protocol):
    """What the link asks of the engine (`replication.primary.Primary`) and tells it."""

    @property
    def core(self) -> Core: ...
    @property
    def hello_ready(self) -> bool: ...
    def begin_handshake(self, now: float) -> None: ...
    def second_hello(self) -> tuple[int, int, int, bool]: ...
    def changes(self) -> Changes: ...
    def attach(self, peer: Peer, now: float) -> None: ...
    def replies(self, batch: list[WireReply], now: float) -> None: ...
    def detach(self, reason: str, now: float) -> None: ...


class PrimaryLink:
    """`attempted(outcome)` is called after every attempt."""

    def __init__(
        self,
        reactor: Reactor,
        resource: Resource,
        engine: Engine,
        attempted: Callable[[Outcome], None],
        boot_id: bytes = b"",
    ) -> None:
        self._reactor = reactor
        self._resource = resource
        self._engine = engine
        self._boot_id = boot_id
        self._attempted = attempted
        self.stage = Stage.OFF
        self.version = 1
        """Protocol version negotiated last, 1 before that."""
        self.peer_address = ""
        self.connected_since_s = 0.0
        self.trouble: tuple[str, str] | None = None
        """(kind, text) of the last refusal by the peer, for status; None once connected."""
        self.split_brain: PeerChanges | None = None
        """Where that was for a split brain: what the peer tells of it."""
        self.hurry_s: float | None = None
        """While clients wait for it: how long all remote addresses together may take to be found silent."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self._handshake: PeerHandshake | None = None
        self._remotes: list[str] = []
        self._remote = ""
        self._dialer: Dialer | None = None
        self._timer: Timer | None = None
        self._a: socket.socket | None = None
        self._b: socket.socket | None = None
        self._expect_data(0)
        self._outbox: Outbox | SealedStream | None = None
        self._outbox_b: Outbox | SealedStream | None = None
        self._from_a: Source | None = None
        self._from_b: Source | None = None
        self._context: ssl.SSLContext | None = None
        self._buffer: ReceiveBuffer | None = None
        self._replies = ReplyDecoder(MAX_DATA_BYTES)
        self._quick_retries = QUICK_RETRIES
        self.reason = ""
        """What ended the last connection or attempt; empty while connected."""
        self._farewell = ""
        """The peer said that it goes, in these words: that nobody answers there is no news until it is back."""

    # -- what the worker asks for

    def start(self) -> None:
        """Try now, and go on trying."""
        self._cancel_timer()
        if not self._resource.remotes:
            self.stage = Stage.OFF
            self._attempted(Outcome(False, "no remote address is configured"))
            return
        self._remotes = list(self._resource.remotes) * (1 if self.hurry_s is None else HURRIED_ROUNDS)
        self._next_remote("")

    def send(self, batch: list[WireRequest]) -> None:
        """Send requests of the engine; without a link the engine hears of that by `detach`."""
        if self._outbox is not None:
            resource = self._resource
            self._outbox.send(encode_requests(batch, self.version, resource.checksum, resource.compression))

    def pump(self) -> None:
        """Called once a round: go on when the engine has become ready for message 3."""
        if self.stage is Stage.SETTLING and self._outbox_b is not None and self._engine.hello_ready:
            self._send_second_hello()

    def drop(self, reason: str, in_order: bool = False) -> None:
        """Close the link, if there is one or one is being made, and try again later. `in_order`: the peer wished it."""
        if self.stage not in (Stage.OFF, Stage.WAITING):
            self._farewell = reason if in_order else ""
            self._fail(Outcome(False, reason))

    def reconfigure(self, resource: Resource) -> None:
        """Another remote or source address, other keys than the peer's: reconnect at once. The rest: from now on."""
        moved = (resource.remotes, resource.source) != (self._resource.remotes, self._resource.source)
        moved = moved or not still_wanted(self._outbox, resource)
        self._resource = resource
        for sock in (self._a, self._b):
            if sock is not None:
                tune(sock, resource.timeout_s)
        if moved:
            self._disconnect("the configuration has changed")
            self.start()

    def close(self, reason: str) -> None:
        """Close for good."""
        self._disconnect(reason)
        self._cancel_timer()
        self.stage = Stage.OFF

    @property
    def is_talking(self) -> bool:
        """Whether the peer's host took a connection and the handshake goes on."""
        return self.stage in (Stage.HELLO, Stage.SETTLING, Stage.VERDICT)

    @property
    def queued_bytes(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._outbox.queued_bytes if self._outbox is not None else 0

    # -- an attempt

    def _next_remote(self, reason: str) -> None:
        """Try the next address of the peer, or give this attempt up for `reason`."""
        if not self._remotes:
            self._fail(Outcome(False, reason))
            return
        self._remote = self._remotes.pop(0)
        self.stage = Stage.CONNECTING
        self._dial(self._dialed_a)

    def _dial(self, dialed: Callable[[socket.socket | None, str], None]) -> None:
        timeout_s = min(float(self._resource.timeout_s), CONNECT_DEADLINE_S)
        if self.hurry_s is not None:
            timeout_s = min(timeout_s, self.hurry_s / (HURRIED_ROUNDS * len(self._resource.remotes)))
        self._dialer = Dialer(self._reactor, self._remote, self._resource.source, timeout_s, dialed)

    def _dialed_a(self, sock: socket.socket | None, reason: str) -> None:
        self._dialer = None
        if sock is None:
            self._next_remote(f"{self._remote}: {reason}")
            return
        tune(sock, self._resource.timeout_s)
        try:
            self._context = client_context() if self._resource.is_secured else None
        except TlsError as error:
            sock.close()
            self._fail(Outcome(False, f"{self._remote}: {error.strerror}"))
            return
        self._a = sock
        self._handshake = PeerHandshake(
            self._resource.name, self.version, self._boot_id, str(self._resource.replication)
        )
        self._expect_data(0)
        self._reactor.add(sock.fileno(), select.EPOLLIN, self._ready_a)
        self._outbox, self._from_a = self._ends(sock, partial(self._lost, "A"))
        self.stage = Stage.HELLO
        self._deadline("no answer to the first message")
        self._outbox.send(self._handshake.first_hello())

    def _second_message(self, frame: Frame) -> None:
        """Message 2: negotiate, let the engine settle, open connection B meanwhile."""
        assert self._handshake is not None
        self._handshake.first_reply(frame)
        self.version = self._handshake.version
        if isinstance(self._outbox, SealedStream):
            self._outbox.proceed(self._handshake.binding("A"))
        self._expect_data(2 * (self._engine.core.meta.offset_bytes - MAP_OFFSET_BYTES) + MAP_SLACK_BYTES)
        self.stage = Stage.SETTLING
        self._deadline("the handshake did not go on")
        self._engine.begin_handshake(self._reactor.now())
        self._dial(self._dialed_b)

    def _expect_data(self, max_data_bytes: int) -> None:
        """How much data may come with a message from now on: message 2 has none, 4 and a refusal have a map."""
        self._frames_a = FrameDecoder(MAX_BODY_BYTES, max_data_bytes)
        self._frames_b = FrameDecoder(MAX_BODY_BYTES, max_data_bytes)

    def _dialed_b(self, sock: socket.socket | None, reason: str) -> None:
        self._dialer = None
        if sock is None:
            self._fail(Outcome(False, f"{self._remote}: second connection: {reason}"))
            return
        tune(sock, self._resource.timeout_s)
        self._b = sock
        self._reactor.add(sock.fileno(), select.EPOLLIN, self._ready_b)
        self._outbox_b, self._from_b = self._ends(sock, partial(self._lost, "B"))
        self.pump()

    def _send_second_hello(self) -> None:
        assert self._handshake is not None
        assert self._outbox_b is not None
        self.stage = Stage.VERDICT
        self._deadline("no answer to the second message")
        message = self._handshake.second_hello(self._engine.second_hello(), self._engine.changes())
        self._outbox_b.send([message])
        if isinstance(self._outbox_b, SealedStream):
            self._outbox_b.proceed(self._handshake.binding("B"))

    def _fourth_message(self, frame: Frame) -> None:
        """Message 4: the verdict. The engine goes live once the merged map is on the disk."""
        assert self._handshake is not None
        peer = self._handshake.second_reply(frame, self._engine.core.meta)
        self._cancel_timer()
        self.stage = Stage.UP
        self._farewell = ""
        self.trouble = self.split_brain = None
        self.reason = ""
        self._quick_retries = QUICK_RETRIES
        self.peer_address = self._remote
        self.connected_since_s = self._reactor.now()
        self._buffer = ReceiveBuffer()
        self._replies = ReplyDecoder(MAX_DATA_BYTES)
        self._engine.attach(peer, self._reactor.now())
        self._attempted(Outcome(True))

    # -- sockets

    def _ready_a(self, mask: int) -> None:
        if mask & select.EPOLLOUT and self._outbox is not None:
            self._outbox.writable()
        if mask & ~select.EPOLLOUT and self._from_a is not None:
            self._receive_frames(self._from_a, self._frames_a, "A")

    def _ready_b(self, mask: int) -> None:
        if mask & select.EPOLLOUT and self._outbox_b is not None:
            self._outbox_b.writable()
        if self._from_b is None or not mask & ~select.EPOLLOUT:
            return
        if self.stage is UP:
            self._receive_replies()
        else:
            self._receive_frames(self._from_b, self._frames_b, "B")

    def _receive_frames(self, source: Source, frames: FrameDecoder, name: str) -> None:
        """The slow path: handshake messages, and the end of either connection."""
        try:
            data = source.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(Outcome(False, f"connection {name}: {error.strerror}"))
            return
        if not data:
            self._fail(Outcome(False, f"the peer closed connection {name}"))
            return
        try:
            frames.feed(data)
            while (frame := frames.next()) is not None:
                self._handshake_frame(frame, name)
                if frames is not self._frames_a and frames is not self._frames_b:
                    return
        except (FrameError, HandshakeError) as error:
            self._fail(Outcome(False, f"connection {name}: {error}"))
        except Refused as refused:
            self._refused(refused)

    def _handshake_frame(self, frame: Frame, name: str) -> None:
        if name == "A" and self.stage is Stage.HELLO:
            self._second_message(frame)
        elif name == "A" and self.stage is Stage.VERDICT:
            self._fourth_message(frame)
        elif name == "B" and self._handshake is not None:
            self._handshake.second_refusal(frame)
        else:
            self._fail(Outcome(False, f"unexpected message on connection {name}"))

    def _receive_replies(self) -> None:
        buffer, source = self._buffer, self._from_b
        assert buffer is not None
        assert source is not None
        try:
            received = buffer.recv(source)
        except OSError as error:
            self._fail(Outcome(False, f"connection B: {error.strerror}"))
            return
        if received is None:
            return
        if received == 0:
            self._fail(Outcome(False, "the peer closed connection B"))
            return
        self.received_bytes += received
        try:
            batch, used = self._replies.decode(buffer.view, buffer.start, buffer.end)
        except FrameError as error:
            self._fail(Outcome(False, f"bad reply: {error}"))
            return
        buffer.consume(used)
        if self._replies.needed:
            buffer.reserve(self._replies.needed)
        if batch:
            self._engine.replies(batch, self._reactor.now())

    def _ends(self, sock: socket.socket, failed: Callable[[str], None]) -> tuple[Outbox | SealedStream, Source]:
        """How a connection is written, and how it is read."""
        if self._context is None:
            return Outbox(self._reactor, sock, failed), sock
        fingerprints = self._resource.peer_fingerprints
        stream = SealedStream(self._reactor, sock, failed, self._context, fingerprints)
        return stream, stream

    def _lost(self, name: str, reason: str) -> None:
        """A send failed. Told in a later round: this may come from deep inside the engine's effects."""
        attempt = self._handshake
        outcome = Outcome(False, f"connection {name}: {reason}", spent=reason == CONNECTION_IS_SPENT)
        self._reactor.call_soon_threadsafe(lambda: self._fail(outcome) if self._handshake is attempt else None)

    # -- the end of an attempt or a connection

    def _refused(self, refused: Refused) -> None:
        """The peer said no, or said something that cannot be."""
        self.split_brain = refused.peer_changes
        self.trouble = ("split-brain" if refused.split_brain else "refused", str(refused))
        self._fail(Outcome(False, str(refused), answered=True, busy=refused.busy, idle=refused.idle))

    def _fail(self, outcome: Outcome) -> None:
        was_up = self.stage is Stage.UP
        outcome = outcome._replace(reached=self.is_talking)
        self._disconnect(outcome.reason)
        self.stage = Stage.WAITING
        self._schedule(outcome, was_up)
        if was_up:
            self.reason = outcome.reason
            return
        self._log_failure(outcome)
        self._attempted(outcome)

    def _schedule(self, outcome: Outcome, was_up: bool) -> None:
        """When to try again: at once where another connection was due, soon while the peer says `wait`, starts, or was
        lost just now, else every RECONNECT_S."""
        delay_s = RECONNECT_S
        if was_up:
            self._quick_retries = QUICK_RETRIES
        if outcome.spent:
            delay_s = 0.0
        elif outcome.busy:
            delay_s = QUICK_RETRY_S
        elif not outcome.answered and self._quick_retries > 0:
            self._quick_retries -= 1
            delay_s = QUICK_RETRY_S
        elif outcome.idle:
            delay_s = IDLE_RETRY_S
        if self.hurry_s is not None:
            delay_s = min(delay_s, HURRIED_RETRY_S)
        self._cancel_timer()
        self._timer = self._reactor.call_at(self._reactor.now() + delay_s, self.start)

    def _log_failure(self, outcome: Outcome) -> None:
        """Each reason once, not every ten seconds. A refusal is told by an event (worker_primary.py)."""
        if self._farewell and not outcome.reached:
            self.reason = self._farewell
            return
        known, self.reason = self.reason, outcome.reason
        if outcome.answered and not outcome.busy:
            return
        level = logging.DEBUG if outcome.reason == known else logging.WARNING
        what = "The peer asks to be tried again later" if outcome.busy else "Unable to connect to the peer"
        log.log(level, "%s: %s.", what, outcome.reason.rstrip("."))

    def _disconnect(self, reason: str) -> None:
        """Close whatever is open and tell the engine, if it took part."""
        told = self.stage in (Stage.SETTLING, Stage.VERDICT, Stage.UP)
        self.stage = Stage.WAITING
        self._cancel_timer()
        if self._dialer is not None:
            self._dialer.cancel()
            self._dialer = None
        if self._outbox is not None:
            self.sent_bytes += self._outbox.sent_bytes
            self._outbox.close()
            self._outbox = None
        if self._outbox_b is not None:
            self._outbox_b.close()
            self._outbox_b = None
        self._from_a = self._from_b = None
        for sock in (self._a, self._b):
            if sock is not None:
                self._reactor.remove(sock.fileno())
                sock.close()
        self._a = self._b = None
        self._buffer = None
        self._handshake = None
        self.peer_address = ""
        if told:
            self._engine.detach(reason, self._reactor.now())

    def _deadline(self, text: str) -> None:
        self._cancel_timer()
        timeout_s = float(self._resource.timeout_s)
        outcome = Outcome(False, f"{text} within {timeout_s:g} s")
        self._timer = self._reactor.call_at(self._reactor.now() + timeout_s, lambda: self._fail(outcome))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def status(self) -> dict[str, Any]:
        """Figures of the connection."""
        sent = self.sent_bytes + (self._outbox.sent_bytes if self._outbox is not None else 0)
        age_s = self._reactor.now() - self.connected_since_s if self.stage is Stage.UP else 0.0
        return {
            "stage": self.stage.name.lower(),
            "reason": self.reason,
            "age_s": round(age_s, 1),
            "sent_bytes": sent,
            "received_bytes": self.received_bytes,
            "queued_bytes": self.queued_bytes,
            "tls": done_in(self._outbox, self._outbox_b),
        }
