"""A local provider on a file or a device, driven by a reactor of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from hast.config.model import DiskCache
from hast.replication.types import Request, Store
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import OpenedProvider
from hast.worker.reactor import EpollReactor

BASE = 8192


class Bench:
    """`run` and `until` turn the reactor."""

    def __init__(
        self,
        opened: OpenedProvider,
        base_bytes: int = BASE,
        disk_cache: DiskCache = DiskCache.AUTO,
        mark: Path | None = None,
    ) -> None:
        self.reactor = EpollReactor()
        self.opened = opened
        self.done: list[Request] = []
        self.stored: list[tuple[Store, int]] = []
        self.provider = LocalProvider(
            opened,
            base_bytes,
            self.reactor,
            self._done,
            lambda job, error: self.stored.append((job, error)),
            FlushMark(mark or Path(f"{opened.path}.flush")),
            disk_cache=disk_cache,
        )
        self.thread_names: set[str] = set()

    def _done(self, batch: list[Request]) -> None:
        self.thread_names.add(threading.current_thread().name)
        self.done.extend(batch)

    def run(self, *requests: Request) -> list[Request]:
        """Submit one batch and wait for all of it; in the order the results came."""
        before = len(self.done)
        self.done.extend(self.provider.submit(list(requests)))
        self.until(lambda: len(self.done) - before == len(requests))
        return self.done[before:]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = self.reactor.call_later(10, self.reactor.stop)
        if not condition():
            self.reactor.at_round_end(lambda: self.reactor.stop() if condition() else None)
            self.reactor.run()
        deadline.cancel()
        self.reactor._stopped = False
        self.reactor._round_hooks.clear()
        assert condition(), "not done within 10 s"
