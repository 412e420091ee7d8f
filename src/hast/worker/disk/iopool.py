"""A few threads for operations that sleep; their results come back to the reactor's thread in batches.

The threads do nothing but the work they are given: no engine, no sockets. How much work is queued is bounded by who
submits it. An exception in a piece of work is a defect of the program: it is raised again in the reactor's thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from hast.replication.types import Request

Work = Callable[[], None]
After = Callable[[], None]


class IoPool:
    """Threads are started as they are needed and are daemons: a stuck disk does not keep the process from ending."""

    def __init__(
        self,
        call_soon_threadsafe: Callable[[Callable[[], None]], None],
        done: Callable[[list[Request]], None],
        threads: int = 4,
    ) -> None:
        self._call_soon_threadsafe = call_soon_threadsafe
        self._done = done
        self._max_threads = threads
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[tuple[Work, Sequence[Request], After | None] | None] = queue.SimpleQueue()
        self._results: deque[tuple[Sequence[Request], After | None]] = deque()
        self._delivering = False
        self.pending = 0
        """Pieces of work not yet delivered."""

    def run(self, work: Work, requests: Sequence[Request] = (), after: After | None = None) -> None:
        """Run `work` in a thread; then, in the reactor's thread, `after` and `done` for `requests`."""
        self.pending += 1
        if len(self._threads) < min(self._max_threads, self.pending):
            thread = threading.Thread(target=self._main, name=f"io{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((work, requests, after))

    def close(self, timeout_s: float) -> bool:
        """End the threads once the queue is worked off; False when some are still busy after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _main(self) -> None:
        while (item := self._queue.get()) is not None:
            work, requests, after = item
            try:
                work()
            except Exception as error:
                requests, after = (), _raiser(error)
            self._results.append((requests, after))
            if not self._delivering:
                self._delivering = True
                self._call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        batch: list[Request] = []
        for _ in range(len(self._results)):
            requests, after = self._results.popleft()
            self.pending -= 1
            batch.extend(requests)
            if after is not None:
                after()
        if batch:
            self._done(batch)


def _raiser(error: Exception) -> After:
    def reraise() -> None:
        raise error

    return reraise
