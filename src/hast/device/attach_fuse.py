"""/dev/hast/NAME as a loop device over the FUSE file that the worker serves; survives the worker's replacement.

The supervisor mounts and keeps the /dev/fuse descriptor; it never opens the file or the loop device itself. The mount
is a private directory whose name is made up anew each time, so that a loop device's backing path tells for certain
whose it is, although loop devices are shared by all hosts and containers of one kernel.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.device import mounting
from hast.device.device_helper import is_over
from hast.device.device_steps import (
    DeviceError,
    Record,
    kernel_version,
    loop_command,
    make_link,
    mount_minor,
    remove_link,
    run_helper,
    run_within,
)

ATTACH_DEADLINE_S = 10.0
DETACH_DEADLINE_S = 5.0
FLUSH_DEADLINE_S = 5.0
RESEND_SINCE_KERNEL = (6, 9)

log = logging.getLogger("hast.device")


def missing_for_fuse() -> str:
    """What keeps this attachment from working here; empty when nothing does."""
    if os.geteuid() != 0:
        return "it needs root"
    for node in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(node, os.R_OK | os.W_OK):
            return f"{node} is missing or cannot be opened"
    return ""


class FuseAttachment:
    """One resource's loop device. Implements `device.Attachment`."""

    kind = "fuse"

    def __init__(self, resource_name: str, provider_name: str) -> None:
        self._name = resource_name
        self._link = paths.device_path(provider_name)
        self._record = Record.of(resource_name)
        self._mount: Path | None = None
        self._descriptor = -1
        self._minor: int | None = None
        self._loop = ""
        self.survives_worker = kernel_version() >= RESEND_SINCE_KERNEL
        """Without the kernel's RESEND, requests in flight at the worker's death hang until `close`."""

    @classmethod
    def adopted(cls, resource_name: str, provider_name: str, descriptor: int, record: Record) -> FuseAttachment:
        """As an earlier hastd made it. Takes the descriptor. Raises DeviceError when it is not there any more."""
        self = cls(resource_name, provider_name)
        self._descriptor = descriptor
        self._record = record
        self._mount = Path(record.values.get("mount", ""))
        self._minor = mount_minor(self._mount)
        self._loop = record.values.get("loop", "")
        if self._minor is None or not self._loop or not is_over(self._loop, self._file):
            os.close(descriptor)
            raise DeviceError(f"The device of {resource_name} is not there any more ({self._loop or self._mount}).")
        return self

    @property
    def node(self) -> str:
        return self._loop

    @property
    def _file(self) -> str:
        return f"{self._mount}/disk"

    def descriptors(self) -> list[int]:
        return [self._descriptor]

    def start_fields(self) -> dict[str, Any]:
        return {"fuse": True}

    async def expect_worker(self) -> None:
        """Nothing to do: requests wait in the descriptor."""

    async def prepare(self) -> None:
        """Mount. Raises DeviceError."""
        mount = paths.resource_file(self._name, f"{secrets.token_hex(4)}.fuse")
        self._record.update(kind=self.kind, mount=str(mount), link=str(self._link))
        try:
            mount.mkdir(mode=0o700)
            self._mount = mount
            self._descriptor = await mounting.mount_fuse(mount)
            self._minor = mount_minor(mount)
        except (OSError, DeviceError) as error:
            await self.close()
            reason = getattr(error, "strerror", None) or error
            raise DeviceError(f"Unable to mount the FUSE file for {self._name}: {reason}.") from None

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str:
        """Loop device and link, over a worker that serves. Returns the link's path. Raises DeviceError."""
        try:
            result = await mounting.attach_loop(self._file, sector_size_bytes, ATTACH_DEADLINE_S)
        except DeviceError as error:
            await self._abort()
            raise DeviceError(f"Unable to attach a loop device to {self._file}: {error}.") from None
        self._loop = str(result["loop"])
        if not result["direct"]:
            log.warning("%s does not use direct I/O; it will be slow.", self._loop)
        self._record.update(loop=self._loop)
        make_link(self._link, self._loop)
        return str(self._link)

    async def worker_replaced(self, worker_pid: int) -> None:
        """Nothing to do: the new worker itself asked the kernel to send again."""

    async def quiesce(self, deadline_s: float = DETACH_DEADLINE_S) -> bool:
        """Remove the link and the loop device while the worker still serves. False when users have it open.

        Those users go on until `close`, and what the kernel cached for them is written out first.
        """
        remove_link(self._link)
        if not self._loop:
            return True
        end = time.monotonic() + deadline_s
        gone = await self._helper("detach", deadline_s)
        if not gone and (left_s := min(FLUSH_DEADLINE_S, end - time.monotonic())) > 0:
            log.warning("%s is still in use; its users will get errors.", self._link)
            await self._helper("flush", left_s)
        return gone

    async def _helper(self, what: str, deadline_s: float) -> bool:
        """Run one of the helper's commands on the loop device; True when it says that the device is gone."""
        try:
            return bool((await run_within(loop_command(what, self._loop, self._file), deadline_s)).get("gone"))
        except DeviceError as error:
            log.warning("Unable to %s %s: %s.", what, self._loop, error)
            return False

    async def _abort(self) -> None:
        if self._minor is not None:
            await mounting.abort_connection(self._minor)

    async def close(self) -> None:
        """Undo everything; open users get errors from here on, nothing waits for them. Raises nothing."""
        remove_link(self._link)
        await self._abort()
        if self._mount is not None:
            await detach_loops(self._mount)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._mount is not None:
            await remove_mount(self._mount)
            self._mount = None
        self._loop = ""
        self._record.remove()


async def detach_loops(mount: Path) -> None:
    """Detach every loop device over the file below `mount`, whose connection must be aborted."""
    file = f"{mount}/disk"
    for entry in Path("/sys/block").glob("loop*"):
        loop = f"/dev/{entry.name}"
        if not is_over(loop, file):
            continue
        try:
            result = await run_helper(loop_command("detach", loop, file), DETACH_DEADLINE_S)
            if not result.get("gone"):
                log.warning("%s is still open; it goes when its last user closes it.", loop)
        except DeviceError as error:
            log.warning("Unable to detach %s: %s.", loop, error)


async def remove_mount(mount: Path) -> None:
    """Unmount lazily, however often it is mounted, and remove the directory."""
    try:
        while mount_minor(mount) is not None:
            await mounting.unmount(mount)
        mount.rmdir()
    except FileNotFoundError:
        pass
    except (OSError, DeviceError) as error:
        log.warning("Unable to remove %s: %s", mount, getattr(error, "strerror", None) or error)


async def clean_up_fuse(mount: Path) -> None:
    """Undo what a killed hastd left at `mount`. Its workers must be gone. Raises nothing."""
    minor = mount_minor(mount)
    if minor is not None:
        await mounting.abort_connection(minor)
    await detach_loops(mount)
    await remove_mount(mount)
