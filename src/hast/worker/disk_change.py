"""The disk under a primary that serves: let go for planned work, taken in again, or another one in its place.

Decides nothing about data: `replication/disk_service.py` does. Each order has a deadline and is answered once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from hast.replication.primary import Primary
from hast.replication.types import Metadata
from hast.worker.disk.patient_open import open_and_read
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import OpenedProvider, ProviderError
from hast.worker.disk.replacement import open_replacement
from hast.worker.reactor import EpollReactor

RELEASE_LIMIT_S = 10.0
RETIRE_LIMIT_S = 60.0
POLL_S = 0.02
NOTHING_FILLS = "the other node does not have everything, so nothing could fill another disk"
Answer = Callable[[str], None]
"""Gets why not, or nothing."""


class Owner(Protocol):
    """The worker."""

    reactor: EpollReactor
    engine: Primary | None
    provider: LocalProvider | None

    def change_provider(self, opened: OpenedProvider, data_offset_bytes: int) -> LocalProvider: ...
    def close_provider(self) -> bool: ...

    def drop_witness(self) -> None: ...
    def disk_limit_s(self) -> float: ...
    def begin_anew(self, reason: str) -> None: ...


class DiskChange:
    """One order at a time."""

    def __init__(self, owner: Owner, name: str) -> None:
        self._owner = owner
        self._name = name
        self._answer: Answer | None = None

    @property
    def _engine(self) -> Primary:
        assert self._owner.engine is not None
        return self._owner.engine

    def detach(self, answer: Answer) -> None:
        """Go on with the peer's copy and let the disk go."""
        if self._begin(answer):
            self._release(lambda: self._end(""))

    def attach(self, path: str, answer: Answer) -> None:
        """Take a disk that was detached, or hung, into service again."""
        if not self._begin(answer):
            return
        if self._engine.core.local_ok:
            self._end("the local disk is in use")
        elif not self._owner.close_provider():
            self._end("threads still sleep in the local disk: it does not answer yet")
        elif not self._engine.disk_is_behind:
            self._end("")
            self._owner.begin_anew("the disk may hold what the other node lacks")
        else:
            self._open(lambda: _open_known(path, self._name, self._owner.disk_limit_s()))

    def replace(self, path: str, answer: Answer) -> None:
        """Put another disk in the place of the one in use, or of none."""
        if not self._begin(answer):
            return
        metadata = self._engine.core.meta

        def write_and_take() -> None:
            self._open(lambda: open_replacement(path, metadata, write=True))

        def look_first(opened: OpenedProvider, _metadata: Metadata) -> None:
            opened.close()
            self._release(write_and_take)

        if self._engine.core.local_ok:
            self._open(lambda: open_replacement(path, metadata, write=False), look_first)
        elif not self._engine.disk_is_behind:
            self._end(NOTHING_FILLS)
        else:
            write_and_take()

    def may(self, order: str, path: str, answer: Answer) -> None:
        """Answer why this order would be refused now, and change nothing."""
        if not self._begin(answer):
            return
        engine = self._engine
        if order == "attach":
            self._end("the local disk is in use" if engine.core.local_ok else "")
        elif order == "detach":
            self._end(engine.why_not_release_disk())
        elif not engine.core.local_ok and not engine.disk_is_behind:
            self._end(NOTHING_FILLS)
        else:
            self._open(lambda: open_replacement(path, engine.core.meta, write=False), self._close_again)

    def _close_again(self, opened: OpenedProvider, _metadata: Metadata) -> None:
        opened.close()
        self._end(self._engine.why_not_release_disk() if self._engine.core.local_ok else "")

    def _begin(self, answer: Answer) -> bool:
        if self._answer is not None:
            answer("the disk is being changed already")
            return False
        self._answer = answer
        return True

    def _end(self, error: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(error)

    def _release(self, then: Callable[[], None]) -> None:
        complaint = self._engine.why_not_release_disk()
        if complaint:
            self._end(complaint)
            return
        self._engine.release_disk(self._owner.reactor.now())
        self._await(lambda: self._engine.disk_released, lambda: self._let_go(then), self._keep, RELEASE_LIMIT_S)

    def _keep(self) -> None:
        self._engine.keep_disk(self._owner.reactor.now())
        self._end(f"the other node did not take the lead within {RELEASE_LIMIT_S:g} s")

    def _let_go(self, then: Callable[[], None]) -> None:
        engine, provider = self._engine, self._owner.provider
        assert provider is not None
        provider.retire(engine.drop_disk(self._owner.reactor.now()))
        flush = self._flush_and_close
        late = f"what the disk has begun is not over within {RETIRE_LIMIT_S:g} s; it is used no more"
        self._await(lambda: provider.idle, lambda: flush(provider, then), lambda: self._end(late), RETIRE_LIMIT_S)

    def _flush_and_close(self, provider: LocalProvider, then: Callable[[], None]) -> None:
        def close() -> None:
            self._owner.close_provider()
            self._owner.drop_witness()
            then()

        provider.flush_for_good(close)

    def _await(
        self, condition: Callable[[], bool], then: Callable[[], None], late: Callable[[], None], limit_s: float
    ) -> None:
        reactor = self._owner.reactor
        until_s = reactor.now() + limit_s

        def look() -> None:
            if condition():
                then()
            elif reactor.now() >= until_s:
                late()
            else:
                reactor.call_later(POLL_S, look)

        look()

    def _open(
        self,
        work: Callable[[], tuple[OpenedProvider, Metadata]],
        then: Callable[[OpenedProvider, Metadata], None] | None = None,
    ) -> None:
        """Open in a thread: the disk may hang."""
        reactor = self._owner.reactor
        take = then or self._take

        def run() -> None:
            try:
                opened, metadata = work()
            except ProviderError as error:
                text = str(error).rstrip(".")
                reactor.call_soon_threadsafe(lambda: self._end(text))
            except OSError as error:
                text = error.strerror or str(error)
                reactor.call_soon_threadsafe(lambda: self._end(text))
            else:
                reactor.call_soon_threadsafe(lambda: take(opened, metadata))

        threading.Thread(target=run, name="open", daemon=True).start()

    def _take(self, opened: OpenedProvider, metadata: Metadata) -> None:
        """In the place of the former one, once that has told of everything it was given: the engine waits for it."""
        former = self._owner.provider

        def late() -> None:
            opened.close()
            self._end(f"what the former disk has begun is not over within {RETIRE_LIMIT_S:g} s")

        def is_over() -> bool:
            return former is None or former.idle

        self._await(is_over, lambda: self._put(opened, metadata), late, RETIRE_LIMIT_S)

    def _put(self, opened: OpenedProvider, metadata: Metadata) -> None:
        engine = self._engine
        complaint = engine.why_not_take_disk(metadata)
        if complaint:
            opened.close()
            self._end(f"{opened.path}: {complaint}")
            return
        provider = self._owner.change_provider(opened, metadata.offset_bytes)
        everything = engine.disk_lacks_everything(metadata, provider.flush_doubtful)
        engine.take_disk(everything, provider.flush_doubtful, self._owner.reactor.now())
        self._end("")


def _open_known(path: str, name: str, limit_s: float) -> tuple[OpenedProvider, Metadata]:
    found = open_and_read(path, name, limit_s)
    if found.opened is None or found.contents is None:
        assert found.error is not None
        raise found.error
    return found.opened, found.contents[0]
