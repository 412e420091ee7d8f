"""The worker of a connected secondary: the primary's requests in on connection A, replies out on connection B.

Lives as long as the two connections do, and so does its process title, which scripts wait for. Ends with 75 when the
connection is lost, 78 when the primary was refused.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
from typing import Any

from hast.config.model import Resource
from hast.daemon.logs import in_words
from hast.daemon.paths import state_directory
from hast.daemon.tls import TlsError, known_certificates, server_context
from hast.format import frame, handshake, nv
from hast.format.constants import (
    KEEPALIVE_S,
    MAX_DATA_BYTES,
    PEER_LEAVES_SEQ,
    PROTOCOL_VERSION,
    Feature,
    Replication,
)
from hast.format.frame import FrameError
from hast.format.reply import encode_replies
from hast.format.request import RequestDecoder
from hast.format.text import printable
from hast.replication.secondary import MAX_ACTIVE, Secondary, SecondHello, SecondReply
from hast.replication.types import READ, Discarded, Effects, Event, Metadata, WireRequest
from hast.worker.buffers import ReceiveBuffer, Source
from hast.worker.disk.discarded import save as save_discarded
from hast.worker.disk.patient_open import EXIT_NO_ANSWER, Found, NoAnswer, open_and_read
from hast.worker.disk.provider_open import OpenedProvider, ProviderError
from hast.worker.interfaces import Timer
from hast.worker.link.admitted import Session, accept, binding
from hast.worker.link.dial import tune
from hast.worker.link.sealed import SealedStream, done_in, still_wanted
from hast.worker.outbox import Outbox
from hast.worker.reactor import EpollReactor
from hast.worker.sync_watch import SyncWatch
from hast.worker.worker_base import COPIED_STATE, EXIT_OK, EXIT_TEMPORARY, Worker, read_boot_id, wall_offset_s

log = logging.getLogger("hast.worker")

EXIT_REFUSED = 78
MAX_UNSENT_BYTES = 16 * 1024 * 1024
"""With more replies than this waiting for the primary, its requests are not read."""
FAREWELL_S = 1.0
"""How long the primary may take to close the connections when it is told that this node stops."""
SECURE_S = 5.0
"""How long the primary may take to make the session of one connection."""
FEED_BYTES = 8 * 1024 * 1024
"""READ requests for so much are given to the engine at once; one receive may hold thousands of them."""


class SecondaryWorker(Worker[Secondary]):
    """`descriptors`: connection A, connection B, message 3 already read from it."""

    role = "secondary"

    def __init__(
        self, reactor: EpollReactor, control: socket.socket, start: dict[str, Any], descriptors: list[int]
    ) -> None:
        super().__init__(reactor, control, start)
        self._a, self._b = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
        self._version = min(int(start["version"]), PROTOCOL_VERSION)
        self._features = Feature(int(start.get("features") or 0))
        self._peer = str(start.get("peer") or "")
        self._held_back = str(start.get("held_back") or "")
        self._hello = bytes.fromhex(start["hello"])
        self._buffer = ReceiveBuffer()
        self._requests = RequestDecoder(MAX_DATA_BYTES)
        self._sync = SyncWatch(told=Feature.SYNC_MARK in self._features)
        for sock in (self._a, self._b):
            sock.setblocking(False)
        self._token = bytes.fromhex(str(start.get("token") or ""))
        self._use(None, None)
        self._no_answer = ""
        self._backlog: list[WireRequest] = []
        self._reading = True
        self._live = False
        self._differing = ""
        self._heard_s = self._began_s = reactor.now()
        self._watch: Timer | None = None

    # -- start and message 4 ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Provider and engine; the engine's answer to message 3 is sent once it is durable."""
        context = self._own_context()
        found = self._open_disk()
        if found is not None and not self.give_up_rights():
            return
        if self.resource.is_secured and not self._secure(context):
            return
        self.reactor.add(self._a.fileno(), select.EPOLLIN, self._ready_a)
        self.reactor.add(self._b.fileno(), select.EPOLLIN, self._ready_b)
        try:
            hello = handshake.read_first(nv.decode(self._hello))
            if not isinstance(hello, handshake.SecondHello):
                raise handshake.HandshakeError("the second message has no token")
        except ValueError as error:
            self.refuse(f"Bad message from the primary: {error}.", EXIT_REFUSED)
            return
        if found is None:
            self._refuse_primary("The secondary's local provider does not answer.")
            self.refuse(self._no_answer, EXIT_NO_ANSWER)
            return
        if found.opened is None or found.contents is None:
            part = "its local provider" if found.opened is None else "the metadata of its local provider"
            assert isinstance(found.error, ProviderError)
            self._refuse_primary(f"The secondary cannot use {part}.")
            self.refuse(str(found.error), found.error.exit_code)
            return
        self._begin(found.opened, *found.contents, hello)

    def _open_disk(self) -> Found | None:
        """The disk, or what is wrong with it; None when it does not answer."""
        try:
            return open_and_read(self.resource.local, self.resource.name, self.resource.disk_timeout_s)
        except NoAnswer as error:
            self.lingers, self._no_answer = True, str(error)
            return None

    def _use(self, a: Session | None, b: Session | None) -> None:
        """How both connections are read and written: plain without sessions."""
        self._answers: Outbox | SealedStream = Outbox(self.reactor, self._a, self._lost)
        self._replies: Outbox | SealedStream = Outbox(self.reactor, self._b, self._lost)
        self._from_a: Source = self._a
        self._from_b: Source = self._b
        if a is not None and b is not None:
            self._answers = self._from_a = SealedStream(self.reactor, self._a, self._lost, session=a)
            self._replies = self._from_b = SealedStream(self.reactor, self._b, self._lost, session=b)

    def _own_context(self) -> ssl.SSLContext | TlsError | None:
        """What the sessions need of this node's files."""
        if not self.resource.is_secured:
            return None
        try:
            return server_context(known_certificates(self.resource.peer_fingerprints))
        except TlsError as error:
            return error

    def _secure(self, context: ssl.SSLContext | TlsError | None) -> bool:
        """Make the sessions of both connections; nothing that the primary says is read before. False: it ends."""
        known = self.resource.peer_fingerprints
        try:
            if not isinstance(context, ssl.SSLContext):
                raise context or TlsError("there is no key")
            a = accept(self._a, context, known, binding("A", self._token), SECURE_S)
            b = accept(self._b, context, known, binding("B", self._token), SECURE_S)
        except OSError as error:
            self.refuse(f"The connection of the primary is not secure: {in_words(error)}.", EXIT_TEMPORARY)
            return False
        self._use(a, b)
        return True

    def _begin(self, opened: OpenedProvider, metadata: Metadata, image: bytes, hello: handshake.SecondHello) -> None:
        for sock in (self._a, self._b):
            tune(sock, self.resource.timeout_s)
        provider = self.use_provider(opened, metadata.offset_bytes)
        engine = Secondary(
            metadata,
            image,
            sectorsize_bytes=opened.sector_size_bytes,
            features=int(self._features),
            policy=self.resource.split_brain_policy,
            held_back=self._held_back,
            flush_doubtful=provider.flush_doubtful,
            lead=provider.lead,
            fullsync=(hello.replication or self.resource.replication) == Replication.FULLSYNC,
            wall_offset_s=wall_offset_s(self.reactor.now()),
        )
        self.engine = engine
        self._compare(hello)
        counters = (hello.resuid, hello.localcnt, hello.remotecnt, hello.virgin, hello.boot_id)
        engine.answer(SecondHello(*counters, hello.changes, hello.ahead_since_s), self.reactor.now())
        self.start_ticking()
        self._watch = self.reactor.call_later(self._patience_s(), self._check_silence)

    def _compare(self, hello: handshake.SecondHello) -> None:
        """hast.conf is meant to be the same on both nodes; the primary's counts."""
        here = str(self.resource.replication)
        if hello.replication and hello.replication != here:
            self._differing = (
                f"hast.conf differs between the nodes: the primary replicates in {printable(hello.replication)} mode, "
                f"this node is configured for {here}. Make the files equal, then: hastctl reload."
            )
            log.warning("%s", self._differing)

    def _send_verdict(self, reply: SecondReply) -> None:
        """Message 4, on connection A."""
        self._live = True
        message = handshake.SecondReply(
            reply.datasize_bytes,
            reply.extentsize_bytes,
            reply.localcnt,
            reply.remotecnt,
            reply.syncsrc,
            reply.virgin,
            reply.mapsize_bytes,
            reply.bitmap,
            self._boot_id(),
            reply.errmsg or "",
            changes=reply.changes,
            ahead_since_s=reply.ahead_since_s,
            reason=reply.reason,
            discards=reply.discards,
        )
        resource = self.resource
        self._answers.send(
            frame.encode(self._version, message.fields(), message.bitmap, resource.checksum, resource.compression)
        )
        if reply.errmsg:
            self.refuse(reply.errmsg, EXIT_REFUSED)
            return
        self.say_ready(datasize=reply.datasize_bytes, sectorsize=self._sector_bytes())
        self.say_event("connect", f"Connected to the primary {self._peer}.")

    def _boot_id(self) -> bytes:
        """None is told to a peer that does not know it, nor while a failed flush makes this cache untrue."""
        assert self.engine is not None
        return read_boot_id() if self._features and self.engine.cache_known else b""

    def _save(self, discarded: Discarded) -> str:
        """Keep the map of changes that are about to be thrown away; empty, or why that cannot be done."""
        try:
            path = save_discarded(discarded, self.resource.local)
        except OSError as error:
            return f"{error.filename or state_directory()}: {error.strerror or error}"
        self.say_event("map-saved", f"The map of the changes to be thrown away is in {path}.", "warning")
        return ""

    def _refuse_primary(self, text: str) -> None:
        """Tell the primary why, instead of a bare end of its connections."""
        self._answers.send(frame.encode(self._version, handshake.refusal(text)))

    def _sector_bytes(self) -> int:
        return self.provider.sector_size_bytes if self.provider is not None else 0

    # -- requests and replies

    def _ready_a(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._answers.writable()
        if self._reading:
            if mask & ~select.EPOLLOUT:
                self._receive_requests()
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self._lost("the primary closed connection A")

    def _ready_b(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._replies.writable()
        if not mask & ~select.EPOLLOUT:
            return
        try:
            data = self._from_b.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"connection B: {error.strerror}")
            return
        self._lost("unexpected data on connection B" if data else "the primary closed connection B")

    def _receive_requests(self) -> None:
        buffer = self._buffer
        try:
            received = buffer.recv(self._from_a)
        except OSError as error:
            self._lost(f"connection A: {error.strerror}")
            return
        if received is None:
            return
        if received == 0:
            self._lost("the primary closed connection A")
            return
        if not self._live or self.engine is None:
            self._lost("a request came before the handshake was over")
            return
        try:
            batch, used = self._requests.decode(buffer.view, buffer.start, buffer.end)
        except FrameError as error:
            self._lost(f"bad request: {error}")
            return
        buffer.consume(used)
        if self._requests.needed:
            buffer.reserve(self._requests.needed)
        if batch:
            self._heard_s = self.reactor.now()
            self._backlog = batch
            self._feed(self.engine)

    def _feed(self, engine: Secondary) -> None:
        """Give the engine what was received, as much as there is room for its answers."""
        batch = self._backlog
        wanted_bytes = 0
        for count, request in enumerate(batch):
            if request[0] == READ:
                wanted_bytes += request[3]
                if wanted_bytes > FEED_BYTES and count:
                    self._backlog = batch[count:]
                    engine.requests(batch[:count], self.reactor.now())
                    return
        self._backlog = []
        engine.requests(batch, self.reactor.now())

    def carry_out(self, effects: Effects) -> None:
        """The verdict when it is ready, replies, and the end if the engine wants it."""
        engine = self.engine
        assert engine is not None
        if effects.lead is not None:
            self.note_lead(effects)
        if effects.save is not None:
            discarded, effects.save = effects.save, None
            engine.saved(self._save(discarded), self.reactor.now())
        if not self._live and engine.reply is not None:
            self._send_verdict(engine.reply)
        if self._live and self.exit_code is None:
            self._tell(self._sync.look(engine.meta))
        if effects.replies:
            replies, effects.replies = effects.replies, []
            resource = self.resource
            self._replies.send(encode_replies(replies, self._version, resource.checksum, resource.compression))
        if effects.drop is not None:
            drop, effects.drop = effects.drop, None
            self._lost(drop.reason)
        room = self._room(engine)
        if self._backlog and room and self.exit_code is None:
            self._feed(engine)
        wanted = room and not self._backlog
        if wanted is not self._reading and self._a.fileno() >= 0:
            self._reading = wanted
            self._answers.watch(select.EPOLLIN if wanted else 0)

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self.say_event(event.name, event.text, event.level)

    def more_to_do(self, effects: Effects) -> bool:
        if effects.replies or effects.drop is not None:
            return True
        return bool(self._backlog) and self.engine is not None and self._room(self.engine)

    def _room(self, engine: Secondary) -> bool:
        """Whether requests are taken: there is room for them and for their replies."""
        return not engine.congested and self._replies.queued_bytes < MAX_UNSENT_BYTES

    # -- the end

    def _patience_s(self) -> float:
        """How long a primary may be silent (sections 4.3, 5.10); ours sends a PING several times in that time."""
        if Feature.PING in self._features:
            return max(5.0, float(self.resource.timeout_s))
        return 2.0 * KEEPALIVE_S

    def _check_silence(self) -> None:
        now = self.reactor.now()
        silent_s = now - self._heard_s
        if self._reading and silent_s >= self._patience_s():
            self._lost(f"nothing was heard from the primary for {silent_s:.0f} s")
            return
        left_s = self._patience_s() - silent_s if self._reading else 1.0
        self._watch = self.reactor.call_later(max(left_s, 0.1), self._check_silence)

    def _lost(self, reason: str) -> None:
        """The connection is gone: finish what is begun, say so, and end."""
        if self.exit_code is not None:
            return
        if self.stopping:
            self.finish(EXIT_OK)
            return
        if self._live:
            self._tell(self._sync.lost())
            in_order = self.engine is not None and self.engine.primary_left
            reason = "the primary let go in order" if in_order else reason
            text = f"Disconnected from the primary {self._peer}: {reason}."
            self.say_event("disconnect", text, "info" if in_order else "warning", {"reason": reason})
        else:
            log.warning("The handshake with the primary %s failed: %s.", self._peer, reason)
        self.finish(EXIT_TEMPORARY)

    def disk_hung(self, text: str) -> None:
        """The primary gets its errors, and then goes on alone: a copy that takes nothing is no second copy."""
        del text
        self.reactor.call_soon_threadsafe(lambda: self._lost("the local disk does not answer"))

    def stop(self, deadline_s: float) -> None:
        """Asked to end: another primary connection, or another role, of which the primary is told."""
        if self.stopping:
            return
        self.stopping = True
        if self.leaving and self._live and Feature.LEAVING in self._features:
            self._replies.send(encode_replies([(PEER_LEAVES_SEQ, 0, False, None)], self._version))
            self.reactor.call_later(min(deadline_s, FAREWELL_S), lambda: self.finish(EXIT_OK))
        else:
            self.finish(EXIT_OK)

    def close(self) -> None:
        """Close the connections, complete what the provider has begun."""
        for sock in (self._a, self._b):
            if sock.fileno() >= 0:
                self.reactor.remove(sock.fileno())
        for outbox in (self._answers, self._replies):
            outbox.close()
        self._a.close()
        self._b.close()
        self.close_provider()

    # -- the supervisor

    def reload(self, resource: Resource) -> None:
        """Checksum, compression and timeout apply from the next reply on; other keys end the connection."""
        self.resource = resource
        for sock in (self._a, self._b):
            tune(sock, resource.timeout_s)
        if not still_wanted(self._answers, resource):
            self._lost("hast.conf asks for other keys now")

    def set_sync_rate(self, bytes_s: int) -> None:
        """Synchronisation is driven by the primary; nothing to limit here."""

    def status(self) -> dict[str, Any]:
        """See worker/messages.py."""
        engine, provider = self.engine, self.provider
        if engine is None or provider is None:
            return {"status": "degraded", "problems": []}
        state = engine.status()
        counters = engine.counters
        problems = [{"kind": kind, "text": text} for kind, text in _PROBLEMS.items() if state[kind]]
        if self._differing:
            problems.append({"kind": "configuration", "text": self._differing})
        return {
            **{name: state[name] for name in COPIED_STATE},
            "disk_cache": not provider.past_cache,
            "disk_by": provider.way,
            "status": "complete" if self._live else "degraded",
            "in_step": self._sync.in_step(engine.meta),
            "needed": engine.why_not_release_disk(),
            "keepdirty": engine.meta.keepdirty,
            "statistics": {
                "reads": counters.reads,
                "writes": counters.writes,
                "deletes": counters.deletes,
                "flushes": counters.flushes,
                "activemap_updates": 0,
                "read_errors": counters.read_errors,
                "write_errors": counters.write_errors,
                "delete_errors": counters.delete_errors,
                "flush_errors": counters.flush_errors,
                "read_bytes": counters.read_bytes,
                "write_bytes": counters.write_bytes,
                "delete_bytes": counters.delete_bytes,
            },
            "queues": {
                "local": provider.pending,
                "send": int(self._replies.queued_bytes > 0),
                "recv": 0,
                "done": 0,
                "idle": max(0, MAX_ACTIVE - int(str(state["active"]))),
            },
            "sync": None,
            "problems": problems,
            "peer": self._peer or None,
            "protocol": self._version,
            "replication": str(self.resource.replication),
            "link": {
                "stage": "up" if self._live else "verdict",
                "age_s": round(self.reactor.now() - self._began_s, 1),
                "sent_bytes": self._replies.sent_bytes + self._answers.sent_bytes,
                "received_bytes": self._buffer.received_bytes,
                "queued_bytes": self._replies.queued_bytes,
                "tls": done_in(self._answers, self._replies),
            },
            "latency": state["latency"],
            "polling": {"windows": self.reactor.poller.windows, "hits": self.reactor.poller.hits},
        }


_PROBLEMS = {
    "inconsistent": "The local copy is being synchronised and is not usable on its own.",
    "stale": "The local copy missed writes.",
}
