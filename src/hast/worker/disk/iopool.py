"""A few threads for operations that sleep; their results come back to the reactor's thread in batches.

The threads do nothing but the work they are given: no engine, no sockets, and no change of a request, so that a thread
that comes back from a disk that was given up changes nothing. How much work is queued is bounded by who submits it. An
exception in a piece of work is a defect of the program: it is raised again in the reactor's thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hast.replication.types import Buffer, Request
from hast.worker.disk.decisions.begun import After, Begun
from hast.worker.disk.decisions.patience import Patience


class Outcome(NamedTuple):
    """Of one request: an errno or 0, and what was read."""

    error: int = 0
    data: Buffer | None = None


Work = Callable[[], Sequence[Outcome] | None]
"""Returns the outcomes of its requests, in their order; None when all went well and nothing was read."""


class IoPool:
    """Threads are started as they are needed and are daemons: a stuck disk does not keep the process from ending."""

    def __init__(
        self,
        call_soon_threadsafe: Callable[[Callable[[], None]], None],
        done: Callable[[list[Request]], None],
        patience: Patience,
        threads: int = 4,
    ) -> None:
        self._call_soon_threadsafe = call_soon_threadsafe
        self._done = done
        self._patience = patience
        self._max_threads = threads
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[tuple[int, str, Work] | None] = queue.SimpleQueue()
        self._begun = Begun()
        self._results: deque[tuple[int, Sequence[Outcome] | None, Exception | None]] = deque()
        self._delivering = False
        self._abandoned = False

    @property
    def pending(self) -> int:
        """Pieces of work not yet delivered."""
        return len(self._begun)

    def run(self, what: str, work: Work, requests: Sequence[Request] = (), after: After | None = None) -> None:
        """Run `work` in a thread; then, in the reactor's thread, `after` and `done` for `requests`.

        `what`: in words, should it not come back.
        """
        number = self._begun.begin(requests, after)
        if len(self._threads) < min(self._max_threads, self.pending):
            thread = threading.Thread(target=self._main, name=f"io{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((number, what, work))

    def abandon(self) -> list[Request]:
        """Wait for nothing any more: returns the requests not delivered, in their order, whose `after` never comes.

        What is queued is not begun. What a thread is in the middle of is dropped when it ends.
        """
        self._abandoned = True
        return self._begun.give_up()

    def close(self, timeout_s: float) -> bool:
        """End the threads once the queue is worked off; False when some are still busy after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _main(self) -> None:
        patience = self._patience
        while (item := self._queue.get()) is not None:
            number, what, work = item
            if self._abandoned:
                continue
            key = (self, number)
            outcomes, failure = None, None
            patience.begin(key, what, time.monotonic())
            try:
                outcomes = work()
            except Exception as error:
                failure = error
            finally:
                patience.end(key)
            self._results.append((number, outcomes, failure))
            if not self._delivering:
                self._delivering = True
                self._call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        batch: list[Request] = []
        for _ in range(len(self._results)):
            number, outcomes, failure = self._results.popleft()
            piece = self._begun.end(number)
            if piece is None:
                continue
            if failure is not None:
                raise failure
            if outcomes is not None:
                _note(piece.requests, outcomes)
            batch.extend(piece.requests)
            if piece.after is not None:
                piece.after()
        if batch:
            self._done(batch)


def _note(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
    for request, outcome in zip(requests, outcomes, strict=True):
        request.local_error = outcome.error
        if outcome.data is not None:
            request.data = outcome.data
