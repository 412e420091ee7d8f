"""Disasters that need several things at the right moment: each is aimed at one sequence that chance hardly ever makes.

What they have in common: clients rest at the point that matters, so that their own writes heal nothing, and the steps
go on at the very moment of something that the engine does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hast.sim.disk import SECTOR_BYTES
from hast.sim.schedule import Step
from hast.sim.small import DATASIZE_BYTES, EXTENT_BYTES

if TYPE_CHECKING:
    from hast.sim.disasters.draw import Draw

SECTORS = DATASIZE_BYTES // SECTOR_BYTES
EXTENT_SECTORS = EXTENT_BYTES // SECTOR_BYTES
SLOW_BYTES_S = 1000
"""A synchronisation at this rate takes 32 ms for each extent."""


def _sector(draw: Draw) -> int:
    return int(draw.random() * SECTORS)


def _write(draw: Draw, sector: int) -> Step:
    return draw.step("operation", op="write", sector=sector)


def _writes(draw: Draw, count: int) -> list[Step]:
    """One sector each, all in extents of their own."""
    extents = draw.sample(range(SECTORS // EXTENT_SECTORS), count)
    return [_write(draw, extent * EXTENT_SECTORS) for extent in extents]


def _quiet(draw: Draw) -> list[Step]:
    """Both copies are whole, and nothing is under way."""
    return [draw.step("rest"), draw.protected(), draw.step("wait", seconds=0.1)]


def _burst(draw: Draw) -> list[Step]:
    """Many writes that nobody flushes."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.006, batch=4, reads=0.0, flushes=0.0, fua=0.0, spread=80),
        draw.step("wait", seconds=0.3),
    ]


def _peer_lacks_some(draw: Draw, count: int, rate_bytes_s: int = 0) -> list[Step]:
    """The link is gone for a moment, and clients write."""
    return [
        *_quiet(draw),
        draw.step("network", up=False),
        *_writes(draw, count),
        draw.step("wait", seconds=0.3),
        draw.step("rate", bytes_s=rate_bytes_s),
        draw.step("network", up=True),
    ]


# -- a synchronisation, and something else ------------------------------------------------------------------------


def slow_copy_loses_its_cache(draw: Draw) -> list[Step]:
    """The copy that is made equal, piece after piece, loses power between two pieces."""
    steps = _peer_lacks_some(draw, 40, 2000)
    for _ in range(3):
        steps += [draw.step("until", what="between pieces", most_s=3.0)]
        steps += [draw.step("power off", node="secondary", keep=0.0), draw.later(0.3, "power on", node="secondary")]
    return [*steps, draw.step("wait", seconds=2.5)]


def write_fails_beside_a_copied_piece(draw: Draw) -> list[Step]:
    """A part of an extent is copied, when a write to that part reaches one copy only."""
    return [
        *_peer_lacks_some(draw, 6, SLOW_BYTES_S),
        draw.step("until", what="half copied", most_s=3.0),
        draw.step("fail", node=draw.node(), op="write"),
        draw.step("write beside copy"),
        draw.step("wait", seconds=1.0),
    ]


def flush_fails_beside_a_copy(draw: Draw) -> list[Step]:
    """The primary fails a flush while it copies to its peer, writes on, and the peer loses power."""
    written = _writes(draw, 5)
    return [
        *_quiet(draw),
        *written,
        draw.step("wait", seconds=0.1),
        *_peer_lacks_some(draw, 8, SLOW_BYTES_S),
        draw.step("until", what="copying", most_s=3.0),
        draw.step("fail", node="primary", op="flush"),
        draw.step("operation", op="flush"),
        draw.step("until", what="disk failed", most_s=0.5),
        draw.later(0.01, "wait", seconds=0.0),
        *written,
        draw.later(0.03, "wait", seconds=0.02),
        draw.step("power off", node="secondary", keep=0.0),
        draw.later(0.5, "power on", node="secondary"),
        draw.step("wait", seconds=2.0),
    ]


