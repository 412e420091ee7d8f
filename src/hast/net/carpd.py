"""carpd: brings together netlink, raw sockets, the elections of all vhids, hastd's word on the data, and the control
socket. One event loop, no threads. Decides nothing that an election decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hast.config.carp_model import DEFAULT_CARP_CONTROL, CarpConfiguration
from hast.config.model import ConfigError
from hast.daemon.notify import Notifier
from hast.daemon.paths import carpd_socket, run_directory
from hast.daemon.private_file import complaint
from hast.election.carp_types import State, StateChanged
from hast.election.demotion import BY_HAND, MAX_SKEW, Demotion
from hast.format import carp
from hast.net.control import ControlServer
from hast.net.data import Copy, DataWatcher
from hast.net.events import events_of
from hast.net.group import Group
from hast.net.netlink import Interface, LinkView, Netlink, NetworkError
from hast.net.record import AddressRecord
from hast.net.sockets import SegmentSockets

PASSWORDS = "passwords"
"""What carp.conf has to hide."""
LOOK_AGAIN_S = 5.0
"""Links and addresses are looked at this often even when the kernel tells of no change."""
RECORD_NAME = "carpd-addresses.json"
MAX_DEMOTION = 100_000
MAX_LEAVE_S = 3600.0
KEEP_S = 10.0
"""An end within this time after `keep` is the first half of a restart."""
ORDERS: dict[str, State | None] = {"master": State.MASTER, "backup": State.BACKUP, "auto": None}

_log = logging.getLogger("hast.carpd")


def control_path(configuration: CarpConfiguration) -> str:
    """The control socket: as configured, else carpd.sock in the run directory."""
    if configuration.control != DEFAULT_CARP_CONTROL:
        return configuration.control
    return str(carpd_socket())


def vhids(count: int) -> str:
    """`1 vhid`, `2 vhids`."""
    return f"{count} vhid{'' if count == 1 else 's'}"


class Carpd:
    """The daemon. `load` reads the configuration again; `sock` is the listening control socket."""

    def __init__(
        self,
        configuration: CarpConfiguration,
        load: Callable[[], CarpConfiguration],
        sock: socket.socket,
        hastd_control: str,
        notifier: Notifier,
    ) -> None:
        self._configuration = configuration
        self._load = load
        self._hastd_control = hastd_control
        self._notifier = notifier
        self._demotion = Demotion()
        self._netlink = Netlink()
        self._record = AddressRecord(run_directory() / RECORD_NAME)
        self._groups: list[Group] = []
        self._segments: dict[str, SegmentSockets] = {}
        self._links: dict[str, LinkView] = {}
        self._dropped: dict[str, Counter[str]] = {}
        self._complaints: set[str] = set()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._previous: dict[str, State] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._data: DataWatcher | None = None
        self._copies: dict[str, Copy] = {}
        self._keep_until_s = 0.0
        self._left: set[Interface] = set()
        """Addresses that an earlier carpd held until it was killed."""
        self._reloading = asyncio.Lock()
        self._control = ControlServer(sock, self._command, self._current_events)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises OSError and NetworkError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        tasks: set[asyncio.Task[str | None]] = set()

        def hang_up() -> None:
            task = loop.create_task(self.reload())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        try:
            await self._netlink.open(self._changed.set)
            self._links = await self._netlink.look()
            await self._remove_leftovers()
            self._links = await self._netlink.look()
            self._set_up(self._configuration)
            self._apply_links()
            await self._control.start()
            self._changed.set()
            _log.info("carpd is ready: %s.", vhids(len(self._groups)))
            self._notifier.ready(f"{vhids(len(self._groups))}.")
            await self._follow_links()
        finally:
            self._notifier.stopping()
            await self._stop()

    async def reload(self) -> str | None:
        """Read the configuration again; vhids that are still there keep their state. None, or why it was refused."""
        async with self._reloading:
            try:
                configuration = await asyncio.get_running_loop().run_in_executor(None, self._load)
            except ConfigError as error:
                _log.error("Configuration not reloaded: %s", error)
                return str(error)
            leaving = [group for group in self._groups if not any(map(group.take, configuration.groups))]
            self._groups = [group for group in self._groups if group not in leaving]
            await asyncio.gather(*(group.stop() for group in leaving))
            if control_path(configuration) != control_path(self._configuration):
                _log.warning("The control socket changes only when carpd is started again.")
            self._set_up(configuration)
            self._changed.set()
            _log.info("Configuration reloaded: %s, %d stopped.", vhids(len(self._groups)), len(leaving))
            return None

    def _set_up(self, configuration: CarpConfiguration) -> None:
        """Make the groups that are not there yet, in file order, and watch the data of all."""
        self._configuration = configuration
        if said := complaint(configuration.path, PASSWORDS):
            _log.warning("%s", said)
        existing = {group.config: group for group in self._groups}
        self._groups = [
            existing.get(config)
            or Group(
                config,
                self._demotion,
                self._netlink,
                self._record,
                self._published,
                self._demotion_changed,
                was_master=not self._left.isdisjoint(config.addresses),
            )
            for config in configuration.groups
        ]
        if self._watcher is not None:
            self._watcher.cancel()
        names = [name for config in configuration.groups for name in config.resources]
        self._data = DataWatcher(self._hastd_control, names, self._data_reported)
        self._watcher = asyncio.get_running_loop().create_task(self._data.run(), name="data")

    # Links

    async def _follow_links(self) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        look_again_s = min(LOOK_AGAIN_S, self._notifier.beat_s or LOOK_AGAIN_S)
        while not stopping.done():
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({changed, stopping}, timeout=look_again_s, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if stopping.done():
                return
            self._changed.clear()
            try:
                self._links = await self._netlink.look()
            except NetworkError as error:
                _log.error("Unable to %s.", error)
                await asyncio.sleep(1.0)
                self._changed.set()
                continue
            self._apply_links()
            self._notifier.alive()

    def _apply_links(self) -> None:
        wanted = {group.config.interface for group in self._groups}
        for name in set(self._segments) - wanted:
            self._close_segment(name)
        demoted = False
        for name in sorted(wanted):
            link = self._links.get(name)
            segment = self._segments.get(name)
            if segment is not None and (link is None or link.index != segment.index):
                self._close_segment(name)
            if link is not None and name not in self._segments:
                self._open_segment(link)
            if link is None:
                self._complain(name, f"There is no interface {name}: its vhids wait for it.")
            up = link is not None and link.up and name in self._segments
            demoted = self._demotion.set(f"link:{name}", 0 if up else MAX_SKEW) or demoted
        for reason in [r for r in self._demotion.reasons if r.startswith("link:") and r[5:] not in wanted]:
            demoted = self._demotion.set(reason, 0) or demoted
        virtual = frozenset(ip for group in self._groups for ip in group.virtual)
        for group in self._groups:
            name = group.config.interface
            segment = self._segments.get(name)
            group.interface(self._links.get(name), segment, virtual)
        if demoted:
            self._demotion_changed()

    def _open_segment(self, link: LinkView) -> None:
        try:
            sockets = SegmentSockets(link.name, link.index)
        except OSError as error:
            self._complain(link.name, f"Unable to open CARP sockets on {link.name}: {error.strerror}.")
            return
        self._complaints.discard(link.name)
        self._segments[link.name] = sockets
        loop = asyncio.get_running_loop()
        for sock in sockets.readable:
            loop.add_reader(sock.fileno(), self._readable, link.name, sock)

    def _complain(self, name: str, text: str) -> None:
        """Log what is wrong with an interface, once until it was good again."""
        if name not in self._complaints:
            self._complaints.add(name)
            _log.error("%s", text)

    def _close_segment(self, name: str) -> None:
        segment = self._segments.pop(name)
        for sock in segment.readable:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        segment.close()

    def _readable(self, name: str, sock: socket.socket) -> None:
        segment = self._segments.get(name)
        if segment is None:
            return
        for source, ttl, payload in segment.receive(sock):
            self._packet(name, source, ttl, payload)

    def _packet(self, name: str, source: IPv4Address | IPv6Address, ttl: int, payload: bytes) -> None:
        try:
            advertisement = carp.decode(payload, ttl)
        except carp.CarpError as error:
            self._drop(name, error.kind, f"{source}: {error}")
            return
        for group in self._groups:
            if group.config.interface == name and group.config.vhid == advertisement.vhid:
                group.heard(advertisement, source)
                return
        self._drop(name, "unknown-vhid", f"{source}: vhid {advertisement.vhid} is not configured on {name}")

    def _drop(self, name: str, kind: str, text: str) -> None:
        counter = self._dropped.setdefault(name, Counter())
        counter[kind] += 1
        count = counter[kind]
        if count & (count - 1) == 0:
            level = logging.DEBUG if kind == "unknown-vhid" else logging.WARNING
            _log.log(level, "Advertisement ignored: %s (%d so far).", text, count)

    # Addresses of an earlier carpd

    async def _remove_leftovers(self) -> None:
        """Virtual addresses that are set although nobody can have set them but a carpd that was killed."""
        virtual = {address.ip for config in self._configuration.groups for address in config.addresses}
        recorded = self._record.entries
        for link in self._links.values():
            for view in link.addresses:
                if view.ours or view.interface.ip in virtual or (link.name, view.interface) in recorded:
                    _log.warning("Removing %s from %s, left by an earlier carpd.", view.interface, link.name)
                    self._left.add(view.interface)
                    await self._netlink.remove(link, view.interface)
        for name, address in recorded:
            self._left.add(address)
            self._record.discard(name, address)

    # What groups and the watcher tell

    def _published(self, group: Group, change: StateChanged) -> None:
        previous = self._previous.get(group.label)
        self._previous[group.label] = change.state
        for event in events_of(group.config, change.state, previous, change.reason, time.time()):
            self._control.publish(event)

    def _demotion_changed(self) -> None:
        reasons = ", ".join(f"{reason} {amount}" for reason, amount in sorted(self._demotion.reasons.items()))
        _log.info("Demotion of this host: %d%s.", self._demotion.total, f" ({reasons})" if reasons else "")
        for group in self._groups:
            group.demoted()

    def _data_reported(self, copies: dict[str, Copy]) -> None:
        self._copies = copies
        for group in self._groups:
            group.data(copies)

    def _current_events(self) -> list[dict[str, Any]]:
        return [
            event
            for group in self._groups
            if group.vhid.settled
            for event in events_of(group.config, group.vhid.state, None, "present state", time.time(), current=True)
        ]

    # Commands

    def _command(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["command"]:
            case "status":
                return self._status()
            case "state":
                return {"error": self._order(request)}
            case "plan-state":
                return self._foresee(request)
            case "demote":
                return self._demote(request.get("amount"))
            case "undemote":
                if self._demotion.set(BY_HAND, 0):
                    self._demotion_changed()
                return {"error": None, "demotion": self._demotion.total}
            case "leave":
                return {"error": self._leave(request.get("seconds"))}
            case "keep":
                self._keep_until_s = time.monotonic() + KEEP_S
                return {"error": None}
        return {"error": f"unknown command {request['command'][:64]!r}"}

    def _status(self) -> dict[str, Any]:
        return {
            "error": None,
            "node": platform.node(),
            "config": self._configuration.path,
            "demotion": self._demotion.total,
            "demotions": dict(self._demotion.reasons),
            "hastd": None if self._data is None else self._data.error,
            "copies": {name: str(copy.state) for name, copy in self._copies.items()},
            "vhids": [group.status() for group in self._groups],
            "dropped": {name: dict(counter) for name, counter in self._dropped.items()},
        }

    def _order(self, request: dict[str, Any]) -> str | None:
        meant = self._meant(request)
        return meant if isinstance(meant, str) else meant.order(ORDERS[str(request["state"])])

    def _foresee(self, request: dict[str, Any]) -> dict[str, Any]:
        """What `state` would do."""
        meant = self._meant(request)
        if isinstance(meant, str):
            return {"error": meant}
        refusal = meant.vhid.why_not_by_hand
        steps = [] if refusal else meant.vhid.foresee(ORDERS[str(request["state"])])
        return {"error": refusal, "steps": steps}

    def _meant(self, request: dict[str, Any]) -> Group | str:
        """The vhid that an order is for, or why there is none."""
        wanted = request.get("state")
        if not isinstance(wanted, str) or wanted not in ORDERS:
            return "the state must be master, backup or auto"
        number, interface = request.get("vhid"), request.get("interface")
        meant = [
            group
            for group in self._groups
            if group.config.vhid == number and interface in (None, group.config.interface)
        ]
        if len(meant) != 1:
            on = f" on {interface}" if interface else ""
            return (
                f"vhid {number}{on} is configured {len(meant)} times; name it as VHID@INTERFACE"
                if meant
                else (f"vhid {number}{on} is not configured")
            )
        return meant[0]

    def _demote(self, amount: Any) -> dict[str, Any]:
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= MAX_DEMOTION:
            return {"error": f"the amount must be a number from 0 to {MAX_DEMOTION}"}
        if self._demotion.set(BY_HAND, amount):
            self._demotion_changed()
        return {"error": None, "demotion": self._demotion.total}

    def _leave(self, seconds: Any) -> str | None:
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_LEAVE_S:
            return f"the time must be a number of seconds from 0 to {MAX_LEAVE_S:g}"
        _log.info("This host %s.", f"leaves its addresses to the other for {seconds:g} s" if seconds else "stays")
        for group in self._groups:
            group.leave(seconds)
        return None

    async def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        quietly = time.monotonic() < self._keep_until_s
        if quietly:
            _log.info("The next carpd goes on with what this one holds.")
        await asyncio.gather(*(group.stop(quietly) for group in self._groups), return_exceptions=True)
        await self._control.close()
        for name in list(self._segments):
            self._close_segment(name)
        with contextlib.suppress(OSError):
            await self._netlink.close()
