"""The single steps from which device attachments are made: helper processes, FUSE mounts, links, records.

Called in the supervisor. A step that could touch a device or a mounted file runs in a helper process with a deadline;
the system calls made directly here (mount, lazy unmount, the abort file) do not wait for a FUSE server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.daemon.waiting import READY, START_DEADLINE_S
from hast.device import mount_helper

KILL_WAIT_S = 0.5
"""How long a killed helper may take to die before it is left behind."""
CONNECTIONS = Path("/sys/fs/fuse/connections")

log = logging.getLogger("hast.device")


class DeviceError(Exception):
    """A device cannot be attached or detached; `str()` is one line that says what, why, and what to do."""


def helper_command(helper: str, *arguments: object) -> list[str]:
    """Command line of a helper beside this module, by the bare interpreter."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name(helper)), *map(str, arguments)]


loop_command = partial(helper_command, "device_helper.py")
"""Of the loop helper: its command, and what that takes."""


def kernel_version(release: str | None = None) -> tuple[int, int, int]:
    """Version of the running kernel, or of this release; (0, 0, 0) when it is not understood."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", os.uname().release if release is None else release)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


async def run_helper(
    command: Sequence[str], deadline_s: float, descriptors: Sequence[int] = (), stdin: int | None = None
) -> dict[str, Any]:
    """Run a helper and return the JSON object it printed. Raises DeviceError; a stuck helper is killed, or left.

    The deadline begins when it says that it is ready: a busy host takes long to start a process, and has
    START_DEADLINE_S for that.
    """
    process = await _begin(command, descriptors, stdin)
    async with _ended_if_late(process, f"its helper process did not start within {START_DEADLINE_S:g} s"):
        assert process.stdout is not None
        async with asyncio.timeout(START_DEADLINE_S):
            await process.stdout.readline()
    async with _ended_if_late(process, f"no answer from the kernel within {deadline_s:g} s"):
        async with asyncio.timeout(deadline_s):
            out, err = await process.communicate()
    return _result(process, out, err)


async def run_within(command: Sequence[str], deadline_s: float) -> dict[str, Any]:
    """The same with one deadline for all, the start too: for programs that are not ours, and for letting go, whose
    whole time is promised to the peer. Raises DeviceError."""
    process = await _begin(command)
    async with _ended_if_late(process, f"no answer within {deadline_s:g} s"):
        async with asyncio.timeout(deadline_s):
            out, err = await process.communicate()
    return _result(process, out.removeprefix(READY), err)


async def _begin(
    command: Sequence[str], descriptors: Sequence[int] = (), stdin: int | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(descriptors),
    )


@contextlib.asynccontextmanager
async def _ended_if_late(process: asyncio.subprocess.Process, failure: str) -> AsyncIterator[None]:
    try:
        yield
    except TimeoutError:
        await _end_helper(process)
        raise DeviceError(failure) from None
    except asyncio.CancelledError:
        await _end_helper(process)
        raise


def _result(process: asyncio.subprocess.Process, out: bytes, err: bytes) -> dict[str, Any]:
    if process.returncode:
        lines = err.decode(errors="replace").strip().splitlines() or [f"helper ended with {process.returncode}"]
        raise DeviceError(lines[-1])
    result = json.loads(out or b"{}")
    assert isinstance(result, dict)
    return result


async def written_back(node: str, link: Path, deadline_s: float) -> bool:
    """Write out what the kernel cached for a device. False while somebody has it mounted. Raises nothing."""
    try:
        in_use = (await run_within(loop_command("writeback", node), deadline_s)).get("in_use", False)
    except DeviceError as error:
        log.warning("Unable to write back %s: %s.", node, error)
        return False
    if in_use:
        log.warning("%s is still in use; its users will get errors.", link)
    return not in_use


async def _end_helper(process: asyncio.subprocess.Process) -> None:
    try:
        process.kill()
        await asyncio.wait_for(process.wait(), KILL_WAIT_S)
    except ProcessLookupError:
        pass
    except TimeoutError:
        log.warning("Helper process %d is stuck in the kernel and is left behind.", process.pid)


def open_fuse() -> int:
    """A descriptor for a FUSE server. Raises OSError."""
    return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)


def mount_fuse(directory: Path) -> int:
    """Open /dev/fuse and mount it on `directory`; returns the descriptor. Raises OSError. The server need not run."""
    descriptor = open_fuse()
    try:
        mount_helper.mount(descriptor, str(directory))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unmount(directory: Path) -> None:
    """Take the mount out of the tree at once; the kernel forgets it when its last user is gone. Raises OSError."""
    mount_helper.unmount(str(directory))


def mount_minor(directory: Path) -> int | None:
    """Minor number of the newest file system mounted on `directory`, which names its FUSE connection."""
    minor = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        if _unescape(fields[4]) == str(directory):
            minor = int(fields[2].split(":")[1])
    return minor


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def abort_by_fusectl(minor: int) -> bool:
    """Make everything that waits for this FUSE server fail now. False when the connection is already gone, or nobody
    has mounted fusectl."""
    try:
        (CONNECTIONS / str(minor) / "abort").write_text("1")
        return True
    except OSError:
        return False


def abort_connection(minor: int) -> bool:
    """The same also where fusectl is not mounted."""
    scratch = paths.run_directory() / f"fusectl.{os.getpid()}"
    return abort_by_fusectl(minor) or mount_helper.abort_by_own_mount(minor, str(scratch))


def make_link(link: Path, target: str) -> None:
    """Point /dev/hast/NAME at a device, replacing a link of ours. Raises DeviceError."""
    if os.path.lexists(link) and not link.is_symlink():
        raise DeviceError(f"{link} exists and is not a link made by hastd; remove it.")
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.rename(link)
    except OSError as error:
        raise DeviceError(f"Unable to create {link}: {error.strerror}.") from None


def remove_link(link: Path) -> None:
    """Remove /dev/hast/NAME, and /dev/hast when it is empty then."""
    if link.is_symlink():
        link.unlink(missing_ok=True)
    top = paths.device_directory()
    directory = link.parent
    while directory.is_relative_to(top):
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent


class Record:
    """What was made for a resource, on file before it is made, so that a later hastd can undo it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, str] = {}

    @classmethod
    def of(cls, resource_name: str) -> Record:
        return cls(paths.resource_file(resource_name, "device"))

    def update(self, **values: str) -> None:
        """Add values and write the file. Raises DeviceError."""
        self.values |= values
        temporary = self.path.with_name(f"{self.path.name}~")
        try:
            paths.make_run_directory()
            temporary.write_text(json.dumps(self.values))
            temporary.rename(self.path)
        except OSError as error:
            raise DeviceError(f"Unable to write {self.path}: {error.strerror}.") from None

    def load(self) -> bool:
        """Read the file; False when it is absent or damaged."""
        try:
            values = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return False
        self.values = {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}
        return bool(self.values)

    def remove(self) -> None:
        """Raises nothing: a record of what is gone is undone once more, by the next hastd."""
        self.values = {}
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("Unable to remove %s: %s.", self.path, error.strerror)
