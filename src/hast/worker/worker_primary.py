"""The worker of a primary: clients' exports on one side, the peer link on the other, the engine between them.

Order of a start: provider, engine, first attempt at the peer, then, when `start_gate.py` says so, the exports: a copy
that turns out to be outdated is known to be so before anybody reads it.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hast.config.model import SYNC_AUTO, ArbiterKind, Resource
from hast.daemon.logs import in_words
from hast.format.constants import PROTOCOL_VERSION
from hast.replication.handshake import PeerChanges
from hast.replication.pace import Slow
from hast.replication.primary import MAX_ACTIVE, Primary, Settings
from hast.replication.promotion import as_led, may_be_behind, may_use_copy
from hast.replication.types import Effects, Metadata, Request
from hast.worker import slow_disk
from hast.worker.disk import opener
from hast.worker.disk.flush_witness import Locker
from hast.worker.disk.patient_open import NoAnswer, open_and_read
from hast.worker.disk.provider_open import ProviderError, open_provider
from hast.worker.disk_change import Source, disk_change
from hast.worker.export.export import NbdExport
from hast.worker.interfaces import Client, FrontEnd
from hast.worker.link.primary_link import SETTLING, Outcome, PrimaryLink
from hast.worker.orphan_watch import OrphanWatch
from hast.worker.reactor import EpollReactor
from hast.worker.start_gate import StartGate
from hast.worker.successor import Offer
from hast.worker.worker_base import (
    COPIED_STATE,
    EXIT_OK,
    EXIT_SYSTEM,
    EXIT_TEMPORARY,
    Worker,
    read_boot_id,
    wall_offset_s,
)

log = logging.getLogger("hast.worker")

MAX_UNSENT_BYTES = 32 * 1024 * 1024
"""With more than this waiting to be sent to the peer, clients are not read: what async mode may be behind."""
DRAIN_POLL_S = 0.02
ORPHAN_QUIET_S = 2.0
"""How long users may take to fall silent when hastd is gone."""
EXIT_UNAVAILABLE = 69
EXIT_NOT_DRAINED = 70


class PrimaryWorker(Worker[Primary]):
    """See the module's docstring. `descriptors`: NBD listening socket, then the FUSE device where `fuse` is set."""

    role = "primary"

    def __init__(
        self, reactor: EpollReactor, control: socket.socket, start: dict[str, Any], descriptors: list[int]
    ) -> None:
        super().__init__(reactor, control, start)
        self._start = start
        if start.get("locker"):
            self.locker = Locker([descriptors.pop(), descriptors.pop()])
        self._descriptors = descriptors
        self._front_ends: list[FrontEnd] = []
        self._channel = -1
        self._link: PrimaryLink | None = None
        self._congested = False
        self._refusal = ""
        """What the peer said last, told once."""
        self._gate: StartGate | None = None
        self._sync_rate_bytes_s = self.resource.sync_rate_bytes_s
        self._stop_deadline_s = 0.0
        self._disk_change = disk_change(self, self.resource.name)
        self._orphan_watch = OrphanWatch(reactor, self.end_orphaned)

    # -- start

    def open(self) -> None:
        """Provider, engine, and the first attempt at the peer."""
        try:
            found = open_and_read(self.resource.local, self.resource.name, self.resource.disk_timeout_s)
            if found.error is not None:
                raise found.error
        except ProviderError as error:
            self.lingers = isinstance(error, NoAnswer)
            if self.lingers and self._start.get("resume"):
                log.error("%s", error)
                self.finish(EXIT_TEMPORARY)  # the device waits for the disk
            else:
                self.refuse(str(error), error.exit_code)
            return
        assert found.opened is not None
        assert found.contents is not None
        opened, (metadata, image) = found.opened, found.contents
        if not self._open_channel() or not self.give_up_rights():
            return
        provider = self.use_provider(opened, metadata.offset_bytes)
        metadata = as_led(metadata, provider.lead)
        force, resume = bool(self._start.get("force")), bool(self._start.get("resume"))
        verdict = may_use_copy(metadata, force, resume)
        if not verdict.allowed:
            self._refuse_role(verdict.reason)
            return
        if force and (metadata.inconsistent or metadata.stale):
            log.warning("The local copy is %s; it is used as it is, as demanded.", _faults(metadata))
        engine = Primary(
            self._settings(),
            metadata,
            image,
            sectorsize_bytes=opened.sector_size_bytes,
            fresh_resuid=secrets.randbits(64) or 1,
            boot_id=read_boot_id(),
            force=force,
            flush_doubtful=provider.flush_doubtful,
            lead=provider.lead,
            wall_offset_s=wall_offset_s(self.reactor.now()),
        )
        self.engine = engine
        self._link = link = PrimaryLink(self.reactor, self.resource, engine, self._attempted, read_boot_id())
        self._gate = StartGate(
            self.reactor,
            self.resource,
            force=force,
            resume=resume,
            first=bool(self._start.get("first")),
            may_be_behind=may_be_behind(metadata),
            opened=self._serve,
            refused=self._refuse_role,
            is_talking=lambda: link.is_talking,
        )
        link.hurry_s = self._gate.hurry_s
        self.start_ticking()
        self._link.start()

    def _open_channel(self) -> bool:
        """That of the ublk device belongs to root. False: the role is refused."""
        if (number := self._start.get("ublk")) is None:
            return True
        from hast.worker.export.ublk import open_channel

        try:
            self._channel = open_channel(int(number))
        except OSError as error:
            self.refuse(f"Unable to export the device: {in_words(error)}.", EXIT_SYSTEM)
        return self._channel >= 0

    def _refuse_role(self, reason: str) -> None:
        self.refuse(f"{reason[:1].upper()}{reason[1:]}.", EXIT_UNAVAILABLE)

    def _settings(self) -> Settings:
        resource = self.resource
        return Settings(
            replication=resource.replication,
            timeout_s=float(resource.timeout_s),
            metaflush=resource.metaflush,
            read_balancing=resource.read_balancing,
            sync_rate_bytes_s=self._sync_rate_bytes_s,
            arbiter=resource.arbiter.kind is not ArbiterKind.NONE or resource.fence_path is not None,
        )

    def _attempted(self, outcome: Outcome) -> None:
        """An attempt at the peer ended."""
        assert self._link is not None
        assert self._gate is not None
        split_brain = False
        if outcome.connected:
            self._refusal = ""
        if outcome.answered and self._link.trouble is not None:
            kind, text = self._link.trouble
            split_brain = kind == "split-brain"
            if split_brain:
                self._tell_split_brain()
            elif not outcome.busy and text != self._refusal:
                self._refusal = text
                self.say_event("refused", f"The peer refused: {text}", "warning")
        self._gate.attempted(outcome, split_brain)

    def _tell_split_brain(self) -> None:
        assert self.engine is not None
        assert self._link is not None
        sentence, details = self.engine.split_brain(self._link.split_brain or PeerChanges())
        self.say_event("split-brain", sentence, "error", details)

    def _serve(self) -> None:
        """Start the exports and tell the supervisor."""
        engine, provider = self.engine, self.provider
        assert self._link is not None
        self._link.hurry_s = None
        assert engine is not None
        assert provider is not None
        size_bytes, sector_bytes = engine.core.meta.datasize_bytes, provider.sector_size_bytes
        try:
            for front_end in self._make_front_ends(size_bytes, sector_bytes):
                front_end.start()
                self._front_ends.append(front_end)
        except OSError as error:
            self.refuse(f"Unable to export the device: {error.strerror or error}.", EXIT_SYSTEM)
            return
        self.say_ready(datasize=size_bytes, sectorsize=sector_bytes)

    def _make_front_ends(self, size_bytes: int, sector_bytes: int) -> list[FrontEnd]:
        common = (self.reactor, self._submit, self._is_congested, size_bytes, sector_bytes)
        fds = list(self._descriptors)
        fuse_fd = fds.pop() if self._start.get("fuse") else None
        made: list[FrontEnd] = []
        if fds:
            listeners = [socket.socket(fileno=fd) for fd in fds]
            made.append(NbdExport(*common, name=self.resource.provider_name, listeners=listeners))
        if self._channel >= 0:
            from hast.worker.export.ublk import UblkQueue

            made.append(UblkQueue(*common, channel=self._channel))
        if fuse_fd is not None:
            from hast.worker.export.fuse import FuseFile

            made.append(FuseFile(*common, descriptor=fuse_fd, resume=bool(self._start.get("resume"))))
        return made

    def start_ticking(self) -> None:
        super().start_ticking()
        assert self.engine is not None
        slow = self.engine.look_for_slow_disk(self.reactor.now())
        if slow is not None:
            self.say_event("slow-disk", self._slow_in_words(slow), "warning", slow_disk.as_status(slow))

    def _slow_in_words(self, slow: Slow) -> str:
        peer = self._link.peer_address if self._link is not None else ""
        return slow_disk.in_words(slow, self.resource.local, peer)

    # -- the way of a request

    def _submit(self, batch: list[Request]) -> None:
        assert self.engine is not None
        self.engine.submit(batch, self.reactor.now())

    def _is_congested(self) -> bool:
        """Whether clients' sockets are left unread: the engine is full, or the peer does not keep up (async)."""
        if self._full():
            self._congested = True  # until carry_out has told every front end to go on
            return True
        return False

    def _full(self) -> bool:
        engine, link = self.engine, self._link
        assert engine is not None
        return engine.congested or (link is not None and link.queued_bytes >= MAX_UNSENT_BYTES)

    def carry_out(self, effects: Effects) -> None:
        """Requests to the peer first, so that both copies work at the same time; then answers to clients."""
        link = self._link
        assert link is not None
        if effects.lead is not None:
            self.note_lead(effects)
        if effects.remote:
            remote, effects.remote = effects.remote, []
            link.send(remote)
        if effects.finished:
            finished, effects.finished = effects.finished, []
            _answer(finished)
        if effects.ask:
            questions, effects.ask = effects.ask, []
            for question in questions:
                self.say({"say": "ask", "question": question})
        if effects.drop is not None:
            drop, effects.drop = effects.drop, None
            link.drop(drop.reason, drop.in_order)
        if link.stage is SETTLING:
            link.pump()
        if self._congested and not self._full():
            self._congested = False
            for front_end in self._front_ends:
                front_end.resume()

    def more_to_do(self, effects: Effects) -> bool:
        return bool(effects.remote or effects.finished or effects.ask or effects.drop is not None)

    # -- the supervisor

    def extra_message(self, message: dict[str, Any]) -> bool:
        engine, now = self.engine, self.reactor.now()
        if engine is None:
            return False
        do = message.get("do")
        if do == "answer":
            engine.answered(str(message["question"]), bool(message["yes"]), now)
        elif do == "freeze":
            engine.freeze(str(message["reason"]), now)
        elif do == "thaw":
            engine.thaw(now)
        elif do == "ask-anew":
            engine.ask_anew(now)
        elif do == "leave":
            engine.leave(float(message["within_s"]), now)
        elif do in ("detach-disk", "attach-disk", "replace-disk"):
            self._change_disk(str(do), str(message.get("path") or ""), message.get("id"))
            return True
        elif do == "may-change-disk":
            open_by, over = self._opening(self._refuser(message.get("id")))
            source = Source(str(message.get("path") or ""), open_by)
            self._disk_change.may(str(message.get("order")), source, over)
            return True
        elif do == "verify":
            refusal = engine.begin_verify(bool(message.get("repair")), now)
            self._refuser(message.get("id"))(refusal)
            return True
        elif do == "stop-verify":
            engine.stop_verify(now)
        elif do == "withhold":
            engine.withhold(bool(message.get("in_use")), now)
            self._await_quiet(message.get("id"), now + float(message["limit_s"]))
            return True
        else:
            return False
        self.say({"reply": message.get("id"), "error": None})
        return True

    def _change_disk(self, do: str, path: str, number: Any) -> None:
        def answer(error: str) -> None:
            if do != "attach-disk" and not error and path:
                self.resource = replace(self.resource, local=path)
            self._refuser(number)(error)

        open_by, over = self._opening(answer)
        if do == "detach-disk":
            self._disk_change.detach(over)
        elif do == "attach-disk":
            self._disk_change.attach(Source(self.resource.local, open_by), over)
        else:
            self._disk_change.replace(Source(path, open_by), over)

    def _opening(self, answer: Callable[[str], None]) -> tuple[opener.Open, Callable[[str], None]]:
        """How the disk of the order at hand is opened, and its answer, after which nobody opens it any more."""
        openers = [socket.socket(fileno=descriptor) for descriptor in self.take_received()]

        def over(error: str) -> None:
            for sock in openers:
                sock.close()
            answer(error)

        return (partial(opener.ask, openers[0]) if openers else open_provider), over

    def _refuser(self, number: Any) -> Callable[[str], None]:
        return lambda error: self.say({"reply": number, "error": f"Not done: {error}." if error else None})

    def _await_quiet(self, number: Any, until_s: float) -> None:
        assert self.engine is not None
        now = self.reactor.now()
        quiet = self.engine.is_quiet(now)
        if quiet or now >= until_s or self.stopping:
            self.say({"reply": number, "error": None, "quiet": quiet})
        else:
            self.reactor.call_later(DRAIN_POLL_S, lambda: self._await_quiet(number, until_s))

    def may_begin_alone(self) -> bool:
        """In place of one that died and had the role; the kernel keeps the device for whoever has its descriptor."""
        arbitrated = self.resource.arbiter.kind is not ArbiterKind.NONE
        return bool(self._start.get("resume") and self._start.get("fuse")) and not arbitrated

    def handed_over(self) -> Offer:
        told: dict[str, Any] = {"fuse": bool(self._start.get("fuse"))}
        if self._sync_rate_bytes_s != SYNC_AUTO:  # which a release before takes for a rate
            told["sync_rate_bytes_s"] = self._sync_rate_bytes_s
        return told, list(self._descriptors)

    def supervisor_changed(self, there: bool) -> None:
        """Without a supervisor nobody renews the arbiter's leave."""
        self._orphan_watch.end()
        if there and self.locker is not None:
            self.say({"say": "locker"}, self.locker.ends)
        if not there and self.engine is not None:
            self._orphan_watch.begin(self.engine, self.resource.arbiter.kind is not ArbiterKind.NONE)

    def reload(self, resource: Resource) -> None:
        if resource.sync_rate_bytes_s != self.resource.sync_rate_bytes_s:
            self._sync_rate_bytes_s = resource.sync_rate_bytes_s
        self.resource = resource
        if self.engine is not None:
            self.engine.reconfigure(self._settings(), self.reactor.now())
        if self._link is not None:
            self._link.reconfigure(resource)

    def set_sync_rate(self, bytes_s: int) -> None:
        self._sync_rate_bytes_s = bytes_s
        if self.engine is not None:
            self.engine.reconfigure(self._settings(), self.reactor.now())

    def begin_anew(self, reason: str) -> None:
        """End, so that another worker takes the role; what is unanswered is sent to that."""
        log.warning("This worker makes way for another one: %s.", reason)
        self.finish(EXIT_TEMPORARY)

    def disk_hung(self, text: str) -> None:
        """What was only read goes on with the peer's copy too (S6)."""
        if self.engine is not None:
            self.engine.disk_lost("it does not answer", self.reactor.now())

    # -- the end

    def stop(self, deadline_s: float) -> None:
        """Refuse what comes, finish what is there, flush, leave a clean map; at the deadline end anyway."""
        if self.stopping:
            return
        self.stopping = True
        self._orphan_watch.end()
        if self._gate is not None:
            self._gate.cancel()
        self._stop_deadline_s = self.reactor.now() + deadline_s
        if self.engine is None:
            self.finish(EXIT_OK)
            return
        now = self.reactor.now()
        self.engine.leave(deadline_s, now)
        if self.orphaned:
            self.engine.withhold(True, now)
            self._drain_when_quiet(now + min(deadline_s, ORPHAN_QUIET_S))
        else:
            self._drain()

    def _drain_when_quiet(self, until_s: float) -> None:
        """Nobody has the devices of a pool let go together any more: so none of them tells an error before its end."""
        assert self.engine is not None
        now = self.reactor.now()
        if self.engine.is_quiet(now) or now >= until_s:
            self._drain()
        else:
            self.reactor.call_later(DRAIN_POLL_S, lambda: self._drain_when_quiet(until_s))

    def _drain(self) -> None:
        assert self.engine is not None
        self.engine.drain(self.reactor.now())
        self._watch_drain()

    def _watch_drain(self) -> None:
        assert self.engine is not None
        now = self.reactor.now()
        if self.engine.drained:
            self.finish(EXIT_OK)
        elif now >= self._stop_deadline_s:
            log.error("Not drained in time (%d requests left); ending anyway.", self.engine.active)
            self.finish(EXIT_NOT_DRAINED)
        else:
            self.reactor.call_later(DRAIN_POLL_S, self._watch_drain)

    def close(self) -> None:
        """Release everything. What a client is still owed is never answered: its connection ends."""
        for front_end in self._front_ends:
            front_end.close()
        if self._link is not None:
            self._link.close("this node stops being primary")
        self.close_provider()

    # -- status

    def status(self) -> dict[str, Any]:
        """See worker/messages.py."""
        engine, link, provider = self.engine, self._link, self.provider
        if engine is None or link is None or provider is None:
            return {"status": "degraded", "problems": []}
        state = engine.status()
        counters = engine.core.counters
        return {
            **{name: state[name] for name in _COPIED},
            "disk_cache": not provider.past_cache,
            "disk_by": provider.way,
            "statistics": {
                "reads": counters.reads,
                "peer_reads": counters.peer_reads,
                "writes": counters.writes,
                "deletes": counters.deletes,
                "flushes": counters.flushes,
                "activemap_updates": state["activemap_updates"],
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
                "send": int(link.queued_bytes > 0),
                "recv": len(engine.core.pending),
                "done": 0,
                "idle": max(0, MAX_ACTIVE - engine.active),
            },
            "sync": _sync_status(state["sync"]),
            "problems": self._problems(state),
            "peer": link.peer_address or None,
            "protocol": min(link.version, PROTOCOL_VERSION),
            "replication": str(self.resource.replication),
            "link": link.status(),
            "slow_disk": slow_disk.as_status(engine.slow_disk),
            "in_step": self._in_step(engine, state),
            "peer_whole": self._peer_is_whole(engine),
            "clients": sum(_clients(front_end) for front_end in self._front_ends),
            "polling": {"windows": self.reactor.poller.windows, "hits": self.reactor.poller.hits},
        }

    @staticmethod
    def _in_step(engine: Primary, state: dict[str, Any]) -> bool:
        """Neither copy lacks anything, and the peer's disk says so too."""
        owed = state["local_missing"] or state["peer_missing"] or engine.core.peer_marked
        return not (owed or engine.sync.active or state["inconsistent"] or state["stale"] or engine.core.meta.unflushed)

    @staticmethod
    def _peer_is_whole(engine: Primary) -> bool:
        """Whether the peer could serve alone, whatever this copy lacks."""
        sync = _sync_status(engine.sync.status())
        being_made = sync is not None and sync["direction"] == "to-peer"
        return engine.core.connected and engine.core.peer_whole and not being_made

    def _problems(self, state: dict[str, Any]) -> list[dict[str, str]]:
        problems = []
        if self._link is not None and self._link.trouble is not None:
            kind, text = self._link.trouble
            problems.append({"kind": kind, "text": text})
        for key, kind, text in _PROBLEMS:
            if state[key]:
                problems.append({"kind": kind, "text": text})
        if state["local_disk"] != "ok":
            away = "The local disk is out of service." if state["local_disk"] == "away" else "The local disk failed."
            reason = self._hang_text or away
            problems.append({"kind": "disk", "text": f"{reason} The peer's copy is used alone."})
        slow = self.engine.slow_disk if self.engine is not None else None
        if slow is not None:
            problems.append({"kind": "slow-disk", "text": self._slow_in_words(slow)})
        if state["frozen"]:
            problems.append({"kind": "frozen", "text": f"Writes are held: {state['frozen']}."})
        return problems


