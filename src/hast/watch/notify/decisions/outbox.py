"""What waits for one receiver, and when it goes out: gathered, limited, tried again, given up. No I/O.

Nothing here grows without end: the queue has a limit, so has the time for which a message is tried. What is given up is
counted, and the next batch that arrives says how much is missing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hast.config.notify_model import Receiver
from hast.watch.notify.decisions.message import Message, from_record

MAX_WAITING = 200
MAX_BATCH = 50
HOUR_S = 3600.0
FIRST_RETRY_S = 1.0
MAX_RETRY_S = 600.0


class Outbox:
    """For one receiver. Times are seconds of a clock that outlives a restart."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._waiting: deque[tuple[float, Message]] = deque()
        self._sent: deque[float] = deque()
        self._lost = 0
        self._failures = 0
        self._not_before_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, now_s: float, message: Message) -> None:
        """One more; when too many wait the oldest is given up."""
        if not self._receiver.wants(message.topic):
            return
        self._waiting.append((now_s, message))
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def due_s(self, now_s: float) -> float | None:
        """In how many seconds something is to be sent; None: nothing waits."""
        if not self._waiting:
            return None
        self._mind_the_clock(now_s)
        while self._sent and not now_s - HOUR_S < self._sent[0] <= now_s:
            self._sent.popleft()
        due_s = max(self._waiting[0][0] + self._receiver.gather_s, self._not_before_s)
        if len(self._sent) >= self._receiver.limit_per_hour:
            due_s = max(due_s, self._sent[0] + HOUR_S)
        return max(0.0, due_s - now_s)

    def _mind_the_clock(self, now_s: float) -> None:
        """One that was set back holds nothing up."""
        added_s, message = self._waiting[0]
        self._waiting[0] = (min(added_s, now_s), message)
        self._not_before_s = min(self._not_before_s, now_s + MAX_RETRY_S)

    def batch(self) -> tuple[list[Message], int]:
        """What goes out now, the oldest first, and how many before it were given up."""
        return [message for _added_s, message in list(self._waiting)[:MAX_BATCH]], self._lost

    def sent(self, now_s: float, batch: list[Message], lost: int) -> None:
        """The batch arrived."""
        self._remove(batch)
        self._sent.append(now_s)
        self._lost -= min(lost, self._lost)
        self._failures, self._not_before_s = 0, 0.0

    def failed(self, now_s: float) -> list[Message]:
        """The batch did not arrive; returns what is given up."""
        self._not_before_s = now_s + min(FIRST_RETRY_S * 2.0**self._failures, MAX_RETRY_S)
        self._failures = min(self._failures + 1, 16)
        old = [message for added_s, message in self._waiting if now_s - added_s >= self._receiver.retry_s]
        self._remove(old)
        self._lost += len(old)
        return old

    def _remove(self, batch: list[Message]) -> None:
        """Those that are still there: what came meanwhile may have pushed some out."""
        gone = {id(message) for message in batch}
        self._waiting = deque(each for each in self._waiting if id(each[1]) not in gone)

    def record(self) -> dict[str, Any]:
        """For the next process."""
        waiting = [[added_s, message.record()] for added_s, message in self._waiting]
        return {"waiting": waiting, "lost": self._lost, "sent": list(self._sent)}

    def restore(self, record: dict[str, Any]) -> None:
        """Raises ValueError, TypeError, KeyError for what `record` did not write."""
        for added_s, each in record["waiting"]:
            message = from_record(each)
            if message is not None:
                self._waiting.append((float(added_s), message))
        self._lost = int(record["lost"])
        self._sent.extend(float(each) for each in record["sent"])
