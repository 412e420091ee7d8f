"""A ZFS pool, of the kernel or of zfs-fuse: `zpool import -f` and `zpool export`, with the article's log lines.

The import looks for devices in /dev/hast only, so that a stale copy of the pool elsewhere is never taken, and keeps the
pool out of the cache file, so that no boot imports it behind our back.

A pool that outlived its devices (hastd died under it) is a ghost: it does no I/O, and it remembers the pool as it was.
It is cleared and goes on when the devices are back and nobody has had the pool since. If the other node may have had
it, going on would write old over new: such a ghost is never cleared, only got rid of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hast.config.failover_model import Pool
from hast.daemon import paths
from hast.failover import blockdev, holders, mounts
from hast.failover.commands import LATE, Result
from hast.failover.log import POOL_TAG
from hast.failover.part import Context, Ghost, Part, PartError
from hast.failover.pools import zfs_fuse
from hast.failover.pools.zfs_status import Label, PoolStatus, parse_label, parse_status

LOOK_S = 2.0
"""Time for a look even when the part's own time is over: a short one would only say that nothing can be told."""
LIST_S = 10.0
EXPORT_S = 10.0
"""An export is given up after this long and asked again, unless the pool turns out to be dead."""
CLEARS_S = (1.5, 3.0, 6.0, 10.0)
"""How long each `zpool clear` may take. zfs-fuse finds out about a dead device during one, which then never ends and
is ended by the next, and finds some devices only at the second."""
SETTLE_S = 0.3
SCRUB_S = 5.0
"""For its start, not for the scrub."""
GHOST_SUFFIX = "ghost"


@dataclass(frozen=True, slots=True)
class Look:
    """What is true of an imported pool. `status` None: `zpool status` does not answer."""

    status: PoolStatus | None
    not_ours: tuple[str, ...] = ()
    """Devices of /dev/hast that belong to it and are not those that it has open."""
    missing: tuple[str, ...] = ()
    """Devices that belong to it and are not there, or have nothing behind them."""

    @property
    def is_dead(self) -> bool:
        """Whether it can do no I/O, or cannot do it for long."""
        return self.status is None or self.status.suspended or bool(self.not_ours or self.missing)

    @property
    def is_lost(self) -> bool:
        """Whether its devices are dead, not only its answers slow."""
        return bool(self.not_ours or self.missing) or (self.status is not None and self.status.suspended)

    @property
    def is_well(self) -> bool:
        return not self.is_dead and self.status is not None and self.status.state == "ONLINE"


