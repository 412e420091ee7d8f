"""/dev/hast/NAME as a device of the kernel's ublk driver, served by the worker itself: no second block layer.

The supervisor makes the device and gives the worker its number; the worker opens the channel, as the only process, so
that the kernel learns of its death. What it had not answered is given to the next worker. The supervisor never opens
the device itself. An identifier, kept by the kernel with the device, tells whose it is.
"""

from __future__ import annotations

import logging
import os
import secrets
from functools import partial
from pathlib import Path
from typing import Any

from hast.daemon import io_uring, paths
from hast.daemon.in_thread import in_thread
from hast.device.device_steps import (
    DeviceError,
    Record,
    helper_command,
    kernel_version,
    make_link,
    remove_link,
    run_helper,
    written_back,
)
from hast.device.ublk_helper import CONTROL_PATH, Driver, carry_out
from hast.format import ublk

STEP_DEADLINE_S = 10.0
FATAL = (
    ((6, 5, 0), (6, 6, 51), "CVE-2024-46735, a null pointer in its recovery"),
    ((6, 7, 0), (6, 14, 6), "CVE-2025-37906, a race that can crash the machine when a server dies"),
    ((6, 15, 0), (6, 18, 3), "CVE-2025-71070, references lost when a server dies"),
    ((6, 18, 4), (6, 18, 6), "a fault when a device is added"),
)
"""Kernels whose ublk can take the machine down, by the versions at kernel.org: from, up to but without."""

_command = partial(helper_command, "ublk_helper.py")
log = logging.getLogger("hast.device")


def missing_for_ublk() -> str:
    """What keeps this attachment from working here; empty when nothing does. `load_modules` comes before it."""
    if os.geteuid() != 0:
        return "it needs root"
    if not Path(CONTROL_PATH).exists():
        return "the kernel has no ublk_drv module"
    if reason := io_uring.unavailable():
        return reason
    try:
        driver = Driver()
    except OSError as error:
        return f"{CONTROL_PATH}: {error.strerror}"
    try:
        lacking = ublk.WANTED & ~driver.features()
    except OSError:
        return "its ublk_drv is older than Linux 6.5"
    finally:
        driver.close()
    return f"its ublk_drv lacks {lacking!r}" if lacking else ""


def fatal_bug(release: str | None = None) -> str:
    """The name of a bug for which this kernel's ublk is passed over; empty when none is known."""
    version = kernel_version(release)
    for begin, end, name in FATAL:
        if begin <= version < end:
            return f"Linux {'.'.join(map(str, version))} has {name}"
    return ""


class UblkAttachment:
    """One resource's ublk device. Implements `device.Attachment`."""

    kind = "ublk"
    survives_worker = True

    def __init__(self, resource_name: str, provider_name: str) -> None:
        self._link = paths.device_path(provider_name)
        self._record = Record.of(resource_name)
        self._identifier = secrets.token_hex(8)
        self._number = -1
        self._started = False

    @classmethod
    def adopted(cls, resource_name: str, provider_name: str, record: Record) -> UblkAttachment:
        """As an earlier hastd made it. Raises DeviceError when it is not there any more."""
        self = cls(resource_name, provider_name)
        self._record = record
        self._identifier = record.values.get("ublk_identifier", "")
        self._number = int(record.values.get("number", -1))
        self._started = True
        if not Path(f"/sys/block/ublkb{self._number}").exists():
            raise DeviceError(f"The device of {resource_name} is not there any more ({self.node}).")
        return self

    @property
    def node(self) -> str:
        return f"/dev/ublkb{self._number}" if self._started else ""

    def descriptors(self) -> list[int]:
        return []

    def start_fields(self) -> dict[str, Any]:
        return {"ublk": self._number}

    async def prepare(self) -> None:
        """Remember what is going to be made. Raises DeviceError."""
        self._record.update(kind=self.kind, ublk_identifier=self._identifier, link=str(self._link))

    async def expect_worker(self) -> None:
        """A channel that nobody has had open. Raises DeviceError."""
        if self._started:
            await self._hurry("recover", self._number, self._identifier)
            return
        if self._number >= 0:
            await self._step("remove", self._number, self._identifier)
        self._number = int((await self._step("add", self._identifier))["number"])
        self._record.update(number=str(self._number))

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str:
        """Device and link, over a worker that has the channel open. Returns the link's path. Raises DeviceError."""
        await self._step("start", self._number, worker_pid, size_bytes, sector_size_bytes)
        self._started = True
        make_link(self._link, self.node)
        return str(self._link)

    async def worker_replaced(self, worker_pid: int) -> None:
        """What is unanswered goes to the new worker. Raises DeviceError."""
        await self._hurry("recovered", self._number, worker_pid)

    async def quiesce(self, deadline_s: float = 5.0) -> bool:
        """Remove the link, write out what the kernel cached. False while somebody has the device mounted."""
        remove_link(self._link)
        return not self._started or await written_back(self.node, self._link, deadline_s)

    async def close(self) -> None:
        """Take the device away; open users get errors from here on. Raises nothing."""
        remove_link(self._link)
        await clean_up_ublk(self._number, self._identifier)
        self._number, self._started = -1, False
        self._record.remove()

    async def _step(self, what: str, *arguments: object) -> dict[str, Any]:
        try:
            return await run_helper(_command(what, *arguments), STEP_DEADLINE_S)
        except DeviceError as error:
            raise DeviceError(f"Unable to {what} the ublk device of {self._link}: {error}.") from None

    async def _hurry(self, what: str, *arguments: object) -> None:
        """The same in a thread: users of the device wait, and a new process would take most of that time. Neither of
        these commands touches the device; a thread that is stuck is left behind."""
        try:
            await in_thread(lambda: carry_out([what, *map(str, arguments)]), STEP_DEADLINE_S)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or f"no answer from the kernel within {STEP_DEADLINE_S:g} s"
            raise DeviceError(f"Unable to {what} the ublk device of {self._link}: {reason}.") from None


async def clean_up_ublk(number: int, identifier: str) -> None:
    """Take away the device with this identifier; `number` -1 where it was not noted. Its worker must be gone. Raises
    nothing."""
    if not Path(CONTROL_PATH).exists():
        return
    try:
        await run_helper(_command("remove", number, identifier), STEP_DEADLINE_S)
    except DeviceError as error:
        log.warning("Unable to remove the ublk device %d: %s.", number, error)
