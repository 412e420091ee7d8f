"""What a primary offers to users, as the supervisor owns it: the NBD listening socket and the attached device.

Both outlive the worker, so that a worker can be replaced under a mounted file system. No I/O is done on the device.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from hast.config.model import Resource
from hast.daemon import paths
from hast.daemon.sockets import SocketError, bind_unix
from hast.device.device import Attachment, DeviceError, adopt, choose, load_modules
from hast.device.users import users_of

QUIESCE_DEADLINE_S = 5.0


class ExportError(Exception):
    """The device or the NBD socket cannot be made; `str()` is one line."""


class ExportDevice:
    """The NBD socket of one primary, and its device once there is one."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._nbd: socket.socket | None = None
        self._attachment: Attachment | None = None
        self._attached = False
        self.nbd_path = str(paths.nbd_socket(resource.name))
        self.device_path: str | None = None

    @property
    def survives_worker(self) -> bool:
        """Whether requests in flight when a worker dies are carried out by the next one."""
        return self._attachment is None or self._attachment.survives_worker

    async def prepare(self) -> None:
        """Make what the worker inherits. Raises ExportError."""
        try:
            if self._nbd is None:
                self._nbd = bind_unix(self.nbd_path, 0o600)
            resource = self._resource
            await load_modules(resource.device)
            self._attachment = choose(resource.device, resource.name, resource.provider_name)
            await self._attachment.prepare()
        except (SocketError, DeviceError) as error:
            raise ExportError(str(error)) from None

    def adopt(self, descriptors: list[int], fuse: bool) -> None:
        """As an earlier hastd made it. Takes what its worker handed over. Raises ExportError."""
        self._nbd = socket.socket(fileno=descriptors[0])
        self._nbd.setblocking(False)
        resource = self._resource
        try:
            self._attachment = adopt(resource.name, resource.provider_name, descriptors[1] if fuse else None)
        except DeviceError as error:
            raise ExportError(str(error)) from None
        self._attached = True
        if self._attachment.node:
            self.device_path = str(paths.device_path(resource.provider_name))

    def start_fields(self) -> dict[str, Any]:
        """What the `start` message says about descriptors and device."""
        device = self._attachment.start_fields() if self._attachment is not None else {}
        return {**device, "nbd_path": self.nbd_path}

    async def expect_worker(self) -> None:
        """A worker is about to be started; one before it is dead and reaped. Raises ExportError."""
        assert self._attachment is not None
        try:
            await self._attachment.expect_worker()
        except DeviceError as error:
            raise ExportError(str(error)) from None

    def descriptors(self) -> list[int]:
        assert self._nbd is not None
        assert self._attachment is not None
        return [self._nbd.fileno(), *self._attachment.descriptors()]

    async def attach(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> str | None:
        """Make /dev/hast/NAME over a serving worker. Returns its path, None without a device. Raises ExportError."""
        assert self._attachment is not None
        try:
            self.device_path = await self._attachment.attach(size_bytes, sector_size_bytes, worker_pid)
        except DeviceError as error:
            raise ExportError(str(error)) from None
        self._attached = True
        return self.device_path

    async def worker_replaced(self, size_bytes: int, sector_size_bytes: int, worker_pid: int) -> None:
        """Another worker serves now: hand the device over to it, or attach it where that never happened."""
        if not self._attached:
            await self.attach(size_bytes, sector_size_bytes, worker_pid)
            return
        assert self._attachment is not None
        try:
            await self._attachment.worker_replaced(worker_pid)
        except DeviceError as error:
            raise ExportError(str(error)) from None

    async def drop_attachment(self) -> None:
        """Take the device away but keep the NBD socket, for an attachment that does not survive its worker."""
        attachment, self._attachment = self._attachment, None
        self._attached = False
        self.device_path = None
        if attachment is not None:
            await attachment.close()

    async def quiesce(self) -> bool:
        """While the worker still serves: write back and take the device away. False when somebody has it open."""
        if self._attachment is None or not self._attached:
            return True
        free = await self._attachment.quiesce(QUIESCE_DEADLINE_S)
        self.device_path = None
        return free

    def users(self) -> str:
        """Who has the device open, for a line in the log; empty when nobody is found. Slow."""
        node = self._attachment.node if self._attachment is not None else ""
        return users_of(node) if node else ""

    async def close(self) -> None:
        """Remove the device and the socket. Raises nothing."""
        await self.drop_attachment()
        if self._nbd is not None:
            self._nbd.close()
            self._nbd = None
            with contextlib.suppress(OSError):
                os.unlink(self.nbd_path)
