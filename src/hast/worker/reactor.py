"""The worker's event loop: epoll, timers, calls from other threads, a hook at the end of each round, adaptive polling.

Single-threaded: everything runs in the thread that called `run`, but for `call_soon_threadsafe`. Callbacks may not
block. Knows nothing of sockets' contents; an exception in a callback ends `run` and is the worker's to report.

Adaptive polling: at queue depth 1 nearly all the time of a write is spent in sleeping and waking. So after a round that
brought traffic the loop polls for at most POLL_WINDOW_S before it sleeps, giving way to other processes between polls.
Whether that pays is measured: when too few windows bring anything, polling stops but for an occasional trial. An idle
loop sleeps in epoll_wait and uses no CPU.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable

POLL_WINDOW_S = 0.000150
"""Longest time spent polling before sleeping."""
HIT_WEIGHT = 1 / 16
"""How much one window counts in the running share of windows that brought traffic."""
WORTHWHILE_SHARE = 0.35
"""Below this share polling stops."""
CONTENDED_S = 0.000500
"""Giving way for longer than this means that others need the processor: no polling …"""
CONTENDED_PAUSE_S = 0.050
"""… for so long. A sleeper that is woken gets the processor sooner than one that polls."""
TRIAL_EVERY = 64
"""While polling is off, one sleep in so many is preceded by a window after all, to notice that traffic changed."""


def on_beat(now_s: float, when_s: float) -> float:
    """A time not after `when_s` that others fall upon, too: whole seconds from a second on, halves from a half on.

    For what is done again and again and need not be punctual: an idle process then wakes up for all of it at once.
    """
    for beat_s in (1.0, 0.5):
        if when_s - now_s >= beat_s:
            return when_s // beat_s * beat_s
    return when_s


class CallTimer:
    """A pending call; `cancel` is allowed at any time."""

    __slots__ = ("callback", "when_s")

    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s = when_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Poller:
    """Decides whether to poll before sleeping, from how often that paid lately."""

    __slots__ = ("_paused_until_s", "_skipped", "contentions", "hits", "share", "windows")

    def __init__(self) -> None:
        self.share = 1.0
        self._skipped = 0
        self._paused_until_s = 0.0
        self.contentions = 0
        self.windows = 0
        self.hits = 0

    def wanted(self, now_s: float) -> bool:
        if now_s < self._paused_until_s:
            return False
        if self.share >= WORTHWHILE_SHARE:
            return True
        self._skipped += 1
        if self._skipped < TRIAL_EVERY:
            return False
        self._skipped = 0
        return True

    def record(self, hit: bool) -> None:
        self.windows += 1
        self.hits += hit
        self.share += HIT_WEIGHT * (hit - self.share)

    def contended(self, now_s: float) -> None:
        """Another process took the processor during a window."""
        self.contentions += 1
        self._paused_until_s = now_s + CONTENDED_PAUSE_S


class EpollReactor:
    """See the module's docstring; implements `interfaces.Reactor`. Construct and run it in the same thread."""

    def __init__(self, poll_window_s: float = POLL_WINDOW_S) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, CallTimer]] = []
        self._timer_number = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._asleep = False
        self._running = False
        self._stopped = False
        self._poll_window_s = poll_window_s
        self._round_hooks: list[Callable[[], None]] = []
        self.poller = Poller()

    def now(self) -> float:
        return time.monotonic()

    def add(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Watch `fd`. One callback per descriptor; raises OSError for a descriptor epoll cannot watch."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching `fd`, before it is closed. No callback comes after this, not even a pending one."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> CallTimer:
        timer = CallTimer(when_s, callback)
        self._timer_number += 1
        heapq.heappush(self._timers, (when_s, self._timer_number, timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> CallTimer:
        return self.call_at(self.now() + delay_s, callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the reactor's thread in the next round. From any thread."""
        self._calls.append(callback)
        if self._asleep:
            self.wake()

    def wake(self) -> None:
        """End the current sleep, if any. From any thread and from signal handlers."""
        try:
            os.eventfd_write(self._wakeup, 1)
        except (BlockingIOError, ValueError, OSError):
            pass

    def at_round_end(self, hook: Callable[[], None]) -> None:
        """Call `hook` at the end of every round: once per wake-up, however many events that brought."""
        self._round_hooks.append(hook)

    def stop(self) -> None:
        self._stopped = True
        self.wake()

    def run(self) -> None:
        """Run until `stop`. Raises whatever a callback raises."""
        assert not self._running
        self._running = True
        try:
            traffic = False
            while not self._stopped:
                traffic = self._round(self._wait(traffic))
        finally:
            self._running = False

    def close(self) -> None:
        """Give up the loop's own descriptors. Watched descriptors stay open: they belong to who added them."""
        self._epoll.close()
        if self._wakeup >= 0:
            os.close(self._wakeup)
            self._wakeup = -1

    def _wait(self, after_traffic: bool) -> list[tuple[int, int]]:
        """Wait for events, a timer or a call; polls first when that is likely to pay."""
        if self._calls:
            return self._epoll.poll(0)
        if after_traffic and self._poll_window_s > 0 and self.poller.wanted(time.monotonic()):
            events = self._poll_window()
            if events is not None:
                return events
        timeout = -1.0
        if self._timers:
            timeout = max(0.0, self._timers[0][0] - time.monotonic())
        self._asleep = True
        if self._calls or self._stopped:
            timeout = 0.0
        events = self._epoll.poll(timeout)
        self._asleep = False
        return events

    def _poll_window(self) -> list[tuple[int, int]] | None:
        """Poll for one window; None when it brought nothing."""
        poll, clock, give_way = self._epoll.poll, time.monotonic, os.sched_yield
        now = clock()
        end = now + self._poll_window_s
        if self._timers:
            end = min(end, self._timers[0][0])
        while True:
            events = poll(0)
            if events or self._calls:
                self.poller.record(True)
                return events
            before, now = now, clock()
            if now - before > CONTENDED_S:
                self.poller.contended(now)
                return None
            if now >= end:
                self.poller.record(False)
                return None
            give_way()

    def _round(self, events: list[tuple[int, int]]) -> bool:
        """One round of callbacks; returns whether there was traffic."""
        traffic = False
        callbacks = self._callbacks
        for fd, mask in events:
            callback = callbacks.get(fd)
            if callback is not None:
                traffic = True
                callback(mask)
            elif fd == self._wakeup:
                self._clear_wakeup()
        calls = self._calls
        if calls:
            traffic = True
            for _ in range(len(calls)):
                calls.popleft()()
        if self._timers and self._timers[0][0] <= time.monotonic():
            self._run_timers()
        for hook in self._round_hooks:
            hook()
        return traffic

    def _clear_wakeup(self) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            pass

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