_COPIED = (*COPIED_STATE, "local_missing", "peer_missing", "latency", "at_risk_bytes", "verify")
_PROBLEMS = (
    ("stale", "stale", "The local copy missed writes; what it lacks is taken from the peer."),
    ("inconsistent", "inconsistent", "The local copy is being synchronised and is not usable on its own."),
)


def _faults(metadata: Metadata) -> str:
    return " and ".join(name for name in ("inconsistent", "stale") if getattr(metadata, name))


_DIRECTIONS = {"primary to secondary": "to-peer", "secondary to primary": "from-peer"}


def _sync_status(sync: Any) -> dict[str, Any] | None:
    if sync is None:
        return None
    return {**sync, "direction": _DIRECTIONS.get(sync["direction"], sync["direction"])}


def _clients(front_end: FrontEnd) -> int:
    status = getattr(front_end, "status", None)
    return int(status().get("clients", 0)) if status is not None else 0


def _answer(finished: list[Request]) -> None:
    """Give each client its requests, in one call."""
    first = finished[0].client
    if not [request for request in finished if request.client is not first]:
        first.completed(finished)
        return
    by_client: dict[Client, list[Request]] = {}
    for request in finished:
        by_client.setdefault(request.client, []).append(request)
    for client, batch in by_client.items():
        client.completed(batch)
