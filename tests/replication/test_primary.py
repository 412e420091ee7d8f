"""The primary as a whole: demotion, freezing, status, limits of patience."""

from __future__ import annotations

import pytest
from driver import EIO, EXTENT, SECTOR, Rig, image, marked, metadata

from hast.format.constants import Command, Feature, Replication
from hast.replication.core import ESHUTDOWN, Settings
from hast.replication.types import FLUSH, WRITE

LEFT = int(Command.LEFT)

# -- S10 ---------------------------------------------------------------------------------------------------------


def test_s10_demotion_finishes_what_is_there_refuses_what_comes_and_leaves_a_clean_map() -> None:
    rig = Rig()
    rig.connect()
    before = rig.write(0)
    rig.store_all()
    rig.call(rig.engine.drain)
    after = rig.write(EXTENT)
    assert rig.finished == [after]
    assert after.error == ESHUTDOWN
    assert not rig.engine.drained
    rig.work()
    assert before in rig.finished
    assert before.error == 0
    assert rig.engine.drained
    assert marked(rig.disk.map) == set()


@pytest.mark.parametrize("features", [Feature.NONE, None], ids=["reference peer", "our peer"])
def test_s10_demotion_waits_for_the_peer_to_have_what_was_answered_early(features: Feature | None) -> None:
    rig = Rig(settings=Settings(replication=Replication.ASYNC))
    rig.connect(*([] if features is None else [features]))
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert rig.finished == [request]
    rig.call(rig.engine.drain)
    rig.store_all()
    rig.finish_local()
    assert not rig.engine.drained
    assert not any(job.reason == "demoted" for job in rig.stores)
    assert rig.saved.prevrole == "primary"
    rig.work()
    assert rig.engine.drained


def test_s10_demotion_ends_only_after_its_last_record_is_durable() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.call(rig.engine.drain)
    assert [request.op for request in rig.local] == [FLUSH]
    rig.finish_local()
    rig.answer_remote()
    while len(rig.stores) > 1:
        rig.store()
        assert not rig.engine.drained
    rig.store_all()
    assert not rig.engine.drained
    assert rig.sent(LEFT)
    rig.answer_remote()
    assert rig.engine.drained


def test_s10_demoted_node_acknowledges_nothing() -> None:
    rig = Rig()
    rig.call(rig.engine.drain)
    rig.work()
    assert rig.engine.drained
    for request in (rig.write(0), rig.flush(), rig.read(0), rig.zero(0, SECTOR)):
        assert request.error == ESHUTDOWN
    assert not rig.local


def test_s10_demotion_without_a_peer_keeps_the_map() -> None:
    rig = Rig()
    rig.write(0)
    rig.work()
    rig.call(rig.engine.drain)
    rig.work()
    assert rig.engine.drained
    assert marked(rig.disk.map) == {0}


def test_s10_demotion_with_held_writes_comes_to_its_end() -> None:
    rig = Rig()
    rig.connect()
    rig.call(rig.engine.freeze, "by the operator")
    held = [rig.write(0), rig.flush()]
    rig.call(rig.engine.drain)
    rig.work()
    assert rig.engine.drained
    assert [request.error for request in held] == [ESHUTDOWN] * 2


def test_s10_demotion_during_the_handshake_comes_to_its_end() -> None:
    rig = Rig(started=False)
    rig.call(rig.engine.begin_handshake)
    held = rig.write(0)
    rig.call(rig.engine.drain)
    rig.work()
    rig.lose()
    rig.work()
    assert rig.engine.drained
    assert held.error == ESHUTDOWN


def test_s10_demotion_during_a_sync_does_not_wait_for_its_end() -> None:
    rig = Rig(metadata(localcnt=1), image(1, 2))
    rig.attach()
    rig.call(rig.engine.drain)
    rig.store_all()
    rig.answer_remote()
    assert rig.engine.drained
    assert marked(rig.disk.map) == {1, 2}


def test_s10_demotion_survives_the_loss_of_the_link() -> None:
    rig = Rig()
    rig.connect()
    request = rig.write(0)
    rig.store_all()
    rig.call(rig.engine.drain)
    rig.finish_local()
    rig.lose()
    rig.work()
    assert rig.engine.drained
    assert request.error == 0
    assert rig.saved.localcnt == 1


