"""A ZFS pool, of the kernel or of zfs-fuse: `zpool import -f` and `zpool export`, with the article's log lines.

The import looks for devices in /dev/hast only, so that a stale copy of the pool elsewhere is never taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from hast.config.failover_model import Pool
from hast.failover import holders, mounts
from hast.failover.commands import LATE
from hast.failover.log import POOL_TAG
from hast.failover.part import Context, Part, PartError

LOOK_S = 2.0
"""Time for a look even when the part's own time is over: a short one would only say that nothing can be told."""


class ZfsPool(Part):
    """One pool. `directory` holds its devices."""

    def __init__(self, pool: Pool, directory: str) -> None:
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._directory = directory

    def is_up(self, context: Context) -> bool | None:
        """Whether the pool is imported. ZFS that is not loaded has no pools. Raises PartError when ZFS hangs."""
        result = context.commands.run(("zpool", "list", "-H", "-o", "name"), max(context.left_s(), LOOK_S))
        if result.code == LATE:
            raise PartError(f"zpool list hangs: {result.problem()}")
        return result.code == 0 and self._pool.name in result.output.split()

    def ailment(self, context: Context) -> str:
        """Any health but ONLINE."""
        name = self._pool.name
        result = context.commands.run(("zpool", "list", "-H", "-o", "health", name), max(context.left_s(), LOOK_S))
        if result.code != 0:
            return f"imported, but its health is not known: {result.problem()}"
        health = result.output.strip()
        return "" if health == "ONLINE" else f"imported, but {health}; see zpool status {name}"

    def up(self, context: Context) -> None:
        """Import, by force since the pool remembers the other node."""
        context.log.debug("Importing Pool")
        force = ("-f",) if self._pool.force else ()
        options = ("-o", self._pool.options) if self._pool.options else ()
        argv = ("zpool", "import", *force, *options, "-d", self._directory, self._pool.name)
        result = context.commands.run(argv, context.left_s())
        if result.code != 0:
            self._fail(context, f"ZFS pool import for resource {self._pool.name} failed: {result.problem()}.")
        context.log.debug(f"ZFS pool for resource {self._pool.name} imported.", POOL_TAG)

    def down(self, context: Context) -> None:
        """Export; by force when it stays busy, after its users were ended if the configuration says so.

        Not by force at first: zfs-fuse then only hides the mount, and with it who uses it.
        """
        name = self._pool.name
        argv = ("zpool", "export", name)
        try:
            holders.release(
                context,
                f"Pool {name}",
                lambda: context.commands.run(argv, context.left_s()),
                self._holders,
                self._pool.kill_after_s,
            )
        except PartError as error:
            forced = self._pool.force and self._export_by_force(context)
            if not forced:
                self._fail(context, f"Unable to export pool for resource {name}: {error}.")
        context.log.debug(f"ZFS pool for resource {name} exported.", POOL_TAG)

    def _export_by_force(self, context: Context) -> bool:
        until_s = context.left_s() - holders.GRACE_S
        while True:
            if context.ok("zpool", "export", "-f", self._pool.name) or not self.is_up(context):
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
