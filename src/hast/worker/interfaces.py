"""The joints of the worker: what a reactor, a provider and a client front end owe each other. No code that runs.

The worker is single-threaded around one reactor. Threads exist only inside the provider; they hand results back with
`Reactor.call_soon_threadsafe`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hast.replication.types import Request, Store

Submit = Callable[[list[Request]], None]
"""Takes a batch of client requests in the order they arrived; each is answered later through its `client`."""


class Timer(Protocol):
    """A pending call."""

    def cancel(self) -> None: ...


class Reactor(Protocol):
    """epoll loop. Callbacks get the ready event mask (select.EPOLLIN …) and may not block."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def add(self, fd: int, events: int, callback: Callable[[int], None]) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...
    def remove(self, fd: int) -> None: ...
    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer: ...
    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...


class Client(Protocol):
    """Who made a client request: one NBD connection, or the FUSE channel. `Request.client` is one of these."""

    def completed(self, batch: list[Request]) -> None:
        """Answer these requests (all of this client), in one send where possible. Never blocks, never raises."""
        ...


class FrontEnd(Protocol):
    """A server of clients: the NBD export or the FUSE file.

    Constructed with (reactor, submit, congested, size_bytes, block_size_bytes, …). It reads its sockets only while
    `congested()` is false; the worker calls `resume` when congestion ends.
    """

    def start(self) -> None: ...
    def resume(self) -> None: ...

    def close(self) -> None:
        """Stop serving at once; requests still in the engine are completed into the void."""
        ...


class Provider(Protocol):
    """The local disk. Offsets of requests are relative to the data area; `Store` offsets to the start of the disk."""

    size_bytes: int
    sector_size_bytes: int

    def submit(self, batch: list[Request]) -> list[Request]:
        """Start these, return those that finished at once (with `local_error` and, for READ, `data` set).

        The others are handed to the `done` callback given at construction, in batches, from the reactor's thread.
        Overlap is the engine's business: requests given in one batch or in flight together never conflict.
        """
        ...

    def store(self, job: Store) -> None:
        """Carry out a durable write; `stored(job, error)` is called from the reactor's thread. In order.

        It is called before this returns where the disk was given up or let go.
        """
        ...

    def close(self) -> None: ...
