"""In which order the disk under a primary that serves is let go, taken in again, or another put in its place. No I/O.

What may be done to the data `replication/disk_service.py` decides; here is what waits for what, how long, and what is
said where it does not come. A worker carries the steps out, and so does the simulator's.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

from hast.replication.primary import Primary
from hast.replication.types import Metadata, Store

RELEASE_LIMIT_S = 10.0
RETIRE_LIMIT_S = 60.0
POLL_S = 0.02
NOTHING_FILLS = "the other node does not have everything, so nothing could fill another disk"
Answer = Callable[[str], None]
"""Gets why not, or nothing."""


class Opened(Protocol):
    """A disk that was opened for an order, and not put into service yet."""

    @property
    def path(self) -> str: ...
    @property
    def metadata(self) -> Metadata: ...
    def close(self) -> None: ...


class Opening(Enum):
    """What a disk is opened for."""

    KNOWN = auto()
    """It holds this copy, and what it says of itself is read."""
    LOOK = auto()
    """It might take the place of the present one; nothing is written on it."""
    REPLACE = auto()
    """It takes that place, and says from now on that it lacks everything."""


Disk = TypeVar("Disk", bound=Opened)
Source = TypeVar("Source", contravariant=True)


class Steps(Protocol[Disk, Source]):
    """What a worker can do. `source` says of which disk an order speaks, and how it is opened."""

    @property
    def engine(self) -> Primary: ...

    def now(self) -> float: ...

    def later(self, delay_s: float, call: Callable[[], None]) -> None: ...

    def is_idle(self) -> bool:
        """The disk in use, or the former one, has told of everything that it was given."""
        ...

    def retire(self, last: Store) -> None:
        """Begin nothing more on it but this."""
        ...

    def flush_and_close(self, then: Callable[[], None]) -> None: ...

    def close_former(self) -> bool:
        """False while something sleeps in it."""
        ...

    def open(self, source: Source, use: Opening, then: Callable[[Disk], None], failed: Answer) -> None:
        """Later, since a disk may hang; one of the two is called, once."""
        ...

    def put(self, disk: Disk) -> bool:
        """Into service; True where a flush of it may have failed in this boot."""
        ...

    def begin_anew(self, reason: str) -> None:
        """Another worker takes the role."""
        ...


class Change(Generic[Disk, Source]):
    """One order at a time; each is answered once."""

    def __init__(self, steps: Steps[Disk, Source]) -> None:
        self._steps = steps
        self._answer: Answer | None = None

    @property
    def busy(self) -> bool:
        return self._answer is not None

    def detach(self, answer: Answer) -> None:
        """Go on with the peer's copy and let the disk go."""
        if self._begin(answer):
            self._release(lambda: self._end(""))

    def attach(self, source: Source, answer: Answer) -> None:
        """Take a disk that was detached, or hung, into service again."""
        if not self._begin(answer):
            return
        engine = self._steps.engine
        if engine.core.local_ok:
            self._end("the local disk is in use")
        elif not self._steps.close_former():
            self._end("threads still sleep in the local disk: it does not answer yet")
        elif not engine.disk_is_behind:
            self._end("")
            self._steps.begin_anew("the disk may hold what the other node lacks")
        else:
            self._steps.open(source, Opening.KNOWN, self._take, self._end)

    def replace(self, source: Source, answer: Answer) -> None:
        """Put another disk in the place of the one in use, or of none."""
        if not self._begin(answer):
            return
        engine, steps = self._steps.engine, self._steps

        def write_and_take() -> None:
            steps.open(source, Opening.REPLACE, self._take, self._end)

        def look_first(disk: Disk) -> None:
            disk.close()
            self._release(write_and_take)

        if engine.core.local_ok:
            steps.open(source, Opening.LOOK, look_first, self._end)
        elif not engine.disk_is_behind:
            self._end(NOTHING_FILLS)
        else:
            write_and_take()

    def may(self, order: str, source: Source, answer: Answer) -> None:
        """Answer why this order would be refused now, and change nothing."""
        if not self._begin(answer):
            return
        engine = self._steps.engine
        if order == "attach":
            self._end("the local disk is in use" if engine.core.local_ok else "")
        elif order == "detach":
            self._end(engine.why_not_release_disk())
        elif not engine.core.local_ok and not engine.disk_is_behind:
            self._end(NOTHING_FILLS)
        else:
            self._steps.open(source, Opening.LOOK, self._close_again, self._end)

    def _close_again(self, disk: Disk) -> None:
        disk.close()
        engine = self._steps.engine
        self._end(engine.why_not_release_disk() if engine.core.local_ok else "")

    def _begin(self, answer: Answer) -> bool:
        if self.busy:
            answer("the disk is being changed already")
            return False
        self._answer = answer
        return True

    def _end(self, error: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(error)

    # -- let go -------------------------------------------------------------------------------------------------------

    def _release(self, then: Callable[[], None]) -> None:
        engine = self._steps.engine
        complaint = engine.why_not_release_disk()
        if complaint:
            self._end(complaint)
            return
        engine.release_disk(self._steps.now())
        self._await(lambda: engine.disk_released, lambda: self._let_go(then), self._keep, RELEASE_LIMIT_S)

    def _keep(self) -> None:
        self._steps.engine.keep_disk(self._steps.now())
        self._end(f"the other node did not take the lead within {RELEASE_LIMIT_S:g} s")

    def _let_go(self, then: Callable[[], None]) -> None:
        steps = self._steps
        steps.retire(steps.engine.drop_disk(steps.now()))
        late = f"what the disk has begun is not over within {RETIRE_LIMIT_S:g} s; it is used no more"
        self._await(steps.is_idle, lambda: steps.flush_and_close(then), lambda: self._end(late), RETIRE_LIMIT_S)

    # -- take in ------------------------------------------------------------------------------------------------------

    def _take(self, disk: Disk) -> None:
        """In the place of the former one, once that has told of everything it was given: the engine waits for it."""

        def late() -> None:
            disk.close()
            self._end(f"what the former disk has begun is not over within {RETIRE_LIMIT_S:g} s")

        self._await(self._steps.is_idle, lambda: self._put(disk), late, RETIRE_LIMIT_S)

    def _put(self, disk: Disk) -> None:
        engine, metadata = self._steps.engine, disk.metadata
        complaint = engine.why_not_take_disk(metadata)
        if complaint:
            disk.close()
            self._end(f"{disk.path}: {complaint}")
            return
        flush_doubtful = self._steps.put(disk)
        everything = engine.disk_lacks_everything(metadata, flush_doubtful)
        engine.take_disk(everything, flush_doubtful, self._steps.now())
        self._end("")

    def _await(
        self, condition: Callable[[], bool], then: Callable[[], None], late: Callable[[], None], limit_s: float
    ) -> None:
        until_s = self._steps.now() + limit_s

        def look() -> None:
            if condition():
                then()
            elif self._steps.now() >= until_s:
                late()
            else:
                self._steps.later(POLL_S, look)

        look()
