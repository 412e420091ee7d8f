"""A plain file system on one device: a resource's, or one named by `device`."""

from __future__ import annotations

from hast.config.failover_model import Pool
from hast.failover import mounts
from hast.failover.part import Context, Part, PartError


class Filesystem(Part):
    """One file system and its mount point. `device` is the path to mount."""

    def __init__(self, pool: Pool, device: str) -> None:
        assert pool.mount is not None
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._device = device
        self._target = pool.mount
        self._check = pool.fsck

    def is_up(self, context: Context) -> bool | None:
        """Whether it is mounted, be it from a device that is gone. Raises PartError when something else is there."""
        there = mounts.at(self._target)
        if there is None:
            return False
        if not mounts.same_device(there.source, self._device) and not mounts.is_lost(there):
            raise PartError(f"{self._target} holds {there.source}, not {self._device}; unmount it by hand")
        return True

    def ailment(self, context: Context) -> str:
        """A device that is gone, read-only though not asked to be, no answer."""
        there = mounts.at(self._target)
        return mounts.ailment(context, there, self._pool.options) if there is not None else ""

    def mend(self, context: Context, ailment: str) -> bool:
        """Never in place: what the kernel no longer trusts is unmounted, checked and mounted again."""
        self._check = True
        return False

    def up(self, context: Context) -> None:
        """Check if asked to or after trouble, then mount."""
        if self._check:
            mounts.check(context, self._device, self._pool.fs_type)
        mounts.mount(context, self._device, self._target, self._pool.fs_type, self._pool.options)
        context.log.debug(f"File system {self._pool.name} mounted on {self._target}.")

    def down(self, context: Context) -> None:
        """Unmount, with everything mounted below."""
        try:
            mounts.unmount(context, self._target, self._pool.kill_after_s)
        except PartError as error:
            context.log.error(f"Unable to unmount file system {self._pool.name} from {self._target}: {error}.")
            raise
        context.log.debug(f"File system {self._pool.name} unmounted.")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        if not up:
            return f"umount {self._target}"
        checked = "fsck and " if self._pool.fsck else ""
        return f"{checked}mount {self._device} on {self._target}"
