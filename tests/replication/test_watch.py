"""Is the peer there?"""

from __future__ import annotations

from driver import EXTENT, PING, SECTOR, Rig

from hast.format.constants import OUR_FEATURES, Command, Feature
from hast.replication.core import Settings
from hast.replication.types import WRITE

KEEPALIVE = int(Command.KEEPALIVE)


def connected(features: int = OUR_FEATURES, timeout_s: float = 20.0) -> Rig:
    rig = Rig(settings=Settings(timeout_s=timeout_s))
    rig.connect(features)
    return rig


def test_idle_peer_that_is_dead_is_noticed() -> None:
    """Section 10.2: an idle P does not notice a dead S (keepalives are unanswered)."""
    rig = connected(timeout_s=6.0)
    for _ in range(10):
        rig.tick(1.0)
        if rig.drops:
            break
    assert rig.drops
    assert rig.sent(PING)
    assert rig.now < 106.0


def test_idle_peer_that_answers_pings_is_kept() -> None:
    rig = connected()
    pings = 0
    for _ in range(60):
        rig.tick(1.0)
        pings += len(rig.sent(PING))
        rig.work()
    assert not rig.drops
    assert 10 <= pings <= 60


def test_reference_peer_gets_keepalives_that_wait_for_no_answer() -> None:
    rig = connected(Feature.NONE)
    for _ in range(61):
        rig.tick(1.0)
    assert [item[:4] for item in rig.remote] == [(KEEPALIVE, 0, 0, 0)] * 6
    assert not rig.drops


def test_busy_link_needs_no_keepalive() -> None:
    rig = connected(Feature.NONE)
    for _ in range(30):
        rig.tick(1.0)
        rig.write(0)
        rig.store_all()
        rig.finish_local()
        assert {item[0] for item in rig.remote} == {WRITE}
        rig.answer_remote()


def test_reference_peer_that_does_not_answer_a_request_in_time_is_dropped() -> None:
    rig = connected(Feature.NONE)
    rig.tick(100)
    rig.write(0)
    rig.store_all()
    for _ in range(19):
        rig.tick(1.0)
    assert not rig.drops
    for _ in range(3):
        rig.tick(1.0)
    assert rig.drops


def test_peer_whose_disk_hangs_while_it_answers_pings_is_dropped_after_the_timeout() -> None:
    rig = connected()
    rig.write(0)
    rig.store_all()
    waited = 0.0
    while not rig.drops and waited < 60:
        rig.tick(1.0)
        waited += 1.0
        for item in rig.sent(PING):
            rig.remote.remove(item)
            rig.reply(item[1])
    assert 20 <= waited <= 23


def test_slow_peer_that_goes_on_answering_is_kept() -> None:
    rig = connected(timeout_s=5.0)
    for extent in range(40):
        rig.write(extent * EXTENT)
    rig.store_all()
    rig.finish_local()
    for item in rig.sent(WRITE):
        rig.tick(0.1)
        rig.reply(item[1])
    assert not rig.drops


def test_new_link_starts_with_a_new_clock() -> None:
    rig = connected(Feature.NONE, timeout_s=5.0)
    rig.write(0)
    rig.tick(4.0)
    rig.lose()
    rig.work()
    rig.tick(100.0)
    rig.connect(Feature.NONE)
    rig.write(SECTOR)
    rig.tick(4.0)
    assert not rig.drops
