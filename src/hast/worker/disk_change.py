"""The disk under a primary that serves: let go for planned work, taken in again, or another one in its place.

Carries out the steps; `disk/decisions/change.py` decides in which order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from hast.replication.primary import Primary
from hast.replication.types import Metadata, Store
from hast.worker.disk.decisions.change import Answer, Change, Opening
from hast.worker.disk.opener import Open
from hast.worker.disk.patient_open import open_and_read
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import OpenedProvider, ProviderError
from hast.worker.disk.replacement import open_replacement
from hast.worker.reactor import EpollReactor


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


class Found(NamedTuple):
    """An open disk, and what it says of itself."""

    opened: OpenedProvider
    metadata: Metadata

    @property
    def path(self) -> str:
        return self.opened.path

    def close(self) -> None:
        self.opened.close()


class Source(NamedTuple):
    """Of which disk an order speaks, and who opens it."""

    path: str
    open_by: Open


class DiskSteps:
    """For one worker."""

    def __init__(self, owner: Owner, name: str) -> None:
        self._owner = owner
        self._name = name

    @property
    def engine(self) -> Primary:
        assert self._owner.engine is not None
        return self._owner.engine

    def now(self) -> float:
        return self._owner.reactor.now()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._owner.reactor.call_later(delay_s, call)

    def is_idle(self) -> bool:
        return self._owner.provider is None or self._owner.provider.idle

    def retire(self, last: Store) -> None:
        assert self._owner.provider is not None
        self._owner.provider.retire(last)

    def flush_and_close(self, then: Callable[[], None]) -> None:
        def close() -> None:
            self._owner.close_provider()
            self._owner.drop_witness()
            then()

        assert self._owner.provider is not None
        self._owner.provider.flush_for_good(close)

    def close_former(self) -> bool:
        return self._owner.close_provider()

    def open(self, source: Source, use: Opening, then: Callable[[Found], None], failed: Answer) -> None:
        """In a thread: the disk may hang."""
        reactor, present = self._owner.reactor, self.engine.core.meta

        def run() -> None:
            try:
                found = self._open(source, use, present)
            except ProviderError as error:
                text = str(error).rstrip(".")
                reactor.call_soon_threadsafe(lambda: failed(text))
            except OSError as error:
                text = error.strerror or str(error)
                reactor.call_soon_threadsafe(lambda: failed(text))
            else:
                reactor.call_soon_threadsafe(lambda: then(found))

        threading.Thread(target=run, name="open", daemon=True).start()

    def _open(self, source: Source, use: Opening, present: Metadata) -> Found:
        if use is not Opening.KNOWN:
            return Found(*open_replacement(source.path, present, use is Opening.REPLACE, source.open_by))
        found = open_and_read(source.path, self._name, self._owner.disk_limit_s(), source.open_by)
        if found.opened is None or found.contents is None:
            assert found.error is not None
            raise found.error
        return Found(found.opened, found.contents[0])

    def put(self, disk: Found) -> bool:
        return self._owner.change_provider(disk.opened, disk.metadata.offset_bytes).flush_doubtful

    def begin_anew(self, reason: str) -> None:
        self._owner.begin_anew(reason)


def disk_change(owner: Owner, name: str) -> Change[Found, Source]:
    """The orders of one worker."""
    return Change(DiskSteps(owner, name))
