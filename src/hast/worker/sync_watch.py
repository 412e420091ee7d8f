"""What a secondary tells of synchronisation: began, ended, interrupted, as its copy's own marks say (docs/control.md).

Pure: looks at the metadata after every round and compares. The primary copies and knows how much; the marks on this
node's disk are what decides whether this copy may be used, so they are the facts told here.
"""

from __future__ import annotations

from hast.replication.types import Event, Metadata

FROM_PEER = "Synchronization started: this copy receives what it lacks."
TO_PEER = "Synchronization started: the primary takes what it lacks from this copy."
DONE = "Synchronization complete: both copies are equal."
INTERRUPTED = "Synchronization interrupted."


class SyncWatch:
    """For one connection. `told`: the primary says when it begins and ends; without that, one may never begin."""

    def __init__(self, told: bool) -> None:
        self._told = told
        self._seen: Metadata | None = None
        self._copying = False

    def in_step(self, metadata: Metadata) -> bool:
        """Both copies are equal, as far as this node can know."""
        return not (metadata.unflushed or self._is_copied(metadata))

    def look(self, metadata: Metadata) -> Event | None:
        """What is to be told now. The first look is at the connection's beginning."""
        if metadata is self._seen:
            return None
        first, self._seen = self._seen is None, metadata
        before, self._copying = self._copying, self._is_copied(metadata)
        if self._copying is before:
            return None
        if not self._copying:
            return Event("syncdone", DONE)
        if first and not self._told:
            return None
        return Event("syncstart", TO_PEER if self._is_source(metadata) else FROM_PEER)

    def lost(self) -> Event | None:
        """The connection is gone."""
        return Event("syncintr", INTERRUPTED, "warning") if self._copying else None

    def _is_copied(self, metadata: Metadata) -> bool:
        return metadata.inconsistent or metadata.stale or self._is_source(metadata)

    def _is_source(self, metadata: Metadata) -> bool:
        return self._told and bool(metadata.ahead_since_s)