class ZfsPool(Part):
    """One pool. `directory` holds its devices; `devices` are the paths of the resources that it may lie on."""

    def __init__(self, pool: Pool, directory: str, devices: Sequence[str] = ()) -> None:
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._directory = directory
        self._devices = tuple(devices)
        self._ghost_mark = paths.resource_file(pool.name, GHOST_SUFFIX)

    def is_up(self, context: Context) -> bool | None:
        """Whether the pool is imported. ZFS that is not loaded has no pools. Raises PartError when ZFS hangs."""
        seconds = max(min(context.left_s(), LIST_S), LOOK_S)
        result = context.commands.run(("zpool", "list", "-H", "-o", "name"), seconds)
        if result.code == LATE:
            holds_nothing = bool(self._devices) and not any(map(_is_there, self._devices))
            raise (Ghost if holds_nothing else PartError)(f"zpool list hangs: {result.problem()}")
        return result.code == 0 and self._pool.name in result.output.split()

    def ailment(self, context: Context) -> str:
        """No I/O, devices that are not the present ones, any health but ONLINE."""
        name, look = self._pool.name, self._look(context)
        if look.status is None:
            return f"imported, but zpool status {name} does not answer"
        if look.missing:
            return f"imported, but its devices are gone: {' '.join(look.missing)}"
        if look.not_ours:
            return f"imported, but on devices that are gone, not on those of now: {' '.join(look.not_ours)}"
        if look.status.suspended:
            return f"imported, but its I/O is suspended; see zpool status {name}"
        return "" if look.is_well else f"imported, but {look.status.state}; see zpool status {name}"

    def mend(self, context: Context, ailment: str) -> bool:
        """Clear and go on, if the devices are there and the pool was in nobody else's hands; then scrub."""
        if not self._clear(context):
            return False
        if self._look(context).is_well:
            self._scrub(context)
        return True

    def _clear(self, context: Context) -> bool:
        look = self._look(context)
        if look.is_dead and (look.missing or self._was_elsewhere(context)):
            return False
        for seconds in CLEARS_S:
            context.commands.run(("zpool", "clear", self._pool.name), min(seconds, context.left_s()))
            look = self._look(context)
            if look.is_well:
                context.log.debug(f"ZFS pool for resource {self._pool.name} cleared.", POOL_TAG)
                return True
            context.pause(SETTLE_S)
        if look.is_dead:
            return False
        ailment = self.ailment(context)
        context.log.error(f"Pool {self._pool.name} does I/O, but a person is needed: {ailment}.", POOL_TAG)
        return True

    def _scrub(self, context: Context) -> None:
        """Look for what the failed devices did not take. Not before an export: zfs-fuse forgets a scrub with it."""
        result = context.commands.run(("zpool", "scrub", self._pool.name), min(SCRUB_S, context.left_s()))
        if result.code == 0:
            context.log.debug(f"Scrub of ZFS pool {self._pool.name} started.", POOL_TAG)
        else:
            context.log.error(f"Scrub of ZFS pool {self._pool.name} not started: {result.problem()}.", POOL_TAG)

    def up(self, context: Context) -> None:
        """Import, by force since the pool remembers the other node."""
        context.log.debug("Importing Pool")
        force = ("-f",) if self._pool.force else ()
        options = ("-o", self._pool.options) if self._pool.options else ()
        argv = ("zpool", "import", *force, "-o", "cachefile=none", *options, "-d", self._directory, self._pool.name)
        result = context.commands.run(argv, context.left_s())
        if result.code != 0:
            self._fail(context, f"ZFS pool import for resource {self._pool.name} failed: {result.problem()}.")
        self._ghost_mark.unlink(missing_ok=True)
        context.log.debug(f"ZFS pool for resource {self._pool.name} imported.", POOL_TAG)

    def down(self, context: Context) -> None:
        """Export; by force when it stays busy, after its users were ended if the configuration says so.

        Not by force at first: zfs-fuse then only hides the mount, and with it who uses it. Raises Ghost when it cannot
        be got rid of and lies on nothing that is there.
        """
        name = self._pool.name
        try:
            if self._is_dead(context):
                self._bury(context)
            else:
                attempt = partial(self._export, context)
                holders.release(context, f"Pool {name}", attempt, self._holders, self._pool.kill_after_s)
        except Ghost as error:
            self._ghost(context, error)
        except PartError as error:
            self._down_otherwise(context, error)
        context.log.debug(f"ZFS pool for resource {name} exported.", POOL_TAG)

    def _export(self, context: Context) -> Result:
        """Once, and on while it takes its time; not on when the pool has died on the way."""
        while True:
            result = context.commands.run(("zpool", "export", self._pool.name), min(EXPORT_S, context.left_s()))
            if result.code != LATE or not context.left_s() or self._look(context).is_dead:
                return result

    def _down_otherwise(self, context: Context, error: PartError) -> None:
        """After an export that failed: the pool may have died on the way, or want force."""
        if self.is_up(context) and self._look(context).is_dead:
            try:
                self._bury(context)
            except Ghost as ghost:
                self._ghost(context, ghost)
        elif not (self._pool.force and self._export_by_force(context)):
            self._fail(context, f"Unable to export pool for resource {self._pool.name}: {error}.")

    def _export_by_force(self, context: Context) -> bool:
        until_s = context.left_s() - holders.GRACE_S
        while True:
            argv = ("zpool", "export", "-f", self._pool.name)
            if context.commands.run(argv, min(EXPORT_S, context.left_s())).code == 0 or not self.is_up(context):
                return True
            if context.left_s() <= max(0.0, until_s):
                return False
            context.pause(holders.RETRY_S)

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        force = "-f " if self._pool.force else ""
        if up:
            return f"zpool import {force}-d {self._directory} {self._pool.name}"
        return (
            f"zpool export {self._pool.name}, by force if it stays busy" if force else f"zpool export {self._pool.name}"
        )

    # A pool that outlived its devices

    @property
    def can_hang(self) -> bool:
        """Reads and writes wait for ever, also those of a process that was killed."""
        return True

    def let_go(self, context: Context) -> None:
        """Clear a pool whose devices are dead, where that may be; else end it, so that who uses it gets errors."""
        if self._look(context).is_lost and self._is_dead(context):
            self._bury(context)

    def _look(self, context: Context) -> Look:
        daemon = zfs_fuse.find()
        argv = ("zpool", "status", *(() if daemon else ("-P",)), self._pool.name)
        result = context.commands.run(argv, max(min(context.left_s(), 2 * LOOK_S), LOOK_S))
        try:
            status = parse_status(result.output)
        except ValueError:
            status = None
        if status is None and self._devices and result.code == LATE:
            return Look(None, missing=() if any(map(_is_there, self._devices)) else self._devices)
        listed = {path if path.startswith("/") else f"/dev/{path}" for path, _ in status.vdevs} if status else set()
        mine = [path for path in self._devices if path in listed]
        missing = tuple(path for path in mine if not _is_there(path))
        return Look(status, tuple(p for p in mine if p not in missing and not _is_used(p, daemon)), missing)

    def _is_dead(self, context: Context) -> bool:
        """Whether an export would never end. What can be cleared is, since an export saves what is not written yet."""
        look = self._look(context)
        if not look.is_dead:
            return False
        context.log.error(f"{self.name}: {self.ailment(context)}.")
        return not (self._clear(context) and not self._look(context).is_dead)

    def _was_elsewhere(self, context: Context) -> bool:
        """Whether somebody else may have had the pool since it was imported here. What cannot be told counts as yes."""
        if self._ghost_mark.exists():
            return True
        labels = [self._label(context, path) for path in self._devices]
        found = [label for label in labels if label is not None]
        return not found or any(label.exported or label.host != os.uname().nodename for label in found)

    @staticmethod
    def _label(context: Context, path: str) -> Label | None:
        return parse_label(context.commands.run(("zdb", "-l", path), LOOK_S).output)

    def _bury(self, context: Context) -> None:
        """Get rid of a pool that does no I/O. Raises Ghost when only a restart of the host can."""
        name = self._pool.name
        daemon = zfs_fuse.find()
        if daemon is None:
            raise Ghost(f"pool {name} is dead, and the kernel keeps it until this host is restarted: restart it")
        listed = context.commands.run(("zpool", "list", "-H", "-o", "name"), LOOK_S)
        others = [other for other in listed.output.split() if other != name] if listed.code == 0 else []
        if any(self._is_alive(context, other) for other in others):
            raise Ghost(f"pool {name} is dead, and its zfs-fuse serves other pools too: restart zfs-fuse by hand")
        zfs_fuse.restart(context, daemon)
        if self.is_up(context):
            context.run("zpool", "export", "-f", name, timeout_s=EXPORT_S)

    @staticmethod
    def _is_alive(context: Context, name: str) -> bool:
        try:
            return not parse_status(context.commands.run(("zpool", "status", name), LOOK_S).output).suspended
        except ValueError:
            return False

    def _ghost(self, context: Context, error: Ghost) -> None:
        """Never clear it from now on: this node gives its roles up."""
        try:
            paths.make_run_directory()
            self._ghost_mark.touch()
        except OSError as problem:
            context.log.error(f"{self._ghost_mark} cannot be made: {problem.strerror}.")
        context.log.error(f"{error}.", POOL_TAG)
        raise error

    def _holders(self) -> list[holders.Holder]:
        return [holder for mount in self._mountpoints() for holder in holders.of_mount(mount)]

    def _mountpoints(self) -> Iterable[str]:
        name = self._pool.name
        for entry in mounts.table():
            if entry.source == name or entry.source.startswith(f"{name}/"):
                yield entry.target

    def _fail(self, context: Context, text: str) -> None:
        context.log.error(text, POOL_TAG)
        raise PartError(text)


def _is_there(path: str) -> bool:
    number = blockdev.number_of(path)
    return not blockdev.is_lost(number) if number is not None else Path(path).is_file()


def _is_used(path: str, daemon: int | None) -> bool:
    """Whether the pool has this very device open. The kernel's ZFS has it to itself; zfs-fuse is looked at."""
    try:
        if daemon is not None:
            return holders.has_open(daemon, path)
        if blockdev.number_of(path) is None:
            return True
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return True
    return False
