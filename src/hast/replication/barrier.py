"""Flushes: two-node barriers for clients, and the flush that allows bits to be cleared (S2, S4).

One flush is under way at a time, on both copies together; flushes asked for meanwhile share the next one. When both
copies confirmed, everything both copies had confirmed before it began is durable on both.
"""

from __future__ import annotations

from typing import Protocol

from hast.replication.bitmap import Bitmap
from hast.replication.core import BARRIER, EIO, EOPNOTSUPP, Core
from hast.replication.types import FLUSH, Request


class Owner(Protocol):
    """The engine, as the barrier sees it."""

    @property
    def copying(self) -> bool:
        """A synchronisation is on: what the copies have to flush is not the same."""
        ...

    @property
    def joining(self) -> bool:
        """The link is about to go live: a flush that began now would still not ask the peer."""
        ...

    def flush_begins(self) -> None:
        """A flush of both copies begins now."""
        ...

    def flushed(
        self, waiting: list[Request], cleanable: Bitmap | list[int], clock: int, local: int, remote: int | None
    ) -> None:
        """A flush ended. `local`, `remote`: errno or 0; remote None when the peer was not asked."""
        ...


class Barrier:
    """At most one flush under way; `wanted` asks for one even when no client waits."""

    def __init__(self, core: Core, owner: Owner) -> None:
        self._core = core
        self._owner = owner
        self._waiting: list[Request] = []
        self._running: list[Request] | None = None
        self._flush: Request | None = None
        self._cleanable: Bitmap | list[int] = []
        self._clock = 0
        self._local = 0
        self._remote: int | None = None
        self._left = 0
        self._began_s = self._local_s = self._remote_s = -1.0
        """When the flush began, and how long each copy took; -1 where that says nothing."""
        self._wanted = False
        self._clean_all = False
        self._local_unsupported = False
        self._remote_unsupported = False

    @property
    def idle(self) -> bool:
        """No flush under way and none waiting."""
        return self._running is None and not self._waiting and not self._wanted

    @property
    def running(self) -> bool:
        """A flush is under way."""
        return self._running is not None

    def add(self, request: Request) -> None:
        """This request is to be answered after a flush that begins from now on."""
        self._waiting.append(request)

    def want(self, clean_all: bool = False) -> None:
        """Flush even if no client asks, so that bits can be cleared."""
        self._wanted = True
        self._clean_all = self._clean_all or clean_all

    def link_changed(self) -> None:
        """Another peer, or the same after a restart: find out anew what it supports."""
        self._remote_unsupported = False

    def start(self) -> None:
        """Begin a flush if one is asked for and none is under way."""
        if self._running is not None or not (self._waiting or self._wanted) or self._owner.joining:
            return
        core = self._core
        self._running, self._waiting = self._waiting, []
        clean_all, self._wanted, self._clean_all = self._clean_all, False, False
        self._clock = core.map.flush_begins()
        crowded = clean_all or core.map.crowded()
        self._cleanable = core.map.stale_bits(clean_all) if core.connected and crowded else []
        self._local, self._remote, self._left = (0 if core.local_ok else EIO), None, 0
        self._began_s, self._local_s, self._remote_s = core.now, -1.0, -1.0
        self._owner.flush_begins()
        flush = Request(FLUSH, 0, 0)
        flush.owner = BARRIER
        self._flush = flush
        if core.local_ok and not self._local_unsupported:
            core.effects.local.append(flush)
            self._left += 1
        if core.connected:
            self._remote = 0
            if not self._remote_unsupported:
                self._left += core.send(flush)
        if self._left == 0:
            self._finish()

    def local_done(self, flush: Request) -> None:
        """The local provider answered."""
        if flush.local_error == EOPNOTSUPP:
            self._local_unsupported = True
        elif flush.local_error:
            self._core.counters.flush_errors += 1
            self._local = flush.local_error
        else:
            self._local_s = self._core.now - self._began_s
        self._part_done(flush)

    def remote_done(self, flush: Request, error: int) -> None:
        """The peer answered, or is gone."""
        if error == EOPNOTSUPP:
            self._remote_unsupported = True
        else:
            self._remote = error
            self._remote_s = -1.0 if error else self._core.now - self._began_s
        self._part_done(flush)

    def _part_done(self, flush: Request) -> None:
        assert flush is self._flush, "answer to a flush that is not under way"
        self._left -= 1
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        running, self._running, self._flush = self._running, None, None
        assert running is not None
        cleanable, self._cleanable = self._cleanable, []
        core = self._core
        compare, awaited = not self._owner.copying, bool(running)
        core.pace.flushed(self._local_s, self._remote_s, core.now, compare=compare, awaited=awaited)
        self._owner.flushed(running, cleanable, self._clock, self._local, self._remote)
        self.start()
