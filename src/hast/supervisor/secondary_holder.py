"""A secondary as the supervisor holds it: the connection that waits for its second half, and the worker of a pair.

Without connections there is neither. Roles, hooks and events are `resource_state.py`'s business.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hast.daemon.conversation import ConversationError
from hast.supervisor.adoption import Offer
from hast.supervisor.worker_pool import WorkerPool
from hast.supervisor.worker_process import WorkerError, WorkerProcess

STOP_DEADLINE_S = 5.0
LET_GO_S = 5.0
"""How long the first connection may take to end the session in which it was admitted."""


@dataclass(slots=True, eq=False)
class PendingConnection:
    """Connection A after message 2, waiting for connection B (section 4.1)."""

    sock: socket.socket
    token: bytes
    version: int
    features: int
    address: str
    free: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nobody here reads or writes it any more."""


class Admission(NamedTuple):
    """Message 3, as it was received on connection B."""

    token: bytes
    hello: bytes


class SecondaryHolder:
    """Connections and worker of one resource while it is secondary."""

    def __init__(
        self, name: str, pool: WorkerPool, on_message: Callable[[WorkerProcess, dict[str, Any]], None]
    ) -> None:
        self.pending: PendingConnection | None = None
        self.worker: WorkerProcess | None = None
        self._name = name
        self._pool = pool
        self._on_message = on_message

    def wait_for_second(self, pending: PendingConnection) -> None:
        """Keep a connection A whose message 2 is about to be sent."""
        self.drop_pending()
        self.pending = pending

    def drop_pending(self) -> None:
        """Close a connection A that waits for its connection B."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.sock.close()

    def expire_pending(self, pending: PendingConnection) -> None:
        """The same, if it is still this one."""
        if self.pending is pending:
            self.drop_pending()

    def admit(self, token: bytes) -> PendingConnection:
        """The connection A that waits for this token; it is the caller's from now on. Raises WorkerError."""
        pending = self.pending
        if pending is None or not hmac.compare_digest(token, pending.token):
            raise WorkerError("Token doesn't match.")
        self.pending = None
        return pending

    async def start(
        self,
        message: dict[str, Any],
        pending: PendingConnection,
        sock: socket.socket,
        hello: bytes,
        address: str,
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        """Start a worker for the pair; takes `sock` on success. `leave` ends what is said on it by this process. Raises
        WorkerError."""
        if self.worker is not None:
            raise WorkerError("The previous connection of this resource has not ended.")
        await _let_go(pending, leave)
        self.worker = WorkerProcess(self._name, self._pool, self._on_message)
        told = {"hello": hello.hex(), "version": pending.version, "features": pending.features, "peer": address}
        told |= {"token": pending.token.hex()}
        try:
            await self.worker.start(message | told, [pending.sock.fileno(), sock.fileno()])
        except WorkerError:
            self.worker = None
            raise
        sock.close()

    async def adopt(self, offer: Offer) -> None:
        """Take over the worker of a living pair of connections. Raises WorkerError."""
        self.worker = WorkerProcess(self._name, self._pool, self._on_message)
        try:
            await self.worker.adopt(offer.spawned, offer.ready)
        except WorkerError:
            self.worker = None
            raise

    async def stop(self, limit_s: float = STOP_DEADLINE_S, leaving: bool = False) -> bool:
        """End whatever there is; whether there was a worker. It may take `limit_s` to end in order. Raises Stuck.

        `leaving`: the primary is told that this node stops.
        """
        self.drop_pending()
        if self.worker is None:
            return False
        await self.worker.stop(limit_s, leaving)
        return True


async def _let_go(pending: PendingConnection, leave: Callable[[], Awaitable[None]]) -> None:
    """Both sockets are the worker's from now on. Raises WorkerError."""
    try:
        async with asyncio.timeout(LET_GO_S):
            await pending.free.wait()
        await leave()
    except (TimeoutError, ConversationError) as error:
        raise WorkerError(f"The connection was not handed on: {error or 'the first half is not ready'}.") from None
