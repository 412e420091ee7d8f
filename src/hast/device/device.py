"""Choice of how /dev/hast/NAME is made, the interface of all attachments, and the clean-up of what a killed hastd left.

Order of calls, all in the supervisor: `prepare`, `expect_worker`, start the worker with `descriptors()` after the NBD
listener and `start_fields()`, `attach` once it is ready; when it is dead and reaped `expect_worker`, start another,
`worker_replaced`; at the end `quiesce` while the worker still serves, stop it, `close`, which alone undoes any part of
this. Every step has a deadline; none waits for a user of the device.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from hast.config.model import Device
from hast.daemon import paths
from hast.device.attach_fuse import FuseAttachment, clean_up_fuse, missing_for_fuse
from hast.device.attach_nbd import NbdAttachment, clean_up_nbd, missing_for_nbd
from hast.device.attach_ublk import UblkAttachment, clean_up_ublk, fatal_bug, missing_for_ublk
from hast.device.device_steps import DeviceError, Record, remove_link, run_within

__all__ = ["Attachment", "DeviceError", "NoDevice", "adopt", "choose", "clean_up", "load_modules", "survey"]

KINDS = (Device.UBLK, Device.NBD, Device.FUSE)
"""In the order in which `auto` takes them."""
MODPROBE_DEADLINE_S = 5.0
MODULE_DIRECTORY = Path("/lib/modules", os.uname().release)
MODULES = {Device.UBLK: ("ublk_drv", "/dev/ublk-control"), Device.NBD: ("nbd", "/sys/module/nbd")}
"""Kernel module, and what is there when it is."""

log = logging.getLogger("hast.device")


class Attachment(Protocol):
    """The device of one primary."""

    kind: str
    """ublk, nbd, fuse or none."""
    survives_worker: bool
    """Whether I/O in flight at a worker's death is carried out by the next; if not, `close` and start anew."""

    @property
    def node(self) -> str:
        """The kernel's name of the device while there is one, /dev/loop3; empty otherwise."""
        ...

    def descriptors(self) -> list[int]:
        """What the worker inherits after the NBD listener: the FUSE descriptor, or nothing."""
        ...

    def start_fields(self) -> dict[str, Any]:
        """What the worker is told of the device when it is started."""
        ...

    async def prepare(self) -> None:
        """Before the first worker is started. Raises DeviceError."""
        ...

    async def expect_worker(self) -> None:
        """Before any worker is started; one before it is dead and reaped. Raises DeviceError."""
        ...

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str | None:
        """When the worker serves. Returns the path of the device. Raises DeviceError."""
        ...

    async def worker_replaced(self, worker_pid: int) -> None:
        """When another worker serves in place of one that died. Raises DeviceError."""
        ...

    async def quiesce(self, deadline_s: float = 5.0) -> bool:
        """Take the device away while the worker serves. False when somebody has it open. Raises nothing."""
        ...

    async def close(self) -> None:
        """Undo everything. Raises nothing."""
        ...


class NoDevice:
    """`device none`: users connect to the NBD socket."""

    kind = "none"
    survives_worker = True
    node = ""

    def descriptors(self) -> list[int]:
        return []

    def start_fields(self) -> dict[str, Any]:
        return {}

    async def prepare(self) -> None: ...

    async def expect_worker(self) -> None: ...

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str | None:
        return None

    async def worker_replaced(self, worker_pid: int) -> None: ...

    async def quiesce(self, deadline_s: float = 5.0) -> bool:
        return True

    async def close(self) -> None: ...


async def load_modules(device: Device) -> None:
    """Load the kernel modules that a device could use, where there are any. Ends by its deadline; a stuck modprobe is
    left behind."""
    for kind, (name, present) in MODULES.items():
        if device not in (kind, Device.AUTO) or os.geteuid() or not MODULE_DIRECTORY.exists() or Path(present).exists():
            continue
        try:
            await run_within(["modprobe", "-q", name], MODPROBE_DEADLINE_S)
        except (DeviceError, OSError, ValueError) as error:
            log.debug("modprobe %s: %s", name, error)


