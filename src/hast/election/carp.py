"""The CARP state machine of one vhid, sans-I/O (carp.md, "States" and "Known pains to remove").

The rules:
- INIT until the interface has a link, then BACKUP, never MASTER before a whole master-down time has been listened to
  and the state of the data is known (or DATA_WAIT_S have passed).
- Masters are compared by their interval, advbase + advskew/256 with demotion added to advskew; smaller is better.
- BACKUP becomes MASTER when the master falls silent, says goodbye, or is worse and `preempt` is set. A master that
  advertises the cap of demotion says that it should not be one: a better backup takes over without `preempt`.
- A backup whose copy of the data is not good takes over only from nobody, from goodbye, or from such a demoted master;
  one whose copy cannot be served (not eligible) only by hand.
- MASTER yields to a better one. Equals: the lower source address stays, so that two equal masters never both yield.
- By hand wins over comparison until the other side is told otherwise by hand, the link goes, or `auto`.
- A host that leaves (leaving.py) is backup by hand for a time, and takes no address from anybody until another has it.
- A host that starts and serves the data already becomes master at once; one whose peer serves waits for the peer's
  carpd (adoption.py). Until that is decided it is not `settled`: its state is nobody's business but its own.

The shell calls one method per happening with the monotonic time, then carries out `effects` in order, and calls `tick`
at `next_s`. TABLE names the step for every state and input. No I/O, no clock here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from hast.election.adoption import Claim, Start, at_start
from hast.election.carp_plan import by_hand_steps
from hast.election.carp_types import (
    TABLE,
    Address,
    Advertise,
    Announce,
    Counts,
    Effect,
    Hand,
    Heard,
    Input,
    Note,
    SetAddresses,
    Settings,
    Settled,
    State,
    StateChanged,
    Wait,
)
from hast.election.counter import Counter
from hast.election.demotion import MAX_SKEW, DataReport, Demotion
from hast.election.replay import ReplayGuard
from hast.election.signing import Signing
from hast.format.carp import Advertisement, AuthenticationError

DATA_WAIT_S = 30.0
"""How long a starting host waits to be told the state of its data before it counts as unknown."""
MASTER_DOWN_INTERVALS = 3
FAILED_SENDS = 3
"""So many failed sends in a row demote the host, so many good ones in a row end it."""
GOODBYE = (255, 255)
"""advbase and advskew of a master that leaves: any backup sees that this master will time out."""
DEPOSE = (0, 1)
"""advbase and advskew of a master made by hand: better than any configured one."""
ADOPT = (0, 2)
"""advbase and advskew of a host that serves already: better than any configured one, not than one made by hand."""
MAX_DEPOSES = 10
FORGET_DEPOSES_S = 10.0
ANNOUNCE_AGAIN_S = (1.0, 3.0)


@dataclass
class Vhid:
    """One virtual host on one interface.

    `demotion` is shared by all vhids of the host; `counter_start` is for the counters (counter.py).
    """

    settings: Settings
    signing: Signing
    demotion: Demotion
    started_s: float
    counter_start: int
    state: State = State.INIT
    effects: list[Effect] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    guard: ReplayGuard = field(default_factory=ReplayGuard)
    data: DataReport | None = None
    heard: Heard | None = None

    def __post_init__(self) -> None:
        self._counter = Counter(self.counter_start, self.started_s)
        self._data_deadline_s = self.started_s + DATA_WAIT_S if self.settings.data_required else self.started_s
        self._listening_since_s = inf
        self._waiting_since_s: float | None = None
        """When a backup began to wait a master-down time; None while another wait is under way."""
        self._deadline_s = inf
        self._announce_at_s: list[float] = []
        self._announced_s = -inf
        self._expiry = ""
        self._wait = Wait()
        self._hand = Hand()
        self._away_until_s = -inf
        """Until then this host leaves."""
        self._succeeded = False
        """Another has been master since this host began to leave."""
        self._failed_sends = 0
        self._good_sends = 0
        self._told_skew = 0
        self._why = ""
        self._peer: tuple[Advertisement, Address, Address | None] | None = None
        self.settled = not self.settings.data_required
        """Whether roles on this host may follow the state."""
        self._kept = "the state of the data is not known yet"
        self._newcomer = True
        """No master was heard since the start, and it was none itself."""

    # What the shell tells

    def link(self, up: bool, now: float, why: str = "") -> None:
        """The interface is up with a link, or not (or it is gone)."""
        self._handle(Input.LINK_UP if up else Input.LINK_DOWN, now, why)

    def advertisement(self, heard: Advertisement, source: Address, own_source: Address | None, now: float) -> None:
        """An advertisement for this vhid, decoded but not yet verified. `own_source` is what we advertise from."""
        if self.state is State.INIT:
            return
        if own_source is not None and source == own_source:
            self.counts.reflected += 1
            return
        try:
            self.signing.verify(heard, now)
        except AuthenticationError as error:
            self.counts.bad_auth += 1
            self._note_once_per_power(self.counts.bad_auth, f"{source}: {error}")
            return
        refusal = self.guard.refusal(heard.counter, max(heard.interval_s, 1.0), now)
        if refusal is not None:
            self.counts.replayed += 1
            self._note_once_per_power(self.counts.replayed, f"{source}: replayed advertisement ignored: {refusal}")
            return
        self.counts.received += 1
        self._counter.heard(heard.counter)
        if self.state is State.BACKUP and self._follows_better_than(heard, source, now):
            return
        self._newcomer = False
        self.heard = Heard(source, heard.interval_s, now)
        self._peer = (heard, source, own_source)
        self._handle(self._rank(heard), now, "")
        self._adopt_or_settle(now)

    def data_report(self, report: DataReport, now: float) -> None:
        """The state of the data, as far as it is known now."""
        before, self.data = self.data, report
        if report.text != (before.text if before else ""):
            level = "warning" if self.state is State.MASTER and report.demotion else "info"
            adds = f"; demotion {report.demotion}" if report.demotion else ""
            self.effects.append(Note(f"data: {report.text or 'good'}{adds}", level))
        self.demotion_changed(now)
        self._adopt_or_settle(now)
        if self._wait.text:
            self._handle(Input.TIMER, now, "")

    def demotion_changed(self, now: float) -> None:
        """The demotion may have changed: a master tells at once, a backup corrects its waiting time."""
        if self.state is State.MASTER and self.skew != self._told_skew:
            self._handle(Input.TIMER, now, "")
        elif self.state is State.BACKUP and self._waiting_since_s is not None:
            self._deadline_s = self._waiting_since_s + self.master_down_s

    def sent(self, ok: bool) -> bool:
        """The result of an Advertise. True when the host's demotion changed by it."""
        reason = f"send:{self.settings.label}"
        if ok:
            self.counts.sent += 1
            self._failed_sends = 0
            self._good_sends += 1
            return self._good_sends >= FAILED_SENDS and self.demotion.set(reason, 0)
        self.counts.send_errors += 1
        self._good_sends = 0
        self._failed_sends += 1
        return self._failed_sends >= FAILED_SENDS and self.demotion.set(reason, MAX_SKEW)

    def by_hand(self, order: State | None, now: float) -> str | None:
        """`carpctl state`: MASTER, BACKUP, or None for automatic. None when done, else why it cannot be."""
        refusal = self.why_not_by_hand
        if refusal is not None:
            return refusal
        inputs = {State.MASTER: Input.HAND_MASTER, State.BACKUP: Input.HAND_BACKUP, None: Input.HAND_AUTO}
        if order is not State.BACKUP:
            self._away_until_s = -inf
        self._handle(inputs[order], now, "ordered by hand")
        self._adopt_or_settle(now)
        return None

    def leave(self, seconds: float, now: float) -> None:
        """Give the addresses to another host, and take them from nobody for so long or until it has them; 0 ends that.

        For so long they are not taken back by `preempt` either.
        """
        if seconds <= 0:
            self._return(now)
            return
        self._succeeded = self._succeeded and self._is_away
        self._away_until_s = now + seconds
        self._handle(Input.HAND_BACKUP, now, "this host leaves")
        self._adopt_or_settle(now)

    def reconfigure(self, settings: Settings, now: float) -> None:
        """Take other settings of the same vhid. What is known of the data counts until it is told anew."""
        if settings.data_required and not self.settings.data_required:
            self.data = DataReport()
        elif not settings.data_required:
            self.data = None
        self.settings = settings
        self.demotion_changed(now)

    def stop(self, now: float) -> None:
        """Leave in order: a master removes its addresses and tells the others to take over."""
        self._handle(Input.STOP, now, "carpd stops")

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._is_away and now >= self._away_until_s:
            self._return(now)
        if now >= self._deadline_s:
            self._handle(Input.TIMER, now, "")
        if self._announce_at_s and now >= self._announce_at_s[0]:
            self._announce_at_s = [at for at in self._announce_at_s if at > now]
            self._announce(now)
        if not self.settled and self.data is None and now >= self._data_deadline_s:
            self._settle("the state of the data is not known")

    # What the shell asks

    @property
    def next_s(self) -> float:
        """When `tick` wants to be called; inf for never."""
        unsettled_s = inf if self.settled or self.data is not None else self._data_deadline_s
        away_s = self._away_until_s if self._is_away else inf
        return min(self._deadline_s, unsettled_s, away_s, self._announce_at_s[0] if self._announce_at_s else inf)

    @property
    def why_not_by_hand(self) -> str | None:
        """Why nothing can be ordered by hand now; None when it can."""
        if self.state is State.INIT:
            return f"{self.settings.label} has no link: nothing can be ordered by hand before its interface is up"
        return None

    def foresee(self, order: State | None) -> list[str]:
        """What `by_hand` would bring about, in order, for people; nothing is changed."""
        source = str(self.heard.source) if self.heard is not None and self.state is State.BACKUP else None
        return by_hand_steps(self.state, order, source, self.settings.preempt)

    @property
    def skew(self) -> int:
        """advskew with all demotion, as advertised."""
        if self._hand.order is State.MASTER:
            return 0
        return min(self.settings.advskew + self.demotion.total + self._data_demotion, MAX_SKEW)

    @property
    def interval_s(self) -> float:
        return self.settings.advbase + self.skew / 256

    @property
    def master_down_s(self) -> float:
        return MASTER_DOWN_INTERVALS * self.settings.advbase + self.skew / 256

    @property
    def waiting_for(self) -> str:
        """Why a backup that hears no master does not take over; empty when nothing stands in the way."""
        return self._wait.text

    @property
    def undecided(self) -> str:
        """Why nobody is told the state yet; empty once roles follow it."""
        return "" if self.settled else self._kept

    @property
    def ordered(self) -> State | None:
        """What was ordered by hand and still holds."""
        return self._hand.order

    def next_counter(self, now: float) -> int:
        """The counter of the next packet."""
        counter = self._counter.next(now)
        self.guard.sent(counter)
        return counter

    # Steps, named by TABLE

    def _handle(self, what: Input, now: float, why: str) -> None:
        step = TABLE.get((self.state, what))
        if step is not None:
            self._why = why or what.value
            getattr(self, step)(now)

    def _rank(self, heard: Advertisement) -> Input:
        if heard.interval_s > MASTER_DOWN_INTERVALS * self.settings.advbase:
            return Input.LEAVING
        if heard.interval_s == self.interval_s:
            return Input.EQUAL
        return Input.BETTER if heard.interval_s < self.interval_s else Input.WORSE

    def _follows_better_than(self, other: Advertisement, source: Address, now: float) -> bool:
        """The last word of a second master that yields must not call backups of the better one to arms."""
        best = self.heard
        return (
            best is not None
            and best.source != source
            and best.interval_s < other.interval_s
            and now - best.at_s < 1.5 * best.interval_s
        )

    def _listen(self, now: float) -> None:
        self._listening_since_s = now
        self._await_master_down(now)
        self._expiry = "no master heard"
        self._change(State.BACKUP, self._why)
        self._adopt_or_settle(now)

    def _leave(self, now: float) -> None:
        if self.state is State.MASTER:
            self.effects.append(SetAddresses(False))
        self._deadline_s = self._listening_since_s = inf
        self._waiting_since_s = None
        self._hand = Hand()
        self._wait = Wait()
        self._announce_at_s = []
        self._change(State.INIT, self._why)

    def _await_master_down(self, now: float) -> None:
        self._waiting_since_s = now
        self._deadline_s = now + self.master_down_s

    def _follow(self, now: float) -> None:
        self._succeeded = True
        self._await_master_down(now)
        self._expiry = "the master fell silent"
        self._wait = Wait()

    def _consider_preempting(self, now: float) -> None:
        assert self._peer is not None
        worse, source, _own = self._peer
        says_no = worse.advskew >= MAX_SKEW
        wants_to = self.settings.preempt and self._hand.order is None and self._may_preempt
        if not (says_no or wants_to) or not self._eligible or self._is_away:
            self._follow(now)
            return
        self._soon(now, f"{source} is demoted" if says_no else f"{source} is worse (preempt)")

    def _succeed(self, now: float) -> None:
        assert self._peer is not None
        self._soon(now, f"{self._peer[1]} leaves")

    def _soon(self, now: float, reason: str) -> None:
        """Become master, the better one of several backups first: up to a quarter of a second by skew."""
        at = now + self.skew / 1024
        if at < self._deadline_s:
            self._waiting_since_s = None
            self._deadline_s = at
            self._expiry = reason
        if at <= now:
            self._handle(Input.TIMER, now, "")

    def _try_master(self, now: float) -> None:
        reason = self._wait.reason or self._expiry
        obstacle, until = self._obstacle(now)
        if obstacle:
            if self._wait.text != obstacle:
                self.effects.append(Note(f"no master is heard, but {obstacle}", "warning"))
            self._wait = Wait(obstacle, reason)
            self._waiting_since_s = None
            self._deadline_s = until
            return
        self._become_master(now, reason)

    def _obstacle(self, now: float) -> tuple[str, float]:
        """What keeps a backup without a master from becoming it, and until when."""
        listened_at_s = self._listening_since_s + self.master_down_s
        if self._is_away and not self._succeeded:
            return "this host leaves", self._away_until_s
        if now < listened_at_s:
            return "a whole master-down time has not been listened to", listened_at_s
        if self.data is None and now < self._data_deadline_s:
            return "the state of the data is not known yet", self._data_deadline_s
        if self._newcomer and self._claim is Claim.FOLLOWS:
            return "the other host serves the data; waiting for its carpd", now + self.master_down_s
        if not self._eligible:
            text = self.data.text if self.data else ""
            return f"the data cannot be served ({text}); by hand: carpctl state", now + self.master_down_s
        return "", now

    # Adoption

    def _adopt_or_settle(self, now: float) -> None:
        """As long as nothing is decided: what the roles on this host mean for its state, or the reverse."""
        if self.settled or self.data is None or self.state is State.MASTER:
            return
        backup_by_hand = self._hand.order is State.BACKUP
        link = self.state is not State.INIT
        start, why = at_start(self._claim, link, not self._newcomer, backup_by_hand, self.settings.was_master)
        if start is Start.ADOPT:
            self._become_master(now, why, adopt=True)
        elif start is Start.SETTLE:
            self._settle(why)
        elif why != self._kept:
            self._kept = why
            self.effects.append(Note(f"{why}: roles stay as they are", "warning"))

    def _settle(self, reason: str) -> None:
        if not self.settled:
            self.settled = True
            self.effects.append(Settled(self.state, reason))

    def _become_master(self, now: float, reason: str, adopt: bool = False) -> None:
        self._wait = Wait()
        self.settled, self._newcomer = True, False
        self._away_until_s = -inf
        if self._hand.order is State.BACKUP:
            self._hand = Hand()
        self._waiting_since_s = None
        self.counts.became_master += 1
        self._change(State.MASTER, reason)
        if adopt:
            self.effects += [Advertise(*ADOPT), Advertise(*ADOPT)]
        if self._hand.order is State.MASTER:
            self._depose(now)
        else:
            self._advertise(now)
        self.effects.append(SetAddresses(True))
        self._announce(now)
        self._announce_at_s = [now + after for after in ANNOUNCE_AGAIN_S]

    def _advertise(self, now: float) -> None:
        self._told_skew = self.skew
        self._deadline_s = now + self.interval_s
        self.effects.append(Advertise(self.settings.advbase, self.skew))

    def _depose(self, now: float) -> None:
        self._hand.deposes = self._hand.deposes + 1 if now - self._hand.deposed_s < FORGET_DEPOSES_S else 1
        self._hand.deposed_s = now
        self._told_skew = self.skew
        self._deadline_s = now + self.settings.advbase
        self.effects.append(Advertise(*DEPOSE))

    def _yield(self, now: float) -> None:
        """Step down, with a last word worse than the winner's: it learns that it has to announce its addresses."""
        assert self._peer is not None
        better, source, _own = self._peer
        last_word = Advertise(max(better.advbase, self.settings.advbase), min(max(better.advskew, self.skew) + 1, 254))
        if self._hand.order is State.MASTER and (better.advbase, better.advskew) != DEPOSE:
            if self._hand.deposes <= MAX_DEPOSES:
                self._depose(now)
                return
            self.effects.append(Note(f"{source} does not yield to a master made by hand: giving in", "warning"))
        self._step_down(now, f"{source} is a better master")
        self.effects.append(last_word)

    def _yield_to_lower_address(self, now: float) -> None:
        assert self._peer is not None
        _equal, source, own = self._peer
        if self._hand.order is State.MASTER or own is None or _is_lower(source, own):
            self._yield(now)
        else:
            self._defend(now)

    def _step_down(self, now: float, reason: str) -> None:
        self._hand = Hand()
        self._announce_at_s = []
        self._await_master_down(now)
        self._expiry = "the master fell silent"
        self.effects.append(SetAddresses(False))
        self._change(State.BACKUP, reason)

    def _defend(self, now: float) -> None:
        """Another master is or was on this segment: tell it, and tell everybody where the address is."""
        assert self._peer is not None
        if now - self._announced_s < 1.0:
            return
        self.effects.append(Note(f"{self._peer[1]} was master too: announcing the addresses again", "warning"))
        self._advertise(now)
        self._announce(now)
        self._announce_at_s = [now + after for after in ANNOUNCE_AGAIN_S]

    def _announce(self, now: float) -> None:
        self._announced_s = now
        self.effects.append(Announce())

    def _seize(self, now: float) -> None:
        self._hand = Hand(State.MASTER)
        if self.state is State.MASTER:
            self._depose(now)
        else:
            self._become_master(now, self._why)

    def _stay_backup(self, now: float) -> None:
        self._hand = Hand(State.BACKUP)

    def _hand_over(self, now: float) -> None:
        self._step_down(now, self._why)
        self._hand = Hand(State.BACKUP)
        self.effects += [Advertise(*GOODBYE), Advertise(*GOODBYE)]

    def _say_goodbye_and_leave(self, now: float) -> None:
        self._leave(now)
        self.effects += [Advertise(*GOODBYE), Advertise(*GOODBYE)]

    def _back_to_automatic(self, now: float) -> None:
        self._hand = Hand()

    def _return(self, now: float) -> None:
        """This host leaves no longer."""
        if self._is_away:
            self._away_until_s = -inf
            self._handle(Input.HAND_AUTO, now, "this host stays")
            if self._wait.text:
                self._handle(Input.TIMER, now, "")

    # Small things

    @property
    def _data_demotion(self) -> int:
        if self.data is not None:
            return self.data.demotion
        return MAX_SKEW if self.settings.data_required else 0

    @property
    def _is_away(self) -> bool:
        return self._away_until_s > -inf

    @property
    def _may_preempt(self) -> bool:
        return self.data.preempt if self.data is not None else not self.settings.data_required

    @property
    def _claim(self) -> Claim:
        return self.data.claim if self.data is not None else Claim.NONE

    @property
    def _eligible(self) -> bool:
        return self.data is None or self.data.eligible or (not self.settled and self._claim is Claim.MAY_SERVE)

    def _change(self, state: State, reason: str) -> None:
        assert state is not self.state, f"{self.settings.label} is {state} already"
        self.state = state
        self.effects.append(StateChanged(state, reason, self.settled))

    def _note_once_per_power(self, count: int, text: str) -> None:
        """Log the 1st, 2nd, 4th, 8th ... time, so that a flood cannot fill the log."""
        if count & (count - 1) == 0:
            self.effects.append(Note(f"{text} ({count} so far)", "warning"))


def _is_lower(one: Address, other: Address) -> bool:
    """Addresses of one family by number; IPv4 before IPv6."""
    return (one.version, int(one)) < (other.version, int(other))
