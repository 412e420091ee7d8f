"""Where the two copies stand to each other: the counters, who is ahead, what has to be durable before an answer.

Two questions are answered here, each by holding the answer to the client back until a record is durable:
- may a write that the peer lacks be acknowledged? Only when localcnt was raised on our disk (S8) and, where an arbiter
  is configured, the arbiter has recorded the peer as outdated (S11).
- may a write that only the peer holds be acknowledged? Only when the peer has raised its own counter (S6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from hast.format.constants import Command, Feature
from hast.replication.core import ENOTCONN, Core
from hast.replication.types import Lead, Peer, Request, Store

OUTDATE_PEER = "outdate-peer"
NOT_ALONE = "the arbiter does not let this node go on alone"


class Record(Enum):
    """How far a durable record has come."""

    ABSENT = auto()
    UNDER_WAY = auto()
    DURABLE = auto()


class Standing:
    """`answer(request, durable)` is called for every request that was held back, once its record is there or failed;
    `flush(request)` when no record is needed any more."""

    def __init__(self, core: Core, answer: Callable[[Request, bool], None], flush: Callable[[Request], None]) -> None:
        self._core = core
        self._answer = answer
        self._flush = flush
        self.ahead = Record.ABSENT
        """This node acknowledged writes that the peer lacks."""
        self.peer_leads = Record.ABSENT
        """The peer holds writes that this node's disk lacks, and knows it."""
        self.disk_leaves = False
        """The lead is handed over on purpose: it is not taken back."""
        self._nothing_rests = False
        """No client was told of anything that may be on the peer's copy alone, since they were in step."""
        self._comes_back = False
        """The link was lost before the peer's lead was needed: nothing rests on its copy, and this one is used on."""
        self._ahead_job: Store | None = None
        self._ahead_void = False
        """The peer took the lead, and knows the counter, while the record was on its way."""
        self._waiting_ahead: list[Request] = []
        self._waiting_lead: list[Request] = []
        self._lead_command: Request | None = None
        self._noted = Lead.AS_RECORDED
        """What the next worker would be told."""
        self._lead_offered = -1
        """The counter of a TAKE_LEAD that the peer may have obeyed before the link was lost."""
        self._stale_job: Store | None = None
        self._back_job: Store | None = None
        self._ahead_missed = False
        """The peer lacks a write, and this node could not say that it is ahead because it lacked writes itself."""

    def reset(self) -> None:
        """The copies are in step again: what waited to be answered alone is on both, and durable after a flush (S4)."""
        self.ahead = Record.ABSENT
        self.peer_leads = Record.ABSENT
        self._nothing_rests = True
        self._ahead_missed = False
        held, self._waiting_ahead[:] = self._waiting_ahead[:], []
        for request in held:
            self._flush(request)

    def told(self, lead: Lead, force: bool) -> None:
        """What the worker before this one left to be known; void where this copy is the one to trust by order."""
        self._noted = lead
        if force:
            self._note(Lead.AS_RECORDED)
        self._core.lead_offered = self._noted is Lead.OFFERED

    @property
    def leads(self) -> bool:
        """Our disk says that this copy lacks nothing."""
        return not self._core.lacking and self._back_job is None

    @property
    def is_settling(self) -> bool:
        """What our disk says of itself is about to change without the peer: it is told nothing before that."""
        return self._comes_back or (self._back_job is not None and not self._core.connected)

    @property
    def taking_back(self) -> bool:
        """What our disk says of this copy is about to be withdrawn."""
        return self._back_job is not None

    def settle(self) -> None:
        """The end of every call: who leads follows the facts (S8)."""
        core = self._core
        if self._lead_command is not None or self._stale_job is not None:
            return
        if self._comes_back:
            self._come_back()
        if self.disk_leaves or core.map.owed_local.count:
            return
        if (core.meta.stale or core.meta.inconsistent) and core.connected and core.local_ok:
            self._take_lead_back()
        if self._ahead_missed and not core.lacking:
            self._ahead_missed = False
            if core.map.owed_remote:
                self.go_ahead()

    def _take_lead_back(self) -> None:
        """Nothing is owed to this copy after a good flush of both. What the peer lacks by now makes this node ahead:
        without this the next write that the peer misses would be taken for a second history."""
        core, peer = self._core, self._core.peer
        assert peer is not None, "connected to nobody"
        self.peer_leads = Record.ABSENT
        localcnt = max(core.meta.localcnt, peer.remotecnt)
        self._back_job = core.store_metadata(
            "lead taken back", localcnt=localcnt, remotecnt=peer.localcnt, inconsistent=False, stale=False
        )
        self._ahead_missed = True

    def _come_back(self) -> None:
        """This copy has all that was acknowledged. The peer's, which leads or may, can lose what it did not flush until
        it is back: it is not to be copied from. What failed here was answered as failed."""
        core, peer = self._core, self._core.peer
        self._comes_back = False
        if core.connected or peer is None or not core.local_ok or core.meta.unflushed:
            return
        if core.meta.inconsistent or not (core.meta.stale and self._nothing_rests):
            return
        core.map.owed_remote.unite(core.map.owed_local)
        core.map.owed_local.clear()
        theirs = peer.localcnt + (1 if self._lead_offered >= 0 else 0)
        ours = max(core.meta.localcnt, peer.remotecnt)
        self._back_job = core.store_metadata("the disk stays", localcnt=ours, remotecnt=theirs, stale=False)

    def was_offered_lead(self, peer: Peer) -> bool:
        """The peer knows our counter, and by a TAKE_LEAD whose answer was lost with the link: equal numbers alone could
        be chance."""
        return peer.remotecnt == self._lead_offered == self._core.meta.localcnt

    def meet(self, leads: bool) -> None:
        """The peer is there. `leads`: its copy is the newer one, and it knows of what this node acknowledged alone."""
        self._lead_offered = -1
        if leads:
            self.ahead = Record.ABSENT

    def live(self) -> None:
        """The peer was met, and what its counters say of the lead is on our disk, or counts as known."""
        self._core.lead_offered = False
        self._nothing_rests = not self._core.lacking
        if self._noted is Lead.OFFERED:
            self._note(Lead.AS_RECORDED)

    def link_lost(self) -> None:
        """The peer's counters will be told anew, its lead included; so is a question to the arbiter that was open when
        the link came up, since the link made it void."""
        if self.peer_leads is Record.DURABLE:
            self.peer_leads = Record.ABSENT
        if self.disk_leaves or self._lead_command is not None:
            self.disk_leaves = False
            self._comes_back = True
        if self._asking:
            self._core.effects.ask.append(OUTDATE_PEER)

    def abandon(self) -> None:
        """What waits to be answered alone fails, unless its record is on its way: the peer leads, or we stop."""
        if self._ahead_job is None:
            self._release(self._waiting_ahead, False)

    def settled(self, request: Request) -> bool:
        """False, and the request is held, while a record of which copy lacks an earlier write is on its way."""
        if self.ahead is Record.UNDER_WAY:
            self._waiting_ahead.append(request)
        elif self._lead_command is not None or self._stale_job is not None:
            self._waiting_lead.append(request)
        else:
            return True
        return False

    def may_go_alone(self, request: Request) -> bool:
        """True when a write that the peer lacks may be acknowledged now; else it is held."""
        if self.ahead is Record.DURABLE:
            return True
        if not self._core.local_ok:
            self._answer(request, False)
            return False
        self._waiting_ahead.append(request)
        self.go_ahead()
        return False

    def go_ahead(self) -> None:
        """Begin to record that this node is ahead: first with the arbiter, then on our disk."""
        core = self._core
        if self.ahead is not Record.ABSENT:
            return
        if core.lacking:
            self._ahead_missed = True
            return
        if not core.local_ok:
            return  # the peer may have taken the lead, and its answer be lost
        self.ahead = Record.UNDER_WAY
        if core.settings.arbiter:
            core.effects.ask.append(OUTDATE_PEER)
        else:
            self._raise_localcnt()

    def ask_again(self) -> None:
        """The operator lets writes go on after a refusal."""
        if self._core.lacking:
            self.abandon()
        elif self._waiting_ahead and not self._core.connected:
            self.go_ahead()

    def ask_anew(self) -> None:
        """The question may have been lost, and so may the memory that it was answered: have it put again."""
        core = self._core
        alone = self.ahead is Record.DURABLE and not core.connected
        if self._asking or (core.settings.arbiter and alone):
            core.effects.ask.append(OUTDATE_PEER)
        elif self.ahead is Record.ABSENT:
            self.ask_again()

    @property
    def _asking(self) -> bool:
        """The arbiter's word is waited for."""
        return self._core.settings.arbiter and self.ahead is Record.UNDER_WAY and self._ahead_job is None

    def answered(self, agreed: bool) -> None:
        """The arbiter's word on OUTDATE_PEER. A refusal leaves the writes held; the engine freezes."""
        if self.ahead is not Record.UNDER_WAY or self._ahead_job is not None:
            return
        core = self._core
        if agreed and core.local_ok and not core.lacking:
            self._raise_localcnt()
            return
        self.ahead = Record.ABSENT
        if agreed:
            self.abandon()

    def may_rest_on_peer(self, request: Request) -> bool:
        """True when a write that only the peer holds may be acknowledged now; else it is held."""
        self.hand_over_lead()
        if not self._core.peer_whole:
            self._answer(request, False)
            return False
        if Feature.TAKE_LEAD not in self._core.features:
            self._note_rests_on_reference()
        elif self.peer_leads is Record.ABSENT:
            self._answer(request, False)
            return False
        if self._lead_command is not None or self._stale_job is not None:
            self._waiting_lead.append(request)
            return False
        self._nothing_rests = False
        return True

    def hand_over_lead(self) -> None:
        """Say on our own disk, if it still takes it, that this copy missed writes; tell a peer that understands it."""
        core = self._core
        if not core.peer_whole:
            return
        if not core.meta.stale and core.local_ok:
            self._stale_job = core.store_metadata("copy is stale", stale=True)
        if self.peer_leads is Record.ABSENT and core.connected and Feature.TAKE_LEAD in core.features:
            self.peer_leads = Record.UNDER_WAY
            if self._noted is Lead.AS_RECORDED and not core.saved.stale:
                self._note(Lead.OFFERED)
            self._lead_command = core.send_command(Command.TAKE_LEAD, self._highest_localcnt)

    def disk_lost(self) -> None:
        """Nothing is recorded on our disk any more, neither that it lacks something nor what."""
        self.hand_over_lead()
        self._note_follows()

    def stored(self, job: Store, error: int) -> bool:
        """A metadata job ended; True when it was one of ours."""
        if job is self._stale_job:
            self._stale_job = None
            self._settle_lead()
            return True
        if job is self._back_job:
            self._back_job = None
            if not error:
                self._note(Lead.AS_RECORDED)
                self._nothing_rests = not self._core.map.owed_local
            return True
        if job is not self._ahead_job:
            return False
        self._ahead_job = None
        if self.ahead is not Record.UNDER_WAY:
            return True
        void, self._ahead_void = self._ahead_void, False
        self.ahead = Record.ABSENT if error or void else Record.DURABLE
        self._release(self._waiting_ahead, not error)
        return True

    def command_answered(self, request: Request, error: int) -> bool:
        """A command's answer; True when it was ours."""
        if request is not self._lead_command:
            return False
        self._lead_command = None
        self._lead_offered = request.offset if error == ENOTCONN else -1
        self.peer_leads = Record.ABSENT if error else Record.DURABLE
        peer = self._core.peer
        if not error and peer is not None:
            if self.ahead is Record.DURABLE:
                self.ahead = Record.ABSENT
            self._ahead_void = self._ahead_job is not None
            remotecnt = max(peer.remotecnt, request.offset)
            self._core.peer = replace(peer, localcnt=peer.localcnt + 1, remotecnt=remotecnt)
        if error:
            self._release(self._waiting_lead, False)
        self._settle_lead()
        return True

    @property
    def _highest_localcnt(self) -> int:
        """What our disk may say of itself: a peer that leads and does not know it looks like a split brain (S8)."""
        return max(self._core.meta.localcnt, self._core.saved.localcnt)

    def _settle_lead(self) -> None:
        if self._lead_command is None and self._stale_job is None:
            self._note_follows()
            if self._noted is Lead.OFFERED and self._core.saved.stale:
                self._note(Lead.AS_RECORDED)
            if any(request.local_error for request in self._waiting_lead):
                self._nothing_rests = False
            self._release(self._waiting_lead, True)

    def _note_follows(self) -> None:
        if self.peer_leads is Record.DURABLE and not self._core.local_ok:
            self._note(Lead.PEERS)

    def _note_rests_on_reference(self) -> None:
        """A peer that is not told that it leads holds the only good copy: the next worker has to know."""
        if not self._core.local_ok:
            self._note(Lead.PEERS)

    def _note(self, lead: Lead) -> None:
        self._noted = self._core.effects.lead = lead

    def _raise_localcnt(self) -> None:
        core = self._core
        assert not core.meta.stale, "S8: a copy that follows claims to be ahead"
        assert not core.meta.inconsistent, "S8: a copy that follows claims to be ahead"
        self._ahead_job = core.raise_localcnt("localcnt raised")

    def _release(self, waiting: list[Request], durable: bool) -> None:
        held, waiting[:] = waiting[:], []
        for request in held:
            self._answer(request, durable)
