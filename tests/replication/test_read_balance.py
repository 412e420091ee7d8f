"""Which copy serves a read, and what a read that the peer serves may show."""

from __future__ import annotations

import heapq
from typing import Any

import pytest
from driver import EIO, EXTENT, SECTOR, Rig, image, metadata

from hast.format.constants import Feature, Replication, SyncSource
from hast.replication import read_balance
from hast.replication.core import Settings
from hast.replication.read_balance import Balance, cost_bytes
from hast.replication.reads import READERS_GONE_S, WATCH_S, WATCHED_S
from hast.replication.types import DELETE, READ, WRITE, ZERO, Request

COST = cost_bytes(4096)

# The decision


def served(here_s: float, there_s: float, depth: int, trip_s: float = 0.0, reads: int = 4000) -> tuple[float, float]:
    """`depth` readers on two disks that take so long for a read, one after the other; the peer's answers travel
    `trip_s`. (Reads a second, share of the peer.)"""
    balance = Balance()
    free_s = {True: 0.0, False: 0.0}
    events: list[tuple[float, int, bool, float, int]] = []
    now, peers = 0.0, 0
    for number in range(reads):
        if number >= depth:
            now, _, to_peer, began_s, under_way = heapq.heappop(events)
            queue = balance.peer if to_peer else balance.local
            queue.end(COST)
            queue.took(now - began_s, under_way)
        to_peer = balance.prefers_peer(COST, now)
        peers += to_peer
        under_way = (balance.peer if to_peer else balance.local).begin(COST, now)
        free_s[to_peer] = max(now, free_s[to_peer]) + (there_s if to_peer else here_s)
        heapq.heappush(events, (free_s[to_peer] + (trip_s if to_peer else 0.0), number, to_peer, now, under_way))
    return reads / now, peers / reads


def test_two_equal_disks_serve_nearly_twice_as_many_reads_as_one() -> None:
    rate, share = served(0.001, 0.001, depth=32)
    assert rate > 1.8 / 0.001
    assert 0.4 < share < 0.6


def test_a_quicker_peer_serves_more() -> None:
    rate, share = served(0.004, 0.001, depth=32)
    assert rate > 1.1 / 0.001
    assert share > 0.7


def test_a_local_disk_that_is_far_quicker_serves_all_but_the_reads_that_ask_how_the_peer_is() -> None:
    _rate, share = served(0.0001, 0.01, depth=1)
    assert share < 0.02


def test_one_reader_is_not_sent_over_a_wire_that_is_longer_than_the_disk_takes() -> None:
    _rate, share = served(0.001, 0.001, depth=1, trip_s=0.005)
    assert share < 0.02


def test_a_peer_that_was_late_is_left_alone_for_a_while() -> None:
    balance = Balance()
    assert balance.prefers_peer(COST, 10.0)
    balance.avoid_peer(10.0)
    assert not balance.prefers_peer(COST, 10.0 + read_balance.AVOID_S - 0.1)
    assert balance.prefers_peer(COST, 10.0 + read_balance.AVOID_S)


def test_a_read_is_late_after_many_times_what_was_expected() -> None:
    balance = Balance()
    assert balance.late_at_s(COST, 5.0) == 5.0 + read_balance.LATE_S
    balance.peer.took(0.5, balance.peer.begin(COST, 5.0))
    balance.peer.end(COST)
    assert balance.late_at_s(COST, 6.0) == pytest.approx(6.0 + read_balance.LATE_TIMES * 0.5)


# The rules


def balanced(replication: Replication = Replication.FULLSYNC, **connect: Any) -> Rig:
    """Both copies in step, and the next read would go to the peer."""
    rig = Rig(settings=Settings(replication=replication, read_balancing=True))
    rig.connect(**connect)
    rig.write(0)
    rig.work()
    rig.tick()
    return rig


def goes_to_peer(rig: Rig, offset: int = 0) -> bool:
    before = len(rig.sent(READ))
    request = rig.read(offset)
    assert (len(rig.sent(READ)) > before) is not (request in rig.local)
    return request not in rig.local


@pytest.mark.parametrize("replication", [Replication.FULLSYNC, Replication.MEMSYNC])
def test_the_peer_serves_a_read(replication: Replication) -> None:
    rig = balanced(replication)
    request = rig.read(0, 1024)
    assert not rig.local
    assert [item[:1] + item[2:4] for item in rig.sent(READ)] == [(READ, 0, 1024)]
    rig.answer_remote(data=b"p" * 1024)
    assert rig.finished[-1:] == [request]
    assert (request.error, request.data) == (0, b"p" * 1024)
    assert rig.engine.core.counters.peer_reads == 1
    assert rig.engine.active == 0


def test_a_peer_without_our_extensions_serves_a_read_in_pieces_that_it_takes() -> None:
    rig = balanced(features=Feature.NONE)
    request = rig.read(0, 4 * EXTENT)
    rig.answer_remote()
    assert request.data == bytes(4 * EXTENT)
    assert rig.finished[-1:] == [request]


def test_all_is_read_locally_where_it_is_off() -> None:
    rig = Rig()
    rig.connect()
    rig.tick()
    assert not goes_to_peer(rig)


def test_nothing_is_read_at_a_peer_that_may_lag() -> None:
    assert not goes_to_peer(balanced(Replication.ASYNC))


