"""Workers of a hastd that died, found again: each is known by the kernel's word, not by its number alone.

A record in the run directory holds a worker's process id and start time; the socket of that name (worker/successor.py)
has to be served by that very process, as this user or as that of workers. What it offers is taken over by
`resource_state.py`, or refused here by closing the connection, which changes nothing for the worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from hast.config.model import SYNC_AUTO, Resource
from hast.daemon.logs import in_words
from hast.daemon.privileges import worker_identity
from hast.daemon.release import RELEASE
from hast.daemon.waiting import readable
from hast.device import device
from hast.format.constants import Role
from hast.supervisor import leftovers
from hast.supervisor.worker_pool import Foundling, Spawned
from hast.worker import messages
from hast.worker.successor import STATE_VERSION, user_of
from hast.worker.worker_record import WorkerRecord, records

log = logging.getLogger("hast.supervisor")

DOOR_LIMIT_S = 5.0
"""How long a worker may take to notice that its hastd died."""
OFFER_LIMIT_S = 2.0
_POLL_S = 0.02


class NotUnderstood(Exception):
    """A worker hands over state that this release does not know; `str()` is one line. hastd must not start."""

    exit_code = 78


@dataclass(slots=True)
class Offer:
    """A worker that waits for a supervisor. Its descriptors are ours until they are taken."""

    resource: Resource
    role: Role
    spawned: Spawned
    ready: dict[str, Any]
    release: str
    """What code it runs."""
    fuse: bool
    sync_rate_bytes_s: int
    descriptors: list[int]

    @property
    def name(self) -> str:
        return self.resource.name

    def take_descriptors(self) -> list[int]:
        """The NBD listening socket and, with `fuse`, the FUSE descriptor: the caller's from now on."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def close(self) -> None:
        """Leave the worker as it is, or what is left of it."""
        self.spawned.close()
        for descriptor in self.take_descriptors():
            os.close(descriptor)


async def find() -> dict[str, Offer]:
    """Every worker that can be taken over, by its resource. Raises NotUnderstood."""
    results = await asyncio.gather(*(_ask(record) for record in records()), return_exceptions=True)
    offers = {each.name: each for each in results if isinstance(each, Offer)}
    for result in results:
        if isinstance(result, NotUnderstood):
            for offer in offers.values():
                offer.close()
            raise result
        if isinstance(result, BaseException):
            log.error("%s", result)
    return offers


async def end_others(offers: Iterable[str]) -> None:
    """End the workers of an earlier hastd that are not taken over, and undo their devices."""
    kept = frozenset(offers)
    await leftovers.end_old_workers(kept)
    await device.clean_up(kept)


async def _ask(record: WorkerRecord) -> Offer | None:
    """What this worker offers; None when it is gone, or does not open its door in time."""
    loop = asyncio.get_running_loop()
    users = _users()
    until_s = loop.time() + DOOR_LIMIT_S
    while record.is_alive():
        sock = _knock(record, users)
        if sock is not None:
            return await _receive(record, sock)
        if loop.time() >= until_s:
            return None
        await asyncio.sleep(_POLL_S)
    return None


def _users() -> set[int]:
    """Whom a worker of hastd may run as."""
    worker = worker_identity()
    return {os.geteuid()} | ({worker.uid} if worker is not None else set())


def _knock(record: WorkerRecord, users: Collection[int]) -> socket.socket | None:
    """A connection to the worker of the record and to nobody else."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        sock.connect(str(record.door))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.MAX_MESSAGE_BYTES * 2)
        pid, uid = user_of(sock)
        if pid == record.pid and uid in users and record.is_alive():
            return sock
        log.warning("%s is not served by worker %d; not believed.", record.door, record.pid)
    except OSError:
        pass
    sock.close()
    return None


async def _receive(record: WorkerRecord, sock: socket.socket) -> Offer | None:
    try:
        async with asyncio.timeout(OFFER_LIMIT_S):
            await readable(sock)
        message, descriptors = messages.receive(sock)
    except (TimeoutError, OSError, ValueError) as error:
        log.error("Worker %d offers nothing: %s.", record.pid, in_words(error) if str(error) else "it is silent")
        sock.close()
        return None
    try:
        return _understood(record, sock, message or {}, descriptors)
    except BaseException:
        sock.close()
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _beyond(record: WorkerRecord, what: str) -> NotUnderstood:
    return NotUnderstood(
        f"Worker {record.pid} hands over {what}. It goes on serving: start hastd of the release that it is of, "
        f"or end it in order (kill {record.pid})."
    )


def _understood(record: WorkerRecord, sock: socket.socket, message: dict[str, Any], descriptors: list[int]) -> Offer:
    version = message.get("version")
    if message.get("say") != "offer" or version != STATE_VERSION:
        raise _beyond(record, f"state of version {version!a}, and this release knows {STATE_VERSION}")
    release = str(message.get("release"))
    try:
        resource = messages.resource_from_json(message["resource"])
        role = Role(message["role"])
        ready = dict(message["ready"])
        fuse, rate_bytes_s = bool(message.get("fuse")), int(message.get("sync_rate_bytes_s", SYNC_AUTO))
        if role is Role.PRIMARY and len(descriptors) != 1 + fuse:
            raise ValueError(f"{len(descriptors)} descriptors")
        pidfd = os.pidfd_open(record.pid)
    except (KeyError, TypeError, ValueError, OSError) as error:
        if release != RELEASE and not isinstance(error, OSError):
            raise _beyond(record, f"what this release does not know ({error})") from None
        raise ValueError(f"Worker {record.pid} cannot be taken over: its offer is not understood ({error}).") from None
    spawned = Spawned(Foundling(record.pid, pidfd), sock, pidfd)
    return Offer(resource, role, spawned, ready, release, fuse, rate_bytes_s, descriptors)
