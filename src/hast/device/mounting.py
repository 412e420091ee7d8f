"""Mounts and loop devices for the whole host: made here, or by hast-action where hastd has a mount namespace of its own
and no right to.

What is mounted in the host's namespace appears in hastd's at once, and goes there with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hast.daemon import elsewhere, paths
from hast.device import device_steps
from hast.device.device_steps import DeviceError, helper_command, run_helper

STEP_S = 5.0


async def mount_fuse(directory: Path) -> int:
    """Open /dev/fuse and mount it on `directory`; returns the descriptor. Raises OSError, DeviceError."""
    if not elsewhere.is_used():
        return device_steps.mount_fuse(directory)
    descriptor = device_steps.open_fuse()
    try:
        await _ask("mount", directory, stdin=descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


async def attach_loop(file: str, sector_size_bytes: int, deadline_s: float) -> dict[str, Any]:
    """A loop device over this file, as the helper tells it. Raises DeviceError.

    The kernel names its file by the mount that it was opened through: in a namespace of hastd's own that name would end
    with the last process that saw the mount, at the first upgrade, and nobody would know whose device it is.
    """
    command = elsewhere.through(device_steps.loop_command("attach", file, sector_size_bytes))
    return await run_helper(command, deadline_s)


async def unmount(directory: Path) -> None:
    """Take the mount out of the tree at once. Raises OSError, DeviceError."""
    if elsewhere.is_used():
        await _ask("unmount", directory)
    else:
        device_steps.unmount(directory)


async def abort_connection(minor: int) -> bool:
    """Make everything that waits for this FUSE server fail now. False when the connection is already gone."""
    if device_steps.abort_by_fusectl(minor):
        return True
    if not elsewhere.is_used():
        return device_steps.abort_connection(minor)
    try:
        return bool((await _ask("abort", minor, paths.run_directory() / f"fusectl.{os.getpid()}"))["gone"])
    except DeviceError:
        return False


async def _ask(*words: object, stdin: int | None = None) -> dict[str, Any]:
    return await run_helper(elsewhere.through(helper_command("mount_helper.py", *words)), STEP_S, stdin=stdin)
