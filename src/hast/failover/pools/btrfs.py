"""A btrfs over one or several resources: the kernel is told of all its devices, then one of them is mounted.

After the unmount the kernel is made to forget the devices again, so that a demoted device is not kept open.
"""

from __future__ import annotations

from collections.abc import Sequence

from hast.config.failover_model import Pool
from hast.failover import mounts
from hast.failover.part import Context, Part, PartError


class Btrfs(Part):
    """One btrfs, its devices and its mount point."""

    def __init__(self, pool: Pool, devices: Sequence[str]) -> None:
        assert pool.mount is not None
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._devices = tuple(devices)
        self._target = pool.mount

    def is_up(self, context: Context) -> bool | None:
        """Whether it is mounted, be it from devices that are gone. Raises PartError when something else is there."""
        there = mounts.at(self._target)
        if there is None:
            return False
        ours = any(mounts.same_device(there.source, device) for device in self._devices)
        if not ours and not mounts.is_lost(there):
            raise PartError(f"{self._target} holds {there.source}, not {self._pool.name}; unmount it by hand")
        return True

    def ailment(self, context: Context) -> str:
        """A device that is gone, read-only though not asked to be, no answer. Taken down and up again by `master`."""
        there = mounts.at(self._target)
        return mounts.ailment(context, there, self._pool.options) if there is not None else ""

    def up(self, context: Context) -> None:
        """Make all devices known, then mount."""
        context.run("btrfs", "device", "scan", *self._devices)
        if self._pool.fsck:
            context.run("btrfs", "check", "--readonly", self._devices[0])
        mounts.mount(context, self._devices[0], self._target, "btrfs", self._pool.options)
        context.log.debug(f"File system {self._pool.name} mounted on {self._target}.")

    def down(self, context: Context) -> None:
        """Unmount and forget the devices."""
        try:
            mounts.unmount(context, self._target, self._pool.kill_after_s)
        except PartError as error:
            context.log.error(f"Unable to unmount file system {self._pool.name} from {self._target}: {error}.")
            raise
        context.ok("btrfs", "device", "scan", "--forget", *self._devices)
        context.log.debug(f"File system {self._pool.name} unmounted.")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"mount btrfs of {' '.join(self._devices)} on {self._target}" if up else f"umount {self._target}"