def flush_fails_as_a_pass_opens(draw: Draw) -> list[Step]:
    """What the primary could not flush is owed to it when the pass to its peer ends; the word that the peer leads now
    may be lost on its way."""
    return [
        *_quiet(draw),
        *_writes(draw, 5),
        draw.step("wait", seconds=0.1),
        draw.step("fail", node="secondary", op="write"),
        _write(draw, _sector(draw)),
        draw.step("until", what="opening", most_s=4.0),
        draw.step("fail", node="primary", op="flush"),
        draw.step("operation", op="flush"),
        draw.step("until", what="giving lead", most_s=3.0),
        *([draw.later(0.01, "cut")] if draw.random() < 0.5 else []),
        draw.step("wait", seconds=2.0),
    ]


def flush_of_a_pass_fails(draw: Draw) -> list[Step]:
    """A flush fails that no client asked for, and then the worker is killed that would have told of it."""
    return [
        *_peer_lacks_some(draw, 8, 2000),
        draw.step("until", what="copied", most_s=3.0),
        draw.step("fail", node="primary", op="flush"),
        draw.step("until", what="disk failed", most_s=1.0),
        draw.later(0.03, "wait", seconds=0.03),
        draw.step("network", up=False),
        draw.step("kill", node="primary"),
        draw.step("wait", seconds=1.2),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=0.5),
        draw.step("network", up=True),
    ]


def copied_to_and_crashed(draw: Draw) -> list[Step]:
    """The secondary lost its cache and is copied to, a flush is answered meanwhile, and the primary loses power."""
    return [
        *_burst(draw),
        *_quiet(draw),
        draw.step("power off", node="secondary", keep=0.0),
        draw.step("rate", bytes_s=SLOW_BYTES_S),
        draw.later(0.3, "power on", node="secondary"),
        draw.step("until", what="copying", most_s=3.0),
        draw.step("operation", op="flush"),
        draw.step("until", what="flushed", most_s=0.3),
        draw.step("power off", node="primary", keep=draw.keep()),
        draw.later(0.3, "power on", node="primary"),
    ]


def end_of_a_pass_is_lost(draw: Draw) -> list[Step]:
    """The link dies at the very end of a synchronisation; later the primary dies, and the other takes over."""
    return [
        *_peer_lacks_some(draw, 3),
        draw.step("until", what="closing", most_s=4.0),
        draw.later(0.012, "network", up=False),
        draw.step("wait", seconds=0.2),
        draw.step("take over unlinked", keep=draw.keep()),
        _write(draw, _sector(draw)),
        draw.step("wait", seconds=0.5),
        draw.step("network", up=True),
        draw.step("wait", seconds=2.0),
    ]


def debt_of_the_last_moment(draw: Draw) -> list[Step]:
    """A write reaches one copy only while the end of a synchronisation is being recorded."""
    sector = _sector(draw)
    return [
        *_peer_lacks_some(draw, 4, 2000),
        draw.step("until", what="copied", most_s=3.0),
        _write(draw, sector),
        draw.step("until", what="closing", most_s=4.0),
        draw.step("slow", node=draw.node(), factor=60.0),
        draw.step("fail", node="secondary", op="write"),
        _write(draw, sector),
        draw.step("wait", seconds=1.0),
        draw.step("slow", node="primary", factor=1.0),
        draw.step("slow", node="secondary", factor=1.0),
        draw.step("wait", seconds=1.0),
    ]


def last_record_fails(draw: Draw) -> list[Step]:
    """The copies are in step again, and the primary's disk cannot say so."""
    return [
        *_peer_lacks_some(draw, 3),
        draw.step("until", what="closing", most_s=4.0),
        draw.step("fail", node="primary", op="store", count=draw.one(1, 2)),
        draw.step("wait", seconds=0.5),
        draw.habits(),
        draw.step("wait", seconds=0.7),
    ]


def each_copy_lacks_something(draw: Draw) -> list[Step]:
    """A write fails on the primary, another on the secondary; then the primary's disk takes its time."""
    first, second = _writes(draw, 2)
    return [
        *_quiet(draw),
        first,
        second,
        draw.step("wait", seconds=0.1),
        draw.step("fail", node="primary", op="write"),
        first,
        draw.step("until", what="giving lead", most_s=0.5),
        draw.step("fail", node="secondary", op="write"),
        second,
        draw.later(0.03, "wait", seconds=0.0),
        draw.step("slow", node="primary", factor=draw.one(100.0, 300.0)),
        draw.step("wait", seconds=6.0),
        draw.step("slow", node="primary", factor=1.0),
    ]