@pytest.mark.parametrize("op", [WRITE, ZERO, DELETE])
def test_what_is_being_written_is_read_locally(op: int) -> None:
    rig = balanced(Replication.MEMSYNC)
    write = Request(op, 0, SECTOR, b"w" * SECTOR if op == WRITE else None)
    rig.submit(write)
    assert not goes_to_peer(rig)
    assert goes_to_peer(rig, SECTOR)


def test_a_write_answered_early_is_read_locally_until_the_peer_has_carried_it_out() -> None:
    rig = balanced(Replication.MEMSYNC)
    write = rig.write(0, b"w" * SECTOR)
    rig.reply(rig.sent(WRITE)[0][1], received=True)
    rig.finish_local()
    assert rig.finished[-1:] == [write]
    assert not goes_to_peer(rig)


def test_a_read_overtaken_by_a_write_is_read_again_locally() -> None:
    """The peer may show the write, and this copy not hold it yet."""
    rig = balanced()
    request = rig.read(0)
    asked = rig.sent(READ)[0][1]
    rig.write(0, b"w" * SECTOR)
    rig.reply(asked, data=b"w" * SECTOR)
    assert request not in rig.finished
    assert request in rig.local


def test_a_read_is_answered_by_the_peer_when_the_write_that_overtook_it_is_over_on_both_copies() -> None:
    rig = balanced()
    request = rig.read(0)
    asked = rig.sent(READ)[0][1]
    rig.write(0, b"w" * SECTOR)
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1])
    rig.reply(asked, data=b"w" * SECTOR)
    assert request in rig.finished


def test_a_peer_that_lacks_anything_serves_no_read_and_its_answer_under_way_does_not_count() -> None:
    rig = balanced()
    request = rig.read(0)
    asked = rig.sent(READ)[0][1]
    rig.write(8 * EXTENT)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1], error=EIO)
    rig.reply(asked, data=b"o" * SECTOR)
    assert request in rig.local
    assert not goes_to_peer(rig, 4 * EXTENT)


def test_nothing_is_read_at_the_peer_while_the_copies_are_made_equal() -> None:
    rig = Rig(settings=Settings(read_balancing=True))
    rig.attach(syncsrc=SyncSource.PRIMARY, bitmap=image(2, 3))
    rig.tick()
    assert not goes_to_peer(rig)


def test_what_this_copy_lacks_is_read_at_the_peer_as_ever() -> None:
    rig = Rig(metadata(localcnt=0, remotecnt=0), settings=Settings(read_balancing=True))
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(2, 3))
    rig.tick()
    assert goes_to_peer(rig, 2 * EXTENT)
    assert not goes_to_peer(rig, 9 * EXTENT)


def test_nothing_is_read_at_the_peer_while_writes_are_held_or_the_role_is_given_up() -> None:
    rig = balanced()
    rig.call(rig.engine.freeze, "test")
    assert not goes_to_peer(rig)
    rig.finish_local()
    rig.call(rig.engine.thaw)
    rig.call(rig.engine.withhold, True)
    assert not goes_to_peer(rig)


def test_a_copy_whose_flush_failed_is_not_read() -> None:
    rig = balanced()
    rig.flush()
    rig.finish_local()
    for item in rig.sent():
        rig.reply(item[1], error=EIO)
    rig.remote.clear()
    assert not goes_to_peer(rig)


# What goes wrong at the peer


def test_a_read_that_the_peer_fails_is_served_locally_and_the_next_ones_too() -> None:
    rig = balanced()
    request = rig.read(0)
    rig.answer_remote(error=EIO)
    rig.finish_local()
    assert rig.finished[-1:] == [request]
    assert request.error == 0
    assert not goes_to_peer(rig)


def test_a_late_read_is_served_locally_and_the_answer_that_comes_nevertheless_is_passed_over() -> None:
    rig = balanced()
    request = rig.read(0)
    asked = rig.sent(READ)[0][1]
    assert rig.tick() - rig.now <= WATCH_S
    rig.tick(read_balance.LATE_S)
    assert rig.local == [request]
    rig.reply(asked, data=b"p" * SECTOR)
    assert request not in rig.finished
    rig.finish_local()
    assert rig.finished.count(request) == 1
    assert request.data != b"p" * SECTOR


def test_reads_at_a_peer_that_is_lost_are_served_locally() -> None:
    rig = balanced()
    request = rig.read(0)
    rig.lose()
    rig.finish_local()
    assert rig.finished.count(request) == 1
    assert request.error == 0


def test_a_read_that_neither_the_peer_nor_the_local_disk_serves_is_an_error() -> None:
    rig = balanced()
    request = rig.read(0)
    rig.answer_remote(error=EIO)
    rig.finish_local(error=EIO)
    rig.answer_remote(error=EIO)
    assert rig.finished[-1:] == [request]
    assert request.error == EIO


def test_a_read_at_the_peer_goes_on_there_when_the_local_disk_is_given_up() -> None:
    rig = balanced()
    request = rig.read(0)
    rig.call(rig.engine.disk_lost, "test")
    rig.answer_remote(data=b"p" * SECTOR)
    rig.answer_remote(data=b"p" * SECTOR)
    assert rig.finished.count(request) == 1
    assert request.error == 0


def test_nobody_is_woken_for_late_reads_when_nobody_reads() -> None:
    rig = balanced()
    rig.read(0)
    rig.work()
    assert rig.tick() - rig.now <= WATCH_S
    assert rig.tick(READERS_GONE_S) - rig.now > WATCHED_S
    rig.now += WATCHED_S + 0.1
    assert not goes_to_peer(rig)
