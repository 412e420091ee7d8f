"""One vhid of carpd: its election, and the carrying out of what the election wants.

Effects are carried out strictly in order by one task, so that an address is gone before the goodbye is sent. Addresses
are compared with the kernel's whenever those may have changed, and set right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hast.config.carp_model import VirtualHost
from hast.daemon import logs
from hast.election.carp import Vhid
from hast.election.carp_types import (
    Advertise,
    Announce,
    Effect,
    Note,
    SetAddresses,
    Settings,
    Settled,
    State,
    StateChanged,
)
from hast.election.counter import COUNTS_PER_US
from hast.election.demotion import CopyState, Demotion, judge
from hast.election.replay import ReplayGuard
from hast.election.signing import OVERLAP_S, Signing
from hast.format.carp import Advertisement, Authenticator, encode
from hast.net.counter_memory import CounterMemory
from hast.net.data import Copy
from hast.net.netlink import Interface, LinkView, Netlink, NetworkError, source_address
from hast.net.record import AddressRecord
from hast.net.sockets import SegmentSockets

_log = logging.getLogger("hast.carpd")
_DRAIN_DEADLINE_S = 5.0
SPARE_LIFETIME_S = 1
"""Addresses outlive the master-down time of the backups by this much, so that one late renewal does no harm."""


def settings_of(config: VirtualHost, was_master: bool) -> Settings:
    """What the election knows of a configured vhid."""
    label = f"{config.vhid}@{config.interface}"
    return Settings(label, config.advbase_s, config.advskew, config.preempt, bool(config.resources), was_master)


def identity(config: VirtualHost) -> tuple[str, int, str]:
    """What cannot change while a vhid keeps its state: its name and its place."""
    return config.name, config.vhid, config.interface


def signature_of(config: VirtualHost) -> Authenticator:
    """What its advertisements are signed with."""
    return Authenticator(config.password.encode(), config.vhid, (each.ip for each in config.addresses))


def changes(before: VirtualHost, after: VirtualHost) -> str:
    """What differs, for the log. A pass phrase is named and never shown."""
    texts = []
    for field in fields(VirtualHost):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        shown = "" if field.name == "password" else f" {_text(old)} -> {_text(new)}"
        texts.append(f"{field.name.removesuffix('_s')}{shown}")
    return ", ".join(texts)


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


class Group:
    """A configured vhid. `published(group, change)` is called at every change of state that is to be acted on.

    `was_master`: an earlier carpd of this host was killed while it held the addresses.
    """

    def __init__(
        self,
        config: VirtualHost,
        demotion: Demotion,
        netlink: Netlink,
        record: AddressRecord,
        published: Callable[[Group, StateChanged], None],
        demotion_changed: Callable[[], None],
        was_master: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.since_s = time.time()
        self._netlink = netlink
        self._record = record
        self._published = published
        self._demotion_changed = demotion_changed
        self._link: LinkView | None = None
        self._sockets: SegmentSockets | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[Effect] = asyncio.Queue()
        self._failed_address = ""
        self._dropped: list[Interface] = []
        """Addresses that are no longer configured and not taken away yet."""
        self.vhid = Vhid(
            settings_of(config, was_master),
            Signing(signature_of(config)),
            demotion,
            loop.time(),
            time.time_ns() // 1000 * COUNTS_PER_US + secrets.randbelow(COUNTS_PER_US),
            guard=self._guard(),
        )
        self._carrier = loop.create_task(self._carry_out(), name=f"carp-{self.label}")

    def _guard(self) -> ReplayGuard:
        """With the memory of the carpd before this one."""
        try:
            memory = CounterMemory(self.label)
        except OSError as error:
            _log.warning(
                "%s: what was heard is not remembered beyond this process: %s: %s.",
                self.label,
                error.filename,
                error.strerror,
            )
            return ReplayGuard()
        return ReplayGuard(memory.seen(), memory.note)

    @property
    def label(self) -> str:
        """VHID@INTERFACE."""
        return f"{self.config.vhid}@{self.config.interface}"

    @property
    def virtual(self) -> frozenset[IPv4Address | IPv6Address]:
        return frozenset(each.ip for each in self.config.addresses)

    def take(self, config: VirtualHost) -> bool:
        """Take another configuration of the same vhid and keep the state; False when it is not the same vhid."""
        if identity(config) != identity(self.config):
            return False
        if config != self.config:
            _log.log(logs.NOTICE, "%s: changed: %s.", self.label, changes(self.config, config))
            before, self.config = self.config, config
            self.vhid.reconfigure(settings_of(config, was_master=False), self._now())
            self._sign(before)
            self._move_addresses(before)
            self.pump()
        return True

    def _sign(self, before: VirtualHost) -> None:
        if (before.password, before.addresses) == (self.config.password, self.config.addresses):
            return
        self.vhid.signing.change(signature_of(self.config), self._now())
        _log.log(
            logs.NOTICE, "%s: the former pass phrase and addresses are understood for %g s.", self.label, OVERLAP_S
        )

    def _move_addresses(self, before: VirtualHost) -> None:
        """Those that are no longer configured go; new ones come at once where this host is master."""
        dropped = [address for address in before.addresses if address not in self.config.addresses]
        added = [address for address in self.config.addresses if address not in before.addresses]
        self._dropped += dropped
        if dropped or added:
            master = self.vhid.state is State.MASTER
            self.vhid.effects += [SetAddresses(master), *([Announce()] if master and added else [])]

    # Happenings

    def interface(self, link: LinkView | None, sockets: SegmentSockets | None, virtual: frozenset[Any]) -> None:
        """The interface as it is now; None when it is gone. `virtual` are all virtual addresses of this host."""
        self._link, self._sockets = link, sockets
        self._sources = {version: source_address(link, version, virtual) if link else None for version in (4, 6)}
        up = link is not None and link.up and sockets is not None
        if up != (self.vhid.state is not State.INIT):
            self.vhid.link(up, self._now(), "link up" if up else "interface gone" if link is None else "link down")
            self.pump()
        self._queue.put_nowait(SetAddresses(self.vhid.state is State.MASTER))

    def heard(self, advertisement: Advertisement, source: IPv4Address | IPv6Address) -> None:
        own = self._sources.get(source.version)
        self.vhid.advertisement(advertisement, source, own, self._now())
        self.pump()

    def data(self, copies: dict[str, Copy]) -> None:
        """HAST resources as hastd knows them, among them those of this vhid."""
        if self.config.resources:
            wanted = {name: copies.get(name, Copy(CopyState.NOT_CONFIGURED)) for name in self.config.resources}
            states = ((name, copy.state) for name, copy in wanted.items())
            self.vhid.data_report(judge(states, (copy.service for copy in wanted.values())), self._now())
            self.pump()

    def demoted(self) -> None:
        """The host's demotion changed."""
        self.vhid.demotion_changed(self._now())
        self.pump()

    def order(self, state: State | None) -> str | None:
        """By hand. None when done, else why not."""
        refusal = self.vhid.by_hand(state, self._now())
        self.pump()
        return refusal

    def leave(self, seconds: float) -> None:
        """Give the addresses to another host, and take them from nobody for so long."""
        self.vhid.leave(seconds, self._now())
        self.pump()

    async def stop(self, quietly: bool = False) -> None:
        """Say goodbye, remove the addresses; takes at most a few seconds. `quietly`: as if killed."""
        if not quietly:
            self.vhid.stop(self._now())
            self.pump()
        try:
            async with asyncio.timeout(_DRAIN_DEADLINE_S):
                await self._queue.join()
        except TimeoutError:
            _log.error("%s: not everything was done within %g s at stop.", self.label, _DRAIN_DEADLINE_S)
        self._carrier.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # Carrying out

    def pump(self) -> None:
        """Queue what the election wants done and set the timer."""
        for effect in self.vhid.effects:
            self._queue.put_nowait(effect)
        self.vhid.effects.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.vhid.next_s != float("inf"):
            self._timer = asyncio.get_running_loop().call_at(self.vhid.next_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.vhid.tick(self._now())
        self.pump()

    async def _carry_out(self) -> None:
        while True:
            effect = await self._queue.get()
            try:
                await self._one(effect)
            except Exception:
                _log.exception("%s: %s failed", self.label, type(effect).__name__)
            finally:
                self._queue.task_done()

    async def _one(self, effect: Effect) -> None:
        match effect:
            case Advertise(advbase, advskew):
                self._advertise(advbase, advskew)
                if self.vhid.state is State.MASTER:
                    await self._hold_addresses()
            case SetAddresses(present):
                await self._set_addresses(present)
            case Announce():
                self._announce()
            case StateChanged(state, reason, _settled):
                self.since_s = time.time()
                _log.log(logs.NOTICE, "%s: %s (%s)", self.label, state, reason)
                if effect.settled:
                    self._published(self, effect)
            case Settled(state, reason):
                _log.info("%s: %s is told to others now: %s.", self.label, state, reason)
                self._published(self, StateChanged(state, reason))
            case Note(text, level):
                _log.log(logs.LEVELS[level], "%s: %s.", self.label, text)

    def _advertise(self, advbase: int, advskew: int) -> None:
        ok = self._sockets is not None
        for version in sorted({each.version for each in self.config.addresses}):
            source = self._sources.get(version)
            if source is None and version == 4:
                source = IPv4Address(0)
            try:
                if self._sockets is None or source is None:
                    raise OSError(0, "the interface has no link-local address" if self._sockets else "no interface")
                for key in self.vhid.signing.keys(self._now()):
                    counter = self.vhid.next_counter(self._now())
                    payload = encode(Advertisement(self.config.vhid, advskew, advbase, counter), key)
                    self._sockets.advertise(payload, source, self.config.vhid)
            except OSError as error:
                ok = False
                if self.vhid.counts.send_errors % 100 == 0:
                    _log.warning("%s: advertisement not sent: %s.", self.label, error.strerror)
        if self.vhid.sent(ok):
            self._demotion_changed()

    async def _set_addresses(self, present: bool) -> None:
        if self._link is None:
            return
        dropped, self._dropped = self._dropped, []
        await self._remove(dropped)
        if present:
            there = {view.interface for view in self._link.addresses}
            if not there.issuperset(self.config.addresses):
                await self._hold_addresses()
            return
        await self._remove(self.config.addresses)

    async def _remove(self, addresses: Sequence[Interface]) -> None:
        for address in addresses:
            if (self.config.interface, address) in self._record.entries:
                with self._complaining():
                    assert self._link is not None
                    await self._netlink.remove(self._link, address)
                    self._record.discard(self.config.interface, address)

    async def _hold_addresses(self) -> None:
        """Set the addresses, or let them live on until a backup would have noticed that carpd is gone."""
        if self._link is None:
            return
        lifetime_s = math.ceil(self.vhid.master_down_s) + SPARE_LIFETIME_S
        for address in self.config.addresses:
            with self._complaining():
                self._record.add(self.config.interface, address)
                await self._netlink.hold(self._link, address, lifetime_s)

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        """Log what fails, once until something else fails."""
        try:
            yield
        except (NetworkError, OSError) as error:
            if str(error) != self._failed_address:
                _log.error("%s: %s.", self.label, error)
            self._failed_address = str(error)

    def _announce(self) -> None:
        if self._sockets is None or self._link is None:
            return
        for address in self.config.addresses:
            try:
                self._sockets.announce(address.ip, self._link.mac)
            except OSError as error:
                _log.warning("%s: %s not announced: %s.", self.label, address.ip, error.strerror)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # Status

    def status(self) -> dict[str, Any]:
        """docs/carpd.8.md, "Status"."""
        vhid, config = self.vhid, self.config
        heard = vhid.heard
        return {
            "name": config.name,
            "vhid": config.vhid,
            "interface": config.interface,
            "state": str(vhid.state),
            "link": "missing" if self._link is None else "up" if self._link.up else "down",
            "since": self.since_s,
            "addresses": [str(each) for each in config.addresses],
            "advbase": config.advbase_s,
            "advskew": config.advskew,
            "effective_advskew": vhid.skew,
            "preempt": config.preempt,
            "by_hand": vhid.ordered.lower() if vhid.ordered else None,
            "undecided": vhid.undecided or None,
            "waiting_for": vhid.waiting_for or None,
            "resources": list(config.resources),
            "data": None if vhid.data is None else vhid.data.text or "good",
            "data_demotion": vhid.data.demotion if vhid.data else 0,
            "master": None
            if heard is None or vhid.state is not State.BACKUP
            else {"source": str(heard.source), "interval_s": heard.interval_s, "ago_s": self._now() - heard.at_s},
            "counts": {name: getattr(vhid.counts, name) for name in vhid.counts.__slots__}
            | {"resyncs": vhid.guard.resyncs},
        }