def record_is_slow_after_a_failed_flush(draw: Draw) -> list[Step]:
    """A flush of the primary fails; what it covered is on the peer, long before the primary's disk says so."""
    return [
        draw.protected(),
        draw.step("fail", node="primary", op="flush"),
        draw.step("operation", op="flush"),
        draw.step("until", what="disk failed", most_s=0.5),
        draw.step("slow", node="primary", factor=300.0),
        *draw.hush(),
        draw.step("wait", seconds=3.0),
        draw.step("slow", node="primary", factor=1.0),
    ]


# -- starts --------------------------------------------------------------------------------------------------------


def second_start_before_the_caches_meet(draw: Draw) -> list[Step]:
    """The primary loses power, comes back where its peer is out of reach, and its worker is killed there."""
    return [
        *_burst(draw),
        draw.step("power off", node="primary", keep=draw.one(0.0, 0.5)),
        draw.step("rest"),
        draw.step("network", up=False),
        draw.later(0.5, "power on", node="primary"),
        draw.later(0.5, "wait", seconds=0.8),
        draw.step("kill", node="primary"),
        draw.later(0.5, "network", up=True),
        draw.step("wait", seconds=1.5),
    ]


def crash_before_the_counter_is_raised(draw: Draw) -> list[Step]:
    """The other took over, serves alone, and loses power when a write is marked and not yet counted."""
    sector = _sector(draw)
    return [
        *_quiet(draw),
        _write(draw, sector),
        draw.step("until", what="acknowledged", most_s=0.5),
        draw.step("take over", keep=0.0),
        draw.step("network", up=False),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=0.1),
        _write(draw, sector),
        draw.step("until", what="primary stores", most_s=0.3),
        draw.later(0.02, "power off", node="primary", keep=draw.keep()),
        draw.step("network", up=True),
        draw.later(0.3, "power on", node="primary"),
        draw.step("wait", seconds=1.0),
        draw.habits(),
        draw.step("wait", seconds=0.5),
    ]


def mixed_copy_starts_again(draw: Draw) -> list[Step]:
    """A primary that lost its cache takes it from its peer, is killed half way, and clients read while it is alone."""
    return [
        *_burst(draw),
        draw.step("power off", node="primary", keep=0.0),
        draw.step("rest"),
        draw.step("rate", bytes_s=SLOW_BYTES_S),
        draw.later(0.3, "power on", node="primary"),
        draw.step("until", what="copying", most_s=3.0),
        draw.later(0.1, "network", up=False),
        draw.step("kill", node="primary"),
        draw.step("wait", seconds=1.0),
        draw.step("work", gap_s=0.01, batch=4, reads=0.9, flushes=0.0, fua=0.0, spread=80),
        draw.step("wait", seconds=1.0),
        draw.step("rest"),
        draw.step("network", up=True),
        draw.step("wait", seconds=1.0),
    ]


def stale_copy_is_called_upon(draw: Draw) -> list[Step]:
    """The primary's disk missed a write, and then its host loses power and comes back."""
    return [
        *_quiet(draw),
        draw.step("fail", node="primary", op="write"),
        *_writes(draw, 1),
        draw.step("until", what="giving lead", most_s=0.5),
        draw.later(0.03, "wait", seconds=0.02),
        draw.step("power off", node="primary", keep=draw.keep()),
        draw.later(0.5, "power on", node="primary"),
        draw.step("wait", seconds=1.0),
    ]


# -- records that fail ----------------------------------------------------------------------------------------------


def counter_cannot_be_written(draw: Draw) -> list[Step]:
    """The primary goes on alone, and its disk fails the record of that."""
    return [
        draw.protected(),
        draw.step("network", up=False),
        draw.step("until", what="going ahead", most_s=1.0),
        draw.step("fail", node="primary", op="store"),
        *draw.hush(),
        draw.step("wait", seconds=0.5),
        draw.step("network", up=True),
    ]


