"""A network segment of CARP hosts in virtual time, with loss, partitions, restarts; no I/O."""

from __future__ import annotations

import heapq
import random
from ipaddress import IPv4Address

from hast.election.carp import DATA_WAIT_S, Vhid
from hast.election.carp_types import (
    Advertise,
    Announce,
    Note,
    SetAddresses,
    Settings,
    Settled,
    State,
    StateChanged,
)
from hast.election.demotion import DataReport, Demotion
from hast.election.signing import Signing
from hast.format.carp import Advertisement, Authenticator, decode, encode

VIP = IPv4Address("10.10.10.180")
KEY = Authenticator(b"mypassword", 1, [VIP])
LATENCY_S = 0.001
__all__ = ["DATA_WAIT_S", "KEY", "Host", "Segment"]


class Host:
    """One host with one vhid; `log` holds (time, what)."""

    def __init__(self, segment: Segment, number: int, settings: Settings) -> None:
        self.segment = segment
        self.number = number
        self.address = IPv4Address(f"10.10.10.{180 + number}")
        self.settings = settings
        self.alive = True
        self.has_address = False
        self.sends_fail = False
        self.log: list[tuple[float, str]] = []
        self.data: DataReport | None = None
        self.key = KEY
        self.boots = 0
        self.told: list[State] = []
        """The states that others were told to act on, since the last start."""
        self.boot()

    def boot(self) -> None:
        """A new process: nothing is remembered. The clock is right."""
        self.boots += 1
        self.alive = True
        self.has_address = False
        self.told = []
        self.demotion = Demotion()
        now = self.segment.now
        self.vhid = Vhid(
            self.settings, Signing(self.key), self.demotion, now, int((1.7e9 + now) * 1e6) * 256 + self.number
        )
        self.vhid.link(True, now, "link up")
        if self.data is not None:
            self.vhid.data_report(self.data, now)
        self.carry_out()

    def kill(self) -> None:
        self.alive = False

    @property
    def state(self) -> State | None:
        return self.vhid.state if self.alive else None

    def count(self, what: str, since: float = 0.0) -> int:
        return sum(1 for at, text in self.log if text == what and at >= since)

    def report(self, report: DataReport) -> None:
        self.data = report
        self.vhid.data_report(report, self.segment.now)
        self.carry_out()

    def link(self, up: bool) -> None:
        self.demotion.set("link", 0 if up else 240)
        self.vhid.link(up, self.segment.now)
        self.carry_out()

    def demote(self, amount: int) -> None:
        self.demotion.set("hand", amount)
        self.vhid.demotion_changed(self.segment.now)
        self.carry_out()

    def order(self, state: State | None) -> str | None:
        refusal = self.vhid.by_hand(state, self.segment.now)
        self.carry_out()
        return refusal

    def leave(self, seconds: float) -> None:
        self.vhid.leave(seconds, self.segment.now)
        self.carry_out()

    def sign(self, key: Authenticator) -> None:
        """Its configuration was changed and read again."""
        self.key = key
        self.vhid.signing.change(key, self.segment.now)

    def stop(self) -> None:
        self.vhid.stop(self.segment.now)
        self.carry_out()
        self.alive = False

    def receive(self, payload: bytes, source: IPv4Address) -> None:
        self.vhid.advertisement(decode(payload, 255), source, self.address, self.segment.now)
        self.carry_out()

    def tick(self) -> None:
        self.vhid.tick(self.segment.now)
        self.carry_out()

    def carry_out(self) -> None:
        now = self.segment.now
        while self.vhid.effects:
            effect = self.vhid.effects.pop(0)
            match effect:
                case Advertise(base, skew):
                    self.log.append((now, f"advertise {base} {skew}"))
                    if self.sends_fail:
                        self.vhid.sent(False)
                        continue
                    for key in self.vhid.signing.keys(now):
                        packet = encode(Advertisement(1, skew, base, self.vhid.next_counter(now)), key)
                        self.segment.send(self, packet)
                    self.vhid.sent(True)
                case SetAddresses(present):
                    assert present != self.has_address
                    self.has_address = present
                    self.log.append((now, f"address {present}"))
                case Announce():
                    assert self.has_address
                    self.log.append((now, "announce"))
                case Settled(state, _reason):
                    self.told.append(state)
                case StateChanged(state, reason, settled):
                    if settled:
                        self.told.append(state)
                    self.log.append((now, str(state)))
                    self.log.append((now, f"{state}: {reason}"))
                case Note(text, _level):
                    self.log.append((now, text))


class Segment:
    """Hosts on one wire. `groups` maps a host number to the part of the wire it hears; equal means connected."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self.loss = 0.0
        self.hosts: list[Host] = []
        self.part: dict[int, int] = {}
        self.wire: list[tuple[float, int, int, bytes, IPv4Address, int]] = []
        self.recorded: list[bytes] = []
        self._serial = 0

    def add(
        self, advskew: int = 0, preempt: bool = False, data_required: bool = False, data: DataReport | None = None
    ) -> Host:
        number = len(self.hosts) + 1
        host = Host(self, number, Settings("1@pub", 1, advskew, preempt, data_required))
        host.data = data
        if data is not None:
            host.vhid.data_report(data, self.now)
        self.hosts.append(host)
        self.part[number] = 0
        return host

    def send(self, sender: Host, packet: bytes) -> None:
        self.recorded.append(packet)
        for host in self.hosts:
            if host is not sender and self.random.random() >= self.loss:
                self._serial += 1
                item = (self.now + LATENCY_S, self._serial, host.number, packet, sender.address, sender.number)
                heapq.heappush(self.wire, item)

    def inject(self, to: Host, packet: bytes, source: str = "10.10.10.250") -> None:
        if to.alive:
            to.receive(packet, IPv4Address(source))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        rounds = 0
        while True:
            rounds += 1
            assert rounds < 1000 * (1 + seconds), "the hosts keep themselves busy"
            times = [host.vhid.next_s for host in self.hosts if host.alive]
            if self.wire:
                times.append(self.wire[0][0])
            upcoming = min(times, default=end + 1)
            if upcoming > end:
                self.now = end
                return
            self.now = max(self.now, upcoming)
            while self.wire and self.wire[0][0] <= self.now:
                _at, _serial, number, packet, source, sender = heapq.heappop(self.wire)
                host = self.hosts[number - 1]
                if host.alive and self.part[number] == self.part[sender]:
                    host.receive(packet, source)
            for host in self.hosts:
                if host.alive and host.vhid.next_s <= self.now:
                    host.tick()

    def masters(self) -> list[Host]:
        return [host for host in self.hosts if host.alive and host.vhid.state is State.MASTER]
