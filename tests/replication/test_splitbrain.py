"""Split brain in the engine: who may lose changes, in which order that becomes durable, what each side tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hast.config.model import SplitBrainPolicy
from hast.format.constants import OUR_FEATURES, SPLIT_BRAIN_TEXT, Feature, SyncSource
from hast.replication.answer import NOT_SAVED
from hast.replication.handshake import Accepted, PeerChanges, Refused, SecondReplyValues, check_second_reply
from hast.replication.primary import Primary, Settings
from hast.replication.secondary import Secondary, SecondHello, SecondReply
from hast.replication.splitbrain import Changes, decide, report, summary
from hast.replication.types import Metadata, Store

EXTENT, EXTENTS, MAP = 4096, 64, 512
BASE = Metadata("test", EXTENT * EXTENTS, EXTENT, 4, 4096 + MAP, resuid=7, prevrole="primary")
LOSER = replace(BASE, localcnt=4, remotecnt=2, ahead_since_s=2000)
"""The secondary of a split brain; the primary is at 3/3."""
WINNER = replace(BASE, localcnt=3, remotecnt=3)
HELLO = SecondHello(7, 3, 3, False, b"", changes=5, ahead_since_s=1000)
P = SplitBrainPolicy


def image(*extents: int) -> bytes:
    data = bytearray(MAP)
    for extent in extents:
        data[extent >> 3] |= 1 << (extent & 7)
    return bytes(data)


def secondary(
    metadata: Metadata = LOSER, extents: tuple[int, ...] = (1, 9), features: int = int(OUR_FEATURES), **more: Any
) -> Secondary:
    return Secondary(metadata, image(*extents), features=features, **more)


def stores(engine: Secondary | Primary) -> list[Store]:
    taken, engine.effects.stores = engine.effects.stores, []
    return taken


def names(engine: Secondary | Primary) -> list[str]:
    return [event.name for event in engine.effects.events]


def reply_of(engine: Secondary) -> SecondReply:
    assert engine.reply is not None
    return engine.reply


# -- the decision -----------------------------------------------------------------------------

FEW_LATE, MANY_EARLY, NONE_LATE = Changes(2, 2000), Changes(5, 1000), Changes(0, 2000)
ONE_LATE = Changes(1, 2000)


@pytest.mark.parametrize(
    ("policy", "local", "primary", "discards"),
    [
        (P.MANUAL, NONE_LATE, MANY_EARLY, False),
        (P.DISCARD_ZERO_CHANGES, NONE_LATE, MANY_EARLY, True),
        (P.DISCARD_ZERO_CHANGES, NONE_LATE, None, True),
        (P.DISCARD_ZERO_CHANGES, FEW_LATE, MANY_EARLY, False),
        (P.DISCARD_ZERO_CHANGES, ONE_LATE, MANY_EARLY, False),
        (P.DISCARD_ZERO_CHANGES, MANY_EARLY, NONE_LATE, False),
        (P.DISCARD_LEAST_CHANGES, FEW_LATE, MANY_EARLY, True),
        (P.DISCARD_LEAST_CHANGES, MANY_EARLY, FEW_LATE, False),
        (P.DISCARD_LEAST_CHANGES, FEW_LATE, FEW_LATE, False),
        (P.DISCARD_LEAST_CHANGES, FEW_LATE, None, False),
        (P.DISCARD_YOUNGER_PRIMARY, FEW_LATE, MANY_EARLY, True),
        (P.DISCARD_YOUNGER_PRIMARY, MANY_EARLY, FEW_LATE, False),
        (P.DISCARD_YOUNGER_PRIMARY, FEW_LATE, Changes(1, 2000), False),
        (P.DISCARD_YOUNGER_PRIMARY, Changes(1), MANY_EARLY, False),
        (P.DISCARD_OLDER_PRIMARY, MANY_EARLY, FEW_LATE, True),
        (P.DISCARD_OLDER_PRIMARY, FEW_LATE, MANY_EARLY, False),
        (P.DISCARD_OLDER_PRIMARY, MANY_EARLY, Changes(1), False),
        (P.DISCARD_OLDER_PRIMARY, MANY_EARLY, None, False),
    ],
)
def test_a_policy_names_the_loser(policy: P, local: Changes, primary: Changes | None, discards: bool) -> None:
    decision = decide(policy, local, primary)
    assert decision.discard_local is discards
    assert str(policy) in decision.reason


@pytest.mark.parametrize(
    ("policy", "local", "primary"),
    [
        (P.DISCARD_ZERO_CHANGES, MANY_EARLY, NONE_LATE),
        (P.DISCARD_LEAST_CHANGES, MANY_EARLY, FEW_LATE),
        (P.DISCARD_YOUNGER_PRIMARY, MANY_EARLY, FEW_LATE),
        (P.DISCARD_OLDER_PRIMARY, FEW_LATE, MANY_EARLY),
    ],
)
def test_a_primary_named_as_loser_is_left_to_the_operator(policy: P, local: Changes, primary: Changes) -> None:
    decision = decide(policy, local, primary)
    assert not decision.discard_local
    assert "a primary's changes are never given up" in decision.reason


def test_the_report_has_sizes_and_the_most_that_can_differ() -> None:
    found = report(Changes(2, 10), Changes(1), None, 1 << 21, "why")
    assert found["local"] == {"extents": 2, "bytes": 2 << 21, "since": 10}
    assert found["peer"] == {"extents": 1, "bytes": 1 << 21, "since": None}
    assert (found["differing_extents"], found["differing_bytes"]) == (3, 3 << 21)
    assert report(Changes(2), None, None, 512, "why")["differing_extents"] is None
    assert "2 extents (4.0MB), the other 1 extent (2.0MB)" in summary(Changes(2), Changes(1), 1 << 21)


# -- the secondary's answer -------------------------------------------------------------------


def test_by_hand_the_refusal_tells_what_this_node_changed() -> None:
    engine = secondary()
    engine.answer(HELLO, 1.0)
    reply = reply_of(engine)
    assert reply.errmsg == SPLIT_BRAIN_TEXT
    assert (reply.changes, reply.ahead_since_s, reply.bitmap) == (2, 2000, image(1, 9))
    assert "policy manual" in reply.reason
    assert names(engine) == ["split-brain"]
    details = engine.effects.events[0].details
    assert details is not None
    assert details["peer"]["extents"] == 5
    assert stores(engine) == []
    assert engine.meta == LOSER


def test_a_freebsd_primary_gets_the_reference_s_refusal() -> None:
    engine = secondary(features=0)
    engine.answer(HELLO._replace(changes=None), 1.0)
    reply = reply_of(engine)
    assert reply == SecondReply(LOSER.datasize_bytes, EXTENT, 4, 2, errmsg=SPLIT_BRAIN_TEXT)


def test_a_policy_saves_the_map_before_anything_changes() -> None:
    engine = secondary(policy=P.DISCARD_LEAST_CHANGES)
    engine.answer(HELLO, 1.0)
    saved = engine.effects.save
    assert saved is not None
    assert (saved.metadata, saved.image) == (LOSER, image(1, 9))
    assert stores(engine) == []
    assert engine.reply is None

    engine.saved("", 1.1)
    (job,) = stores(engine)
    assert job.flush
    assert job.metadata == replace(
        LOSER, localcnt=3, inconsistent=True, ahead_since_s=0, discard=False, prevrole="secondary"
    )
    assert engine.reply is None
    engine.stored(job, 0, 1.2)
    reply = reply_of(engine)
    assert (reply.errmsg, reply.syncsrc, reply.bitmap) == (None, SyncSource.PRIMARY, image(1, 9))
    assert (reply.localcnt, reply.remotecnt, reply.discards) == (3, 2, 2)
    assert names(engine) == ["split-brain", "split-brain-resolved"]


def test_what_cannot_be_saved_is_not_thrown_away() -> None:
    engine = secondary(policy=P.DISCARD_LEAST_CHANGES)
    engine.answer(HELLO, 1.0)
    engine.saved("No space left on device", 1.1)
    assert stores(engine) == []
    assert reply_of(engine).errmsg == SPLIT_BRAIN_TEXT
    assert reply_of(engine).reason == f"{NOT_SAVED}: No space left on device"
    assert engine.meta == LOSER


def test_a_disk_that_does_not_take_the_mark_is_refused() -> None:
    engine = secondary(replace(LOSER, discard=True))
    engine.answer(HELLO, 1.0)
    (job,) = stores(engine)
    engine.stored(job, 5, 1.1)
    assert reply_of(engine).errmsg == "Unable to write metadata on the secondary."


def test_an_order_is_carried_out_under_any_policy() -> None:
    engine = secondary(replace(LOSER, discard=True))
    engine.answer(HELLO, 1.0)
    assert engine.effects.save is None
    (job,) = stores(engine)
    assert job.metadata is not None
    assert (job.metadata.localcnt, job.metadata.discard, job.metadata.inconsistent) == (3, False, True)
    engine.stored(job, 0, 1.1)
    assert reply_of(engine).syncsrc is SyncSource.PRIMARY


def test_an_order_works_with_a_freebsd_primary() -> None:
    engine = secondary(replace(LOSER, discard=True), features=0)
    engine.answer(HELLO._replace(changes=None), 1.0)
    (job,) = stores(engine)
    engine.stored(job, 0, 1.1)
    assert (reply_of(engine).syncsrc, reply_of(engine).bitmap, reply_of(engine).discards) == (1, image(1, 9), None)


@pytest.mark.parametrize(("localcnt", "remotecnt"), [(3, 2), (3, 3), (4, 3)])
def test_an_order_is_void_where_there_is_no_split_brain(localcnt: int, remotecnt: int) -> None:
    engine = secondary(replace(LOSER, localcnt=localcnt, remotecnt=remotecnt, discard=True))
    engine.answer(HELLO, 1.0)
    assert reply_of(engine).errmsg is None
    (job,) = stores(engine)
    assert job.metadata is not None
    assert job.metadata.discard is False
    assert job.metadata.localcnt == localcnt
    assert "void" in engine.effects.events[-1].text


def test_crash_before_the_mark_is_durable_repeats_the_decision() -> None:
    engine = secondary(policy=P.DISCARD_LEAST_CHANGES)
    engine.answer(HELLO, 1.0)
    engine.saved("", 1.1)
    again = secondary(policy=P.DISCARD_LEAST_CHANGES)
    again.answer(HELLO, 2.0)
    assert again.effects.save is not None


def test_crash_after_the_mark_is_an_interrupted_synchronisation() -> None:
    """Whatever the order and the policy say by then: what differs is in the map, and the primary is the source."""
    engine = secondary(replace(LOSER, discard=True))
    engine.answer(HELLO, 1.0)
    (job,) = stores(engine)
    assert job.metadata is not None
    again = secondary(job.metadata)
    again.answer(HELLO._replace(changes=7), 2.0)
    reply = reply_of(again)
    assert (reply.errmsg, reply.syncsrc, reply.bitmap, reply.discards) == (None, 1, image(1, 9), None)
    assert again.meta.inconsistent
    assert "split-brain" not in names(again)


def test_a_copy_in_step_forgets_since_when_it_was_ahead() -> None:
    engine = secondary(replace(LOSER, localcnt=3))
    engine.answer(HELLO, 1.0)
    assert engine.meta.ahead_since_s == 0
    still = secondary(replace(LOSER, remotecnt=3))
    still.answer(HELLO, 1.0)
    assert reply_of(still).syncsrc is SyncSource.SECONDARY
    assert still.meta.ahead_since_s == 2000


# -- the primary ------------------------------------------------------------------------------


def primary(metadata: Metadata = WINNER, extents: tuple[int, ...] = (1, 2)) -> Primary:
    engine = Primary(Settings(), metadata, image(*extents), wall_offset_s=1_000_000.0)
    finish_stores(engine)
    return engine


def finish_stores(engine: Primary) -> list[Metadata]:
    written = []
    while engine.effects.stores:
        for job in stores(engine):
            if job.metadata is not None:
                written.append(job.metadata)
            engine.stored(job, 0, 1.0)
    return written


def message_4(**fields: Any) -> SecondReplyValues:
    return SecondReplyValues(BASE.datasize_bytes, EXTENT, 4, 2, **fields)


ACCEPTED = Accepted(2, b"t" * 16, OUR_FEATURES)


def test_the_primary_counts_what_it_changed() -> None:
    assert primary().changes() == Changes(2, 0)


def test_localcnt_is_raised_with_the_time_and_only_the_first_counts() -> None:
    engine = primary()
    engine.standing.go_ahead()
    (written,) = finish_stores(engine)
    assert (written.localcnt, written.ahead_since_s) == (4, 1_000_001)
    again = primary(replace(written, localcnt=4))
    again.core.now = 50.0
    again.standing.go_ahead()
    assert finish_stores(again)[-1].ahead_since_s == 1_000_001


def test_both_maps_make_what_differs_at_most() -> None:
    engine = primary(extents=(1, 2))
    values = message_4(errmsg=SPLIT_BRAIN_TEXT, bitmap=image(2, 3), changes=2, ahead_since_s=9, reason="left")
    with pytest.raises(Refused) as caught:
        check_second_reply(values, ACCEPTED, engine.core.meta)
    assert caught.value.split_brain
    assert caught.value.peer_changes is not None
    _text, details = engine.split_brain(caught.value.peer_changes)
    assert (details["differing_extents"], details["peer"]["since"], details["reason"]) == (3, 9, "left")


def test_a_freebsd_secondary_tells_nothing() -> None:
    engine = primary()
    with pytest.raises(Refused) as caught:
        check_second_reply(message_4(errmsg=SPLIT_BRAIN_TEXT), ACCEPTED, engine.core.meta)
    assert caught.value.peer_changes == PeerChanges()
    text, details = engine.split_brain(PeerChanges())
    assert (details["peer"], details["differing_extents"]) == (None, None)
    assert "does not tell" in text


def test_the_primary_tells_that_the_peer_gives_up() -> None:
    engine = primary(extents=(1, 2))
    engine.begin_handshake(1.0)
    engine.second_hello()
    values = message_4(syncsrc=1, mapsize_bytes=MAP, bitmap=image(9), discards=1)
    engine.attach(check_second_reply(values, ACCEPTED, engine.core.meta), 1.0)
    finish_stores(engine)
    assert names(engine)[:3] == ["split-brain", "split-brain-resolved", "connect"]
    assert list(engine.map.owed_remote) == [1, 2, 9]


def test_a_promotion_makes_an_order_void() -> None:
    engine = Primary(Settings(), replace(BASE, discard=True), image(1))
    (job,) = [job for job in stores(engine) if job.metadata is not None]
    assert job.metadata is not None
    assert not job.metadata.discard
    assert "void" in engine.effects.events[-1].text


def test_features_without_the_bit_carry_nothing_more() -> None:
    features = OUR_FEATURES & ~Feature.SPLIT_BRAIN_INFO
    engine = secondary(features=int(features))
    engine.answer(HELLO._replace(changes=None), 1.0)
    assert reply_of(engine).changes is None
    assert reply_of(engine).bitmap is None