def lead_is_refused(draw: Draw) -> list[Step]:
    """The primary's disk fails a write, and the peer's disk fails the record that it leads now; then another."""
    return [
        draw.protected(),
        draw.step("rate", bytes_s=SLOW_BYTES_S),
        draw.step("fail", node="secondary", op="store", count=draw.one(1, 2)),
        draw.step("fail", node="primary", op="write"),
        *_writes(draw, 2),
        draw.step("until", what="unconnected", most_s=0.5),
        *draw.hush(),
        draw.step("until", what="connected", most_s=3.0),
        draw.step("fail", node="primary", op="write"),
        *_writes(draw, 2),
        draw.step("wait", seconds=1.0),
    ]


def records_fail_under_load(draw: Draw) -> list[Step]:
    """The primary's disk fails a record while clients write, so that only the peer may take what follows."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.006, batch=4, flushes=0.02),
        draw.step("fail", node="primary", op="store"),
        draw.step("until", what="giving lead", most_s=1.0),
        draw.later(0.3, str(draw.one("wait", "cut"))),
        *draw.hush(),
        draw.step("wait", seconds=0.5),
    ]


def worker_dies_while_the_lead_is_offered(draw: Draw) -> list[Step]:
    """The primary's disk takes no record, its peer is told to lead, slow, and the worker is killed before it hears of
    it. The next one finds a disk that says nothing, and the peer away."""
    return [
        *_quiet(draw),
        draw.step("hang", node="secondary"),
        draw.step("fail", node="primary", op="store"),
        *_writes(draw, 2),
        draw.step("until", what="giving lead", most_s=0.5),
        draw.later(0.02, "kill", node="primary", resend=draw.chance(0.5)),
        draw.step("network", up=False),
        draw.step("answer", node="secondary", errors=False),
        draw.later(0.2, "rest"),
        *_writes(draw, 2),
        draw.step("wait", seconds=2.5),
        draw.step("network", up=True),
        draw.step("wait", seconds=1.5),
    ]


def peer_loses_its_cache_while_a_disk_leaves(draw: Draw) -> list[Step]:
    """The lead is handed over for planned work, and the peer loses power with writes in its cache before the disk has
    left: what the disk holds is the better copy."""
    return [
        *_burst(draw),
        draw.step("detach", node="primary"),
        draw.later(0.012, "power off", node="secondary", keep=0.0),
        draw.later(0.3, "power on", node="secondary"),
        draw.step("wait", seconds=1.5),
    ]


def lead_given_by_one_that_was_alone(draw: Draw) -> list[Step]:
    """The primary answered a flush alone, its disk then failed, and it gives the lead to the peer that comes back."""
    return [
        draw.step("rest"),
        draw.step("until", what="in step", most_s=5.0),
        *_writes(draw, 1),
        draw.step("wait", seconds=0.2),
        draw.step("network", up=False),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=0.3),
        draw.step("fail", node="primary", op="store"),
        *_writes(draw, 1),
        draw.step("until", what="disk failed", most_s=0.5),
        draw.step("network", up=True),
        draw.step("wait", seconds=2.5),
        *_writes(draw, 1),
        draw.step("wait", seconds=0.3),
        draw.step("cut"),
        draw.step("expect link"),
    ]


def disk_replaced_after_a_lead(draw: Draw) -> list[Step]:
    """The peer led once and is in step again, gets a new disk, and both nodes serve before that is filled."""
    return [
        *_quiet(draw),
        draw.step("fail", node="primary", op="write"),
        *_writes(draw, 1),
        draw.step("settle"),
        draw.step("rate", bytes_s=SLOW_BYTES_S),
        draw.step("replace disk", node="secondary"),
        draw.step("until", what="copying", most_s=3.0),
        draw.later(0.3, "write apart", node="primary", sector=_sector(draw)),
        draw.step("wait", seconds=0.1),
        draw.step("network", up=False),
        draw.later(0.2, "write apart", node="primary", sector=_sector(draw)),
        draw.step("promote", node="secondary", force=True),
        draw.later(0.5, "write apart", node="a", sector=_sector(draw)),
        draw.step("write apart", node="b", sector=_sector(draw)),
        draw.step("wait", seconds=1.0),
        draw.step("demote", node="secondary"),
        draw.step("network", up=True),
        draw.step("expect split brain"),
        draw.step("discard", node="secondary"),
        draw.step("forget"),
    ]


def everybody_flushes(draw: Draw) -> list[Step]:
    """A flush fails on the only copy while others wait for the next one."""
    return [
        draw.step("network", up=False),
        draw.step("work", gap_s=0.006, batch=4, flushes=0.3, fua=0.3, reads=0.0),
        draw.step("slow", node="primary", factor=4.0),
        draw.later(0.3, "fail", node="primary", op="flush"),
        draw.step("until", what="disk failed", most_s=1.0),
        draw.step("wait", seconds=0.2),
        *draw.hush(),
        draw.step("slow", node="primary", factor=1.0),
        draw.step("network", up=True),
    ]


def flush_spans_the_join(draw: Draw) -> list[Step]:
    """A flush began while the peer was away, and ends, or fails, when it is back."""
    return [
        *_quiet(draw),
        *_writes(draw, 3),
        draw.step("wait", seconds=0.1),
        draw.step("cut"),
        draw.step("wait", seconds=0.06),
        draw.step("slow", node="primary", factor=700.0),
        *([draw.step("fail", node="primary", op="flush")] if draw.random() < 0.5 else []),
        draw.step("operation", op="flush"),
        draw.step("until", what="primary flushes", most_s=0.2),
        draw.step("slow", node="primary", factor=1.0),
        draw.step("wait", seconds=4.0),
    ]


def flush_fails_unheard_beside_a_copy_that_is_filled(draw: Draw) -> list[Step]:
    """The primary lacks something and is filled; its peer fails a flush, then another, and nobody is left to hear of
    that one."""
    return [
        *_quiet(draw),
        draw.step("rate", bytes_s=SLOW_BYTES_S),
        draw.step("fail", node="primary", op="write", count=4),
        *_writes(draw, 4),
        draw.step("until", what="copying", most_s=4.0),
        draw.step("fail", node="secondary", op="flush"),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=0.1),
        draw.step("cut"),
        draw.step("until", what="handshake", most_s=4.0),
        draw.step("until", what="copying", most_s=4.0),
        *_writes(draw, 4),
        draw.step("wait", seconds=0.1),
        draw.step("fail", node="secondary", op="flush"),
        draw.step("operation", op="flush"),
        draw.step("until", what="secondary flushes", most_s=0.5),
        draw.step("silence"),
        draw.later(0.02, "kill", node="primary", resend=bool(draw.random() < 0.5)),
        draw.step("wait", seconds=0.5),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=2.0),
    ]


def flush_fails_on_both_and_nobody_hears(draw: Draw) -> list[Step]:
    """One flush fails on both copies: the peer answers to a worker that is killed, whose disk hung over it."""
    return [
        *_quiet(draw),
        *_writes(draw, 4),
        draw.step("wait", seconds=0.1),
        draw.step("hang", node="primary"),
        draw.step("fail", node="secondary", op="flush", count=draw.one(1, 2)),
        draw.step("operation", op="flush"),
        draw.later(0.1, "wait", seconds=0.05),
        draw.step("kill", node="primary", resend=draw.chance(0.5)),
        draw.step("answer", node="primary", errors=True),
        draw.later(0.5, "wait", seconds=0.3),
        draw.step("operation", op="flush"),
        draw.step("wait", seconds=1.5),
    ]


# -- whether anybody waits for ever ---------------------------------------------------------------------------------


def silence_is_noticed(draw: Draw) -> list[Step]:
    """Packets are lost without a word on a link on which nobody sends anything."""
    return [*_quiet(draw), draw.later(0.5, "wait", seconds=2.5), draw.step("silence"), draw.step("expect drop")]


def handshake_is_cut_for_long(draw: Draw) -> list[Step]:
    """The link dies in the middle of a handshake and does not come back; the primary serves alone."""
    return [
        *_quiet(draw),
        draw.step("cut"),
        draw.step("until", what="handshake", most_s=3.0),
        draw.later(0.01, "network", up=False),
        draw.step("expect answer"),
        draw.later(1.0, "network", up=True),
    ]


def arbiter_lost_and_peer_back(draw: Draw) -> list[Step]:
    """The arbiter is out of reach and stays so, and the peer comes back: a connected pair does not need it."""
    return [
        draw.protected(),
        draw.step("reach", node="primary", up=False),
        draw.step("network", up=False),
        *_writes(draw, 1),
        draw.later(1.5, "wait", seconds=3.2),
        draw.step("network", up=True),
        draw.step("expect link"),
        draw.step("expect answer"),
    ]


def arbiter_relents(draw: Draw) -> list[Step]:
    """The arbiter is out of the primary's reach for a while; then it lets it go on alone."""
    return [
        *_quiet(draw),
        draw.step("reach", node="primary", up=False),
        draw.step("network", up=False),
        *_writes(draw, 1),
        draw.later(1.0, "wait", seconds=3.2),
        draw.step("reach", node="primary", up=True),
        draw.step("expect answer", seconds=9.0),
        draw.step("network", up=True),
    ]