def test_s10_demotion_with_a_failing_last_flush_ends_and_keeps_the_map() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.call(rig.engine.drain)
    rig.finish_local(error=EIO)
    rig.work()
    assert rig.engine.drained
    assert marked(rig.disk.map) == {0}


def test_s10_demotion_with_a_broken_disk_ends() -> None:
    rig = Rig()
    rig.write(0)
    rig.store(error=EIO)
    rig.call(rig.engine.drain)
    while rig.stores:
        rig.store(error=EIO)
    assert rig.engine.drained


def test_s10_drained_node_that_loses_its_link_stays_drained() -> None:
    rig = Rig()
    rig.connect()
    rig.call(rig.engine.drain)
    rig.work()
    rig.lose()
    rig.tick(5)
    assert rig.engine.drained
    assert not rig.stores


# -- S11 -----------------------------------------------------------------------------------------------------------


def test_s11_frozen_engine_holds_writes_and_flushes_and_serves_reads() -> None:
    rig = Rig()
    rig.connect()
    rig.call(rig.engine.freeze, "no quorum")
    rig.call(rig.engine.freeze, "again")
    write, flush, read = rig.write(0), rig.flush(), rig.read(0)
    assert rig.local == [read]
    assert rig.engine.status()["frozen"] == "no quorum"
    assert rig.event_names().count("frozen") == 1
    rig.call(rig.engine.thaw)
    rig.call(rig.engine.thaw)
    rig.work()
    assert {write, flush, read} == set(rig.finished)
    assert rig.event_names().count("thawed") == 1


def test_s11_reconnect_does_not_thaw_what_the_operator_froze() -> None:
    rig = Rig()
    rig.call(rig.engine.freeze, "by the operator")
    request = rig.write(0)
    rig.connect()
    assert request not in rig.finished
    rig.call(rig.engine.thaw)
    rig.work()
    assert request in rig.finished


def test_s11_thaw_during_a_handshake_keeps_the_hold() -> None:
    rig = Rig()
    rig.call(rig.engine.freeze, "by the operator")
    rig.call(rig.engine.begin_handshake)
    rig.write(0)
    rig.call(rig.engine.thaw)
    assert not rig.stores
    rig.lose()
    rig.work()
    assert len(rig.finished) == 1


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_the_state_of_both_copies() -> None:
    rig = Rig()
    assert rig.engine.status()["status"] == "degraded"
    rig.connect()
    rig.write(0)
    status = rig.engine.status()
    assert status["status"] == "complete"
    assert status["connected"] is True
    assert status["dirty"] == EXTENT
    assert status["active"] == 1
    assert status["local_disk"] == "ok"
    rig.lose()
    assert rig.engine.status()["connected"] is False


def test_counters_count_operations_and_bytes() -> None:
    rig = Rig()
    rig.write(0, 1024)
    rig.read(0, 512)
    rig.flush()
    rig.zero(0, SECTOR)
    rig.discard(0, SECTOR)
    counters = rig.engine.status()["counters"]
    assert isinstance(counters, dict)
    assert (counters["writes"], counters["write_bytes"]) == (2, 1024 + SECTOR)  # zeroing is a write
    assert (counters["reads"], counters["read_bytes"]) == (1, 512)
    assert (counters["deletes"], counters["delete_bytes"]) == (1, SECTOR)
    assert counters["flushes"] == 1


# -- calls that come late or twice --------------------------------------------------------------------------------


def test_link_lost_twice_is_lost_once() -> None:
    rig = Rig()
    rig.connect()
    rig.lose()
    rig.lose()
    assert rig.event_names().count("disconnect") == 1


def test_replies_after_the_link_was_lost_are_passed_over() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store_all()
    seq = rig.sent(WRITE)[0][1]
    rig.finish_local()
    rig.lose()
    rig.reply(seq)
    rig.store_all()
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_reconfigured_timeout_is_in_force_at_once() -> None:
    rig = Rig(settings=Settings(timeout_s=100.0))
    rig.connect(Feature.NONE)
    rig.write(0)
    rig.store_all()
    rig.tick(30)
    assert not rig.drops
    rig.call(rig.engine.reconfigure, Settings(timeout_s=5.0))
    rig.tick(1)
    assert rig.drops


def test_old_map_beyond_the_data_is_ignored() -> None:
    rig = Rig(on_disk=b"\xff" * 512)
    assert rig.engine.status()["peer_missing"] == 64 * EXTENT
