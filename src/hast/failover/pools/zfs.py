"""A ZFS pool, of the kernel or of zfs-fuse: `zpool import -f` and `zpool export -f`, with the article's log lines.

The import looks for devices in /dev/hast only, so that a stale copy of the pool elsewhere is never taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from hast.config.failover_model import Pool
from hast.failover import holders, mounts
from hast.failover.commands import LATE
from hast.failover.log import POOL_TAG
from hast.failover.part import Context, PartError


class ZfsPool:
    """One pool. `directory` holds its devices."""

    def __init__(self, pool: Pool, directory: str) -> None:
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._directory = directory

    def is_up(self, context: Context) -> bool | None:
        """Whether the pool is imported. ZFS that is not loaded has no pools. Raises PartError when ZFS hangs."""
        result = context.commands.run(("zpool", "list", "-H", "-o", "name"), context.left_s())
        if result.code == LATE:
            raise PartError(f"zpool list hangs: {result.problem()}")
        return result.code == 0 and self._pool.name in result.output.split()

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
        """Export, by force. When it stays busy, end the processes that use it if the configuration says so."""
        force = ("-f",) if self._pool.force else ()
        argv = ("zpool", "export", *force, self._pool.name)
        try:
            holders.release(
                context,
                f"Pool {self._pool.name}",
                lambda: context.commands.run(argv, context.left_s()),
                self._holders,
                self._pool.kill_after_s,
            )
        except PartError as error:
            self._fail(context, f"Unable to export pool for resource {self._pool.name}: {error}.")
        context.log.debug(f"ZFS pool for resource {self._pool.name} exported.", POOL_TAG)

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        force = "-f " if self._pool.force else ""
        if up:
            return f"zpool import {force}-d {self._directory} {self._pool.name}"
        return f"zpool export {force}{self._pool.name}"

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