def survey() -> list[tuple[Device, str]]:
    """The kinds of device in the order in which `auto` takes them, and why it passes over each, or empty."""
    return [(kind, _missing_for(kind) or _bug_of(kind)) for kind in KINDS]


def _missing_for(kind: Device) -> str:
    """Why it cannot work here, or empty."""
    checks = {Device.UBLK: missing_for_ublk, Device.NBD: missing_for_nbd, Device.FUSE: missing_for_fuse}
    return checks[kind]()


def _bug_of(kind: Device) -> str:
    """Why only who asks for it gets it, or empty."""
    return fatal_bug() if kind is Device.UBLK else ""


def choose(device: Device, resource_name: str, provider_name: str) -> Attachment:
    """The attachment for a resource: what it asks for, or with `auto` the first that can work here.

    Raises DeviceError when what is asked for cannot work.
    """
    if device is Device.NONE:
        return NoDevice()
    made: dict[Device, Callable[[], Attachment]] = {
        Device.UBLK: lambda: UblkAttachment(resource_name, provider_name),
        Device.NBD: lambda: NbdAttachment(resource_name, provider_name, str(paths.nbd_socket(resource_name))),
        Device.FUSE: lambda: FuseAttachment(resource_name, provider_name),
    }
    if device is not Device.AUTO:
        if reason := _missing_for(device):
            raise DeviceError(f"Unable to use `device {device}` for {resource_name}: {reason}.")
        return made[device]()
    for kind in KINDS:
        missing = _missing_for(kind)
        reason = missing or _bug_of(kind)
        if not reason:
            return made[kind]()
        log.log(logging.DEBUG if missing else logging.INFO, "%s: not `device %s`: %s.", resource_name, kind, reason)
    log.warning(
        "No device for %s, %s; its data is served on %s.", resource_name, reason, paths.nbd_socket(resource_name)
    )
    return NoDevice()


def adopt(resource_name: str, provider_name: str, fuse_descriptor: int | None) -> Attachment:
    """The attachment of a worker that serves, as its record says. Takes the descriptor.

    Raises DeviceError when it is not there any more.
    """
    record = Record.of(resource_name)
    kind = record.values.get("kind") if record.load() else None
    if fuse_descriptor is not None:
        return FuseAttachment.adopted(resource_name, provider_name, fuse_descriptor, record)
    if kind == UblkAttachment.kind:
        return UblkAttachment.adopted(resource_name, provider_name, record)
    if kind == NbdAttachment.kind:
        return NbdAttachment.adopted(resource_name, provider_name, str(paths.nbd_socket(resource_name)), record)
    return NoDevice()


async def clean_up(kept: Collection[str] = ()) -> None:
    """Undo what a hastd that was killed left in this run directory, but for the resources `kept`. Its other workers
    must be gone. Raises nothing."""
    directory = paths.run_directory()
    stems = {paths.file_stem(name) for name in kept}
    kept_mounts = set()
    for path in sorted(directory.glob("*.device")):
        record = Record(path)
        if path.stem in stems:
            if record.load():
                kept_mounts.add(record.values.get("mount"))
            continue
        if record.load():
            log.warning("Removing the device that an earlier hastd left: %s.", record.values.get("link", "unknown"))
            await _undo(record)
        record.remove()
    for mount in sorted(directory.glob("*.fuse")):
        if str(mount) not in kept_mounts:
            await clean_up_fuse(mount)


async def _undo(record: Record) -> None:
    link = record.values.get("link")
    if link:
        remove_link(Path(link))
    mount = Path(record.values.get("mount", ""))
    if mount.parent == paths.run_directory() and mount.suffix == ".fuse":
        await clean_up_fuse(mount)
    if record.values.get("identifier"):
        await clean_up_nbd(record.values["identifier"])
    if record.values.get("ublk_identifier"):
        await clean_up_ublk(int(record.values.get("number", -1)), record.values["ublk_identifier"])
