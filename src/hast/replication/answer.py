"""The secondary's answer to message 3 (section 4.3): who has the newer data, and what comes of a split brain.

The answer appears in `reply` once all that it promises is on the disk. Giving up this copy's changes takes four steps,
in this order: the map of what is given up is saved outside the copy, the metadata says that the copy is inconsistent
and no longer ahead, that is durable, message 4 goes out. From the second on an interrupted resynchronisation is an
ordinary one. Sans-I/O.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from hast.config.model import SplitBrainPolicy
from hast.format.constants import SPLIT_BRAIN_TEXT, Feature, Role, SyncSource
from hast.replication import splitbrain
from hast.replication.bitmap import Bitmap
from hast.replication.core import MAP_OFFSET_BYTES
from hast.replication.splitbrain import Changes
from hast.replication.table import Verdict, source
from hast.replication.types import Discarded, Effects, Metadata, Store

NOT_WRITTEN = "Unable to write metadata on the secondary."
NOT_SAVED = "the map of what would be thrown away could not be saved"


class SecondHello(NamedTuple):
    """Message 3, as values. `changes`: None from a primary that does not tell."""

    resuid: int
    localcnt: int
    remotecnt: int
    virgin: bool
    boot_id: bytes = b""
    changes: int | None = None
    ahead_since_s: int = 0


class SecondReply(NamedTuple):
    """Message 4, as values. With `errmsg` it is a refusal; what comes after `bitmap` is only for our own nodes."""

    datasize_bytes: int
    extentsize_bytes: int
    localcnt: int
    remotecnt: int
    errmsg: str | None = None
    virgin: bool = False
    syncsrc: SyncSource = SyncSource.UNDEFINED
    mapsize_bytes: int = 0
    bitmap: bytes | None = None
    changes: int | None = None
    ahead_since_s: int = 0
    reason: str = ""
    discards: int | None = None


class Owner(Protocol):
    """The secondary, as its answer sees it."""

    @property
    def meta(self) -> Metadata: ...

    @property
    def effects(self) -> Effects: ...

    def note(self, meta: Metadata) -> None:
        """What the disk is to say; `store_metadata` has it written."""
        ...

    def store_metadata(self, reason: str) -> Store: ...
    def event(self, name: str, text: str, level: str, details: dict[str, Any] | None = None) -> None: ...


class Answer:
    """For one message 3. `image` is the map on the disk.

    `held_back`: why the policy may not be followed here, empty when it may.
    """

    def __init__(
        self, owner: Owner, image: bytes, features: Feature, policy: SplitBrainPolicy, held_back: str = ""
    ) -> None:
        self.reply: SecondReply | None = None
        self.verdict: Verdict | None = None
        self._owner = owner
        self._image = image
        self._features = features
        self._policy = policy
        self._held_back = held_back
        self._job: Store | None = None
        """`_promised` may be said once this is done."""
        self._map_job: Store | None = None
        """The id of `_adopted` may be taken once this is done."""
        self._adopted: SecondHello | None = None
        self._promised: SecondReply | None = None
        self._unsaved: tuple[SecondHello, str] | None = None
        self.in_step = False
        """By the counters the primary acknowledged nothing that this copy lacks."""

    @property
    def source(self) -> SyncSource:
        """Who has the newer data, once it is decided."""
        return SyncSource.UNDEFINED if self.verdict is None else self.verdict.source

    @property
    def full(self) -> bool:
        """Every extent is to be copied."""
        return self.verdict is not None and self.verdict.full

    def decide(self, hello: SecondHello) -> None:
        """Decide who has the newer data; `reply` follows."""
        meta = self._owner.meta
        if meta.resuid == 0:
            self._adopt(hello)
        elif meta.resuid != hello.resuid:
            text = f"Resource unique ID mismatch (primary={hello.resuid}, secondary={meta.resuid})."
            self.reply = self._refusal(text)
        else:
            self._compare(hello)

    def saved(self, error: str) -> None:
        """The map of what is given up is safe, or is not."""
        assert self._unsaved is not None, "nothing was to be saved"
        hello, reason = self._unsaved
        self._unsaved = None
        if error:
            self._refuse_split_brain(hello, f"{NOT_SAVED}: {error}")
        else:
            self._discard(hello, reason)

    def stored(self, job: Store, error: int) -> None:
        """A durable write ended."""
        if job is self._map_job:
            self._map_job = None
            assert self._adopted is not None, "a map for nobody"
            if error:
                self.reply = self._refusal(NOT_WRITTEN)
            else:
                self._take_id(self._adopted)
            return
        if job is not self._job:
            return
        self._job = None
        assert self._promised is not None, "stored without a reply to give"
        self.reply = self._refusal(NOT_WRITTEN) if error else self._promised

    def _adopt(self, hello: SecondHello) -> None:
        """Never connected before: take the primary's resource id; copy everything unless it is fresh as well.

        If everything is to be copied, this disk's map says so before it has the id, and both before message 4 does:
        should that be lost, the next handshake finds a copy that looks in step.
        """
        owner = self._owner
        self.verdict = Verdict(SyncSource.PRIMARY, full=not hello.virgin)
        if hello.virgin:
            self._take_id(hello)
            return
        mapsize = owner.meta.offset_bytes - MAP_OFFSET_BYTES
        self._map_job = Store("all is to be copied", offset_bytes=MAP_OFFSET_BYTES, data=b"\xff" * mapsize)
        self._adopted = hello
        owner.effects.stores.append(self._map_job)

    def _take_id(self, hello: SecondHello) -> None:
        owner = self._owner
        assert self.verdict is not None, "not decided"
        full = self.verdict.full
        owner.note(replace(owner.meta, resuid=hello.resuid, prevrole=str(Role.SECONDARY), inconsistent=full))
        promised = self._acceptance(self.verdict)._replace(virgin=True)
        if hello.virgin:
            promised = promised._replace(mapsize_bytes=0, bitmap=None)
        self._promised = promised
        self._job = owner.store_metadata("resource id")

    def _compare(self, hello: SecondHello) -> None:
        owner, meta = self._owner, self._owner.meta
        verdict = source(meta.localcnt, meta.remotecnt, hello.localcnt, hello.remotecnt)
        self.verdict = verdict
        in_step = meta.localcnt == hello.remotecnt and meta.remotecnt == hello.localcnt
        self.in_step = in_step and not (meta.inconsistent or meta.unflushed)
        if verdict.split_brain:
            self._split_brain(hello)
            return
        if verdict.source is SyncSource.PRIMARY and meta.unflushed and not self._features:
            verdict = self.verdict = Verdict(SyncSource.PRIMARY, full=True)
        if verdict.source is SyncSource.SECONDARY and meta.inconsistent:
            self.reply = self._refusal("This copy is inconsistent (a synchronization into it was interrupted).")
            return
        if not verdict.expected:
            owner.event(
                "warning",
                f"Unexpected counters (secondary {meta.localcnt}/{meta.remotecnt}, primary {hello.localcnt}/"
                f"{hello.remotecnt}): everything is copied.",
                "warning",
            )
        self.reply = self._acceptance(verdict)
        self._note_acceptance(verdict)

    def _note_acceptance(self, verdict: Verdict) -> None:
        """What a copy that is not in split brain no longer says of itself."""
        owner, meta = self._owner, self._owner.meta
        since_s = meta.ahead_since_s if verdict.source is SyncSource.SECONDARY else 0
        if meta.discard:
            text = "The copies are not in split brain: the order to discard this copy's changes is void."
            owner.event("warning", text, "warning")
        noted = replace(meta, prevrole=str(Role.SECONDARY), ahead_since_s=since_s, discard=False)
        if noted != meta:
            owner.note(noted)
            owner.store_metadata("role secondary")

    # -- split brain ------------------------------------------------------------------------------------------------

    def _split_brain(self, hello: SecondHello) -> None:
        meta = self._owner.meta
        local, primary = self._changes(), _primary_changes(hello)
        if meta.discard:
            decision = splitbrain.Decision(True, "as ordered on this node")
        elif self._held_back:
            decision = splitbrain.Decision(False, f"policy {self._policy}: {self._held_back}")
        else:
            decision = splitbrain.decide(self._policy, local, primary)
        extentsize = meta.extentsize_bytes
        text = splitbrain.summary(local, primary, extentsize)
        details = splitbrain.report(local, primary, None, extentsize, decision.reason)
        self._owner.event("split-brain", text, "warning" if decision.discard_local else "error", details)
        if meta.discard:
            self._discard(hello, decision.reason)
        elif decision.discard_local:
            self._unsaved = (hello, decision.reason)
            self._owner.effects.save = Discarded(meta, self._image, decision.reason, details)
        else:
            self._refuse_split_brain(hello, decision.reason)

    def _discard(self, hello: SecondHello, reason: str) -> None:
        """Become an ordinary stale secondary, whose map says what it lacks or must give back."""
        owner, changes = self._owner, self._changes()
        noted = replace(
            owner.meta,
            localcnt=hello.remotecnt,
            inconsistent=True,
            ahead_since_s=0,
            discard=False,
            prevrole=str(Role.SECONDARY),
        )
        owner.note(noted)
        self.verdict = Verdict(SyncSource.PRIMARY)
        told = changes.extents if Feature.SPLIT_BRAIN_INFO in self._features else None
        self._promised = self._acceptance(self.verdict)._replace(discards=told)
        self._job = owner.store_metadata("own changes given up")
        what = splitbrain.amount(changes, owner.meta.extentsize_bytes)
        owner.event("split-brain-resolved", f"The changes of this node, {what}, are thrown away ({reason}).", "warning")

    def _refuse_split_brain(self, hello: SecondHello, reason: str) -> None:
        refusal = self._refusal(SPLIT_BRAIN_TEXT)
        if Feature.SPLIT_BRAIN_INFO in self._features:
            changes = self._changes()
            mapsize = self._owner.meta.offset_bytes - MAP_OFFSET_BYTES
            refusal = refusal._replace(
                changes=changes.extents,
                ahead_since_s=changes.since_s,
                reason=reason,
                mapsize_bytes=mapsize,
                bitmap=bytes(self._image[:mapsize]),
            )
        self.reply = refusal

    def _changes(self) -> Changes:
        meta = self._owner.meta
        return Changes(count_extents(meta, self._image), meta.ahead_since_s)

    # -- message 4 --------------------------------------------------------------------------------------------------

    def _refusal(self, text: str) -> SecondReply:
        meta = self._owner.meta
        return SecondReply(meta.datasize_bytes, meta.extentsize_bytes, meta.localcnt, meta.remotecnt, errmsg=text)

    def _acceptance(self, verdict: Verdict) -> SecondReply:
        meta = self._owner.meta
        mapsize = meta.offset_bytes - MAP_OFFSET_BYTES
        return SecondReply(
            meta.datasize_bytes,
            meta.extentsize_bytes,
            meta.localcnt,
            meta.remotecnt,
            syncsrc=verdict.source,
            mapsize_bytes=mapsize,
            bitmap=b"\xff" * mapsize if verdict.full else bytes(self._image[:mapsize]),
        )


def count_extents(metadata: Metadata, image: bytes) -> int:
    """Extents marked in a map as it is on the disk."""
    return marked(metadata, image).count


def marked(metadata: Metadata, image: bytes) -> Bitmap:
    """The extents marked in a map as it is on the disk."""
    bitmap = Bitmap(-(-metadata.datasize_bytes // metadata.extentsize_bytes))
    bitmap.merge(image)
    return bitmap


def _primary_changes(hello: SecondHello) -> Changes | None:
    return None if hello.changes is None else Changes(hello.changes, hello.ahead_since_s)
