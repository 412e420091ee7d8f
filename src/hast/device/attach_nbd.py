"""/dev/hast/NAME as a device of the kernel's NBD client, connected to the worker's NBD socket.

The supervisor makes the connection and gives it to the kernel by netlink; when a worker died, it gives it a new one
within DEAD_TIMEOUT_S and the kernel sends again what was not answered. It never opens the device itself. An
identifier, kept by the kernel with the device, tells whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from functools import partial
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.daemon.in_thread import in_thread
from hast.device import nbd_helper
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
from hast.device.nbd_dial import DialError, Dialled, dial

DEAD_TIMEOUT_S = 60
"""How long the kernel lets I/O wait for another connection after one died."""
STEP_DEADLINE_S = 10.0
UNNOTICED_PAUSE_S = 0.05
IDENTIFIER_SINCE_KERNEL = (5, 14)

_command = partial(helper_command, "nbd_helper.py")
log = logging.getLogger("hast.device")


def missing_for_nbd() -> str:
    """What keeps this attachment from working here; empty when nothing does. `load_modules` comes before it."""
    if os.geteuid() != 0:
        return "it needs root"
    if kernel_version() < IDENTIFIER_SINCE_KERNEL:
        return "it needs Linux 5.14 or later"
    return "" if Path("/sys/module/nbd").exists() else "the kernel has no nbd module"


class NbdAttachment:
    """One resource's nbd device. Implements `device.Attachment`."""

    kind = "nbd"
    survives_worker = True

    def __init__(self, resource_name: str, provider_name: str, socket_path: str) -> None:
        self._provider_name = provider_name
        self._socket_path = socket_path
        self._link = paths.device_path(provider_name)
        self._record = Record.of(resource_name)
        self._identifier = f"hast:{paths.file_stem(resource_name)}:{secrets.token_hex(8)}"
        self._index = -1

    @classmethod
    def adopted(cls, resource_name: str, provider_name: str, socket_path: str, record: Record) -> NbdAttachment:
        """As an earlier hastd made it. Raises DeviceError when it is not there any more."""
        self = cls(resource_name, provider_name, socket_path)
        self._record = record
        self._identifier = record.values.get("identifier", "")
        found = _indices_of(self._identifier)
        if not found:
            raise DeviceError(f"The device of {resource_name} is not there any more ({self._identifier}).")
        self._index = found[0]
        return self

    @property
    def node(self) -> str:
        return f"/dev/nbd{self._index}" if self._index >= 0 else ""

    def descriptors(self) -> list[int]:
        return []

    def start_fields(self) -> dict[str, Any]:
        return {}

    async def expect_worker(self) -> None:
        """Nothing to do: the kernel keeps requests until it is given another connection."""

    async def prepare(self) -> None:
        """Remember what is going to be made. Raises DeviceError."""
        self._record.update(kind=self.kind, identifier=self._identifier, link=str(self._link))

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str:
        """Device and link, over a worker that serves. Returns the link's path. Raises DeviceError."""
        dialled = await self._dial()
        try:
            command = _command(
                "connect",
                dialled.socket.fileno(),
                size_bytes,
                sector_size_bytes,
                dialled.flags,
                DEAD_TIMEOUT_S,
                self._identifier,
            )
            result = await run_helper(command, STEP_DEADLINE_S, [dialled.socket.fileno()])
        except DeviceError as error:
            raise DeviceError(f"Unable to attach {self._link} to the kernel's nbd client: {error}.") from None
        finally:
            dialled.socket.close()
        self._index = int(result["index"])
        make_link(self._link, f"/dev/nbd{self._index}")
        return str(self._link)

    async def worker_replaced(self, worker_pid: int) -> None:
        """Give the kernel a connection to the new worker. Raises DeviceError."""
        if self._index < 0:
            return
        dialled = await self._dial()
        with dialled.socket:
            try:
                async with asyncio.timeout(STEP_DEADLINE_S):
                    while not await self._hand_over(dialled.socket):
                        await asyncio.sleep(UNNOTICED_PAUSE_S)
            except (OSError, TimeoutError) as error:
                reason = getattr(error, "strerror", None) or f"no answer from the kernel within {STEP_DEADLINE_S:g} s"
                raise DeviceError(f"Unable to reconnect {self._link}: {reason}.") from None

    async def _hand_over(self, connection: socket.socket) -> bool:
        """In a thread: users of the device wait, and a new process would take most of that time; on a busy host it came
        too late. The command does not touch the device. A stuck thread is left behind, with a descriptor of its own."""
        index, identifier, own = self._index, self._identifier, connection.dup()

        def call() -> bool:
            with own:
                return nbd_helper.reconfigure(index, own.fileno(), identifier)

        return await in_thread(call, STEP_DEADLINE_S)

    async def _dial(self) -> Dialled:
        try:
            return await dial(self._socket_path, self._provider_name)
        except DialError as error:
            raise DeviceError(f"Unable to attach {self._link}: {error}.") from None

    async def quiesce(self, deadline_s: float = 5.0) -> bool:
        """Remove the link, write out what the kernel cached. False while somebody has the device mounted."""
        remove_link(self._link)
        return self._index < 0 or await written_back(self.node, self._link, deadline_s)

    async def close(self) -> None:
        """Disconnect; open users get errors from here on. Raises nothing."""
        remove_link(self._link)
        await clean_up_nbd(self._identifier)
        self._index = -1
        self._record.remove()


async def clean_up_nbd(identifier: str) -> None:
    """Disconnect the nbd device with this identifier, if there is one. Raises nothing."""
    for index in _indices_of(identifier):
        try:
            await run_helper(_command("disconnect", index), STEP_DEADLINE_S)
        except DeviceError as error:
            log.warning("Unable to disconnect /dev/nbd%d: %s.", index, error)


def _indices_of(identifier: str) -> list[int]:
    """Numbers of the nbd devices that the kernel knows by this identifier."""
    found = []
    for entry in Path("/sys/block").glob("nbd*"):
        with contextlib.suppress(OSError):
            if (entry / "backend").read_text().strip() == identifier:
                found.append(int(entry.name.removeprefix("nbd")))
    return found
