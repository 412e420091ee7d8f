"""A primary that lets go in order: what its peer is told, and what its clients are not told."""

from __future__ import annotations

from driver import EIO, EXTENT, Rig, Shelf

from hast.format.constants import OUR_FEATURES, PEER_LEAVES_SEQ, Command, Feature, Replication
from hast.replication.core import Settings
from hast.replication.leaving import FAREWELL_S, LINGER_S, PEER_STOPPED, QUIET_S

LEAVING, LEFT = int(Command.LEAVING), int(Command.LEFT)
OLDER = int(OUR_FEATURES & ~Feature.LEAVING)


def connected(features: int = OUR_FEATURES) -> Rig:
    rig = Rig()
    rig.connect(features)
    rig.work()
    return rig


def quiet(rig: Rig) -> bool:
    return bool(rig.call(rig.engine.is_quiet))


def test_peer_is_told_how_long_it_may_take() -> None:
    rig = connected()
    rig.call(rig.engine.leave, 12.5)
    assert [item[3] for item in rig.sent(LEAVING)] == [12500]


def test_peer_that_connects_meanwhile_is_told_what_is_left_of_the_time() -> None:
    rig = Rig()
    rig.call(rig.engine.leave, 10.0)
    rig.now += 4.0
    rig.attach()
    rig.store_all()
    assert [item[3] for item in rig.sent(LEAVING)] == [6000]


def test_peer_that_does_not_know_it_is_told_nothing() -> None:
    rig = connected(OLDER)
    rig.call(rig.engine.leave, 10.0)
    rig.call(rig.engine.drain)
    rig.work()
    assert rig.engine.drained
    assert not rig.sent(LEAVING, LEFT)


def test_withheld_writes_are_carried_out_on_both_copies_and_answered_to_nobody() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    rig.write(0, b"n" * 512)
    rig.store_all()
    assert rig.sent(int(Command.WRITE))
    rig.work()
    assert not rig.finished
    assert rig.disk.data[:512] == b"n" * 512
    assert rig.engine.active == 0


def test_flushes_are_answered_when_both_copies_kept_them_and_withheld_when_not() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    flush = rig.flush()
    rig.work()
    assert rig.finished == [flush]
    rig.flush()
    rig.finish_local(error=EIO)
    rig.answer_remote(error=EIO)
    rig.work()
    assert rig.finished == [flush]


def test_reads_are_answered_until_the_drain() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    read = rig.read(0)
    rig.work()
    assert rig.finished == [read]
    rig.call(rig.engine.drain)
    rig.read(0)
    rig.work()
    assert rig.finished == [read]


def test_errors_are_withheld_too() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    rig.write(0)
    rig.finish_local(error=5)
    rig.answer_remote(error=5)
    rig.call(rig.engine.drain)
    rig.write(0)
    rig.work()
    assert not rig.finished


def test_quiet_is_what_is_flushed_on_both_and_followed_by_silence() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    rig.write(0)
    assert not quiet(rig)
    rig.work()
    assert not quiet(rig)
    rig.now += 2 * QUIET_S
    assert not quiet(rig)
    assert rig.sent(int(Command.FLUSH))
    rig.work()
    assert quiet(rig)


def test_primary_that_nobody_uses_is_quiet_at_once() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    assert quiet(rig)


def test_users_are_given_time_to_come_to_wait_for_a_write() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, True)
    rig.now += 2 * QUIET_S
    assert not quiet(rig)
    rig.now += LINGER_S
    assert quiet(rig)


def test_users_that_wait_for_a_write_are_not_waited_for() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, True)
    rig.write(0)
    rig.work()
    rig.now += 2 * QUIET_S
    quiet(rig)
    rig.work()
    assert quiet(rig)


def test_frozen_writes_do_not_keep_it_from_being_quiet() -> None:
    rig = connected()
    rig.call(rig.engine.freeze, "by hand")
    rig.write(0)
    rig.call(rig.engine.withhold, False)
    rig.now += 2 * QUIET_S
    assert quiet(rig)
    assert not rig.local


def test_write_that_the_peer_misses_now_is_no_reason_to_go_ahead_of_it() -> None:
    """Nobody was told of it: the peer may take over, and the copies are no split brain."""
    rig = connected()
    rig.call(rig.engine.withhold, False)
    rig.write(0)
    rig.finish_local()
    before = rig.engine.core.meta.localcnt
    rig.lose()
    rig.work()
    assert rig.engine.core.meta.localcnt == before
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_in_async_mode_too() -> None:
    rig = Rig(settings=Settings(replication=Replication.ASYNC))
    rig.connect()
    rig.work()
    rig.call(rig.engine.withhold, False)
    rig.write(0)
    rig.finish_local()
    rig.lose()
    rig.work()
    assert rig.engine.core.meta.localcnt == 0


def test_acknowledged_write_that_the_peer_misses_still_puts_this_node_ahead() -> None:
    rig = connected()
    rig.lose()
    rig.work()
    write = rig.write(0)
    rig.work()
    assert rig.finished == [write]
    assert rig.engine.core.meta.localcnt == 1


def test_unanswered_requests_are_limited() -> None:
    rig = connected()
    rig.call(rig.engine.withhold, False)
    for _ in range(2048):
        rig.write(0)
    rig.work()
    assert rig.engine.congested


def saying_farewell() -> Rig:
    """Drained, and LEFT is sent and not answered."""
    rig = connected()
    rig.call(rig.engine.drain)
    while not rig.sent(LEFT):
        rig.finish_local()
        rig.store_all()
        if not rig.sent(LEFT):
            rig.answer_remote()
    return rig


def test_peer_that_does_not_answer_the_farewell_is_not_waited_for() -> None:
    rig = saying_farewell()
    assert not rig.engine.drained
    rig.tick(FAREWELL_S)
    assert rig.engine.drained


def test_lost_link_ends_the_farewell() -> None:
    rig = saying_farewell()
    rig.lose()
    assert rig.engine.drained


def test_secondary_tells_what_the_primary_said() -> None:
    shelf = Shelf()
    shelf.hello()
    shelf.ready()
    shelf.requests((LEAVING, 5, 0, 9000, None, False), (LEFT, 6, 0, 0, None, False))
    told = {event.name: event.details for event in shelf.events}
    assert told["peer-leaves"] == {"within_s": 9.0}
    assert "peer-left" in told
    assert [(seq, error) for seq, error, _received, _data in shelf.replies] == [(5, 0), (6, 0)]


def test_primary_closes_the_link_to_a_secondary_that_stops() -> None:
    rig = connected()
    rig.reply(PEER_LEAVES_SEQ)
    assert "peer-stops" in rig.event_names()
    assert rig.drops == [PEER_STOPPED]