def flush_waits_for_the_arbiter(draw: Draw) -> list[Step]:
    """Nobody writes; a flush waits for an arbiter that is out of reach, and the peer comes back."""
    return [
        draw.step("rest"),
        draw.step("until", what="in step", most_s=5.0),
        *_writes(draw, 2),
        draw.step("wait", seconds=0.2),
        draw.step("reach", node="primary", up=False),
        draw.step("cut"),
        draw.later(0.1, "operation", op="flush"),
        draw.step("wait", seconds=5.5),
    ]


def demoted_while_the_arbiter_is_asked(draw: Draw) -> list[Step]:
    """The primary is drained while writes are under way, and the arbiter does not answer for them."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.006, batch=4, depth=40, reads=0.0),
        draw.step("slow", node="primary", factor=40.0),
        draw.step("reach", node="primary", up=False),
        draw.step("network", up=False),
        draw.step("until", what="going ahead", most_s=1.0),
        draw.later(0.02, "switch"),
        draw.step("reach", node="primary", up=True),
        draw.step("network", up=True),
    ]


def question_is_made_void(draw: Draw) -> list[Step]:
    """The arbiter is asked in the middle of a handshake; the link comes up, and is lost before the copies are equal."""
    return [
        *_quiet(draw),
        draw.step("reach", node="primary", up=False),
        draw.step("network", up=False),
        *_writes(draw, 1),
        draw.step("wait", seconds=3.3),
        draw.step("latency", seconds=0.4),
        draw.step("network", up=True),
        draw.step("until", what="handshake", most_s=3.0),
        draw.later(0.1, "thaw"),
        draw.step("until", what="connected", most_s=3.0),
        draw.step("latency", seconds=0.003),
        draw.step("expect link", seconds=9.0),
    ]


RARE: tuple[Callable[[Draw], list[Step]], ...] = (
    slow_copy_loses_its_cache,
    write_fails_beside_a_copied_piece,
    flush_fails_beside_a_copy,
    flush_fails_as_a_pass_opens,
    flush_of_a_pass_fails,
    copied_to_and_crashed,
    end_of_a_pass_is_lost,
    debt_of_the_last_moment,
    last_record_fails,
    each_copy_lacks_something,
    record_is_slow_after_a_failed_flush,
    second_start_before_the_caches_meet,
    crash_before_the_counter_is_raised,
    mixed_copy_starts_again,
    stale_copy_is_called_upon,
    counter_cannot_be_written,
    lead_is_refused,
    records_fail_under_load,
    worker_dies_while_the_lead_is_offered,
    peer_loses_its_cache_while_a_disk_leaves,
    lead_given_by_one_that_was_alone,
    disk_replaced_after_a_lead,
    everybody_flushes,
    flush_spans_the_join,
    flush_fails_unheard_beside_a_copy_that_is_filled,
    flush_fails_on_both_and_nobody_hears,
    silence_is_noticed,
    handshake_is_cut_for_long,
    arbiter_lost_and_peer_back,
    arbiter_relents,
    flush_waits_for_the_arbiter,
    demoted_while_the_arbiter_is_asked,
    question_is_made_void,
)
RARE_ONLY_WITH_ARBITER = frozenset(
    {
        arbiter_lost_and_peer_back,
        arbiter_relents,
        flush_waits_for_the_arbiter,
        demoted_while_the_arbiter_is_asked,
        question_is_made_void,
    }
)
RARE_NEVER_WITH_ARBITER = frozenset({disk_replaced_after_a_lead})
