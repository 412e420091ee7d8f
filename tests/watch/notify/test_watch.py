"""What is told, and when: once when it has lasted, once when it is over, and never because of one odd look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hast.config.notify_model import Topic
from hast.watch.notify.decisions.message import Message, State
from hast.watch.notify.decisions.watch import CLEAR_S, Watch

T = 1_700_000_000.0


def primary(status: str = "complete", **more: Any) -> dict[str, Any]:
    entry = {"name": "disk1", "role": "primary", "status": status, "connected": status != "degraded", "problems": []}
    return entry | more


def alone(since_s: float = T, reason: str = "Connection refused") -> dict[str, Any]:
    return primary("degraded", not_connected={"since": since_s, "reason": reason})


def told(messages: list[Message]) -> list[tuple[str, str, str]]:
    return [(each.resource, str(each.topic), str(each.state)) for each in messages]


def event(name: str, time_s: float = T, **more: Any) -> dict[str, Any]:
    return {"seq": 1, "time": time_s, "event": name, "resource": "disk1", "text": f"{name}!", "level": "info", **more}


BEGUN = [("disk1", "degraded", "begun")]
OVER = [("disk1", "degraded", "over")]


def test_degraded_is_told_once_when_it_has_lasted_and_once_when_it_is_over() -> None:
    watch = Watch(60)
    assert watch.look(T, [primary()]) == []
    assert watch.look(T + 10, [alone(T + 5)]) == []
    assert watch.look(T + 64, [alone(T + 5)]) == []
    (message,) = watch.look(T + 66, [alone(T + 5)])
    assert told([message]) == BEGUN
    assert message.text == "There is no second copy: Connection refused. For 61 s."
    assert message.time_s == T + 5
    assert watch.look(T + 3600, [alone(T + 5)]) == []
    assert watch.look(T + 4000, [primary()]) == []
    (over,) = watch.look(T + 4000 + CLEAR_S, [primary()])
    assert told([over]) == OVER
    assert over.level == "info"
    assert over.text == "Both copies are complete. It had begun 67 min before."
    assert watch.look(T + 4100, [primary()]) == []


def test_a_short_loss_of_the_peer_is_not_told() -> None:
    watch = Watch(60)
    for second in range(0, 600, 60):
        assert watch.look(T + second, [alone(T + second)]) == []
        assert watch.look(T + second + 50, [primary()]) == []


def test_what_comes_back_at_once_was_not_over() -> None:
    watch = Watch(0)
    assert told(watch.look(T, [alone()])) == BEGUN
    for second in range(1, 200, 10):
        assert watch.look(T + second, [primary()]) == []
        assert watch.look(T + second + 5, [alone(T + second)]) == []


def test_a_copy_that_is_being_made_does_not_end_degraded_and_is_not_degraded_itself() -> None:
    watch = Watch(0)
    assert watch.look(T, [primary("synchronizing")]) == []
    assert told(watch.look(T + 1, [alone()])) == BEGUN
    assert watch.look(T + 2, [primary()]) == []
    assert watch.look(T + 100, [primary("synchronizing")]) == []
    assert watch.look(T + 101, [primary()]) == []
    assert told(watch.look(T + 101 + CLEAR_S, [primary()])) == OVER


def test_a_secondary_tells_that_its_primary_is_missing_and_a_copy_that_lags_is_no_end() -> None:
    def secondary(**more: Any) -> dict[str, Any]:
        return {"name": "disk1", "role": "secondary", "status": "-", "connected": False, **more}

    watch = Watch(30)
    gone = secondary(not_connected={"since": T, "reason": "the primary has not connected"})
    assert told(watch.look(T + 30, [gone])) == BEGUN
    assert watch.look(T + 40, [secondary(connected=True, inconsistent=True)]) == []
    assert watch.look(T + 90, [secondary(connected=True, inconsistent=True)]) == []
    assert watch.look(T + 91, [secondary(connected=True)]) == []
    assert told(watch.look(T + 101, [secondary(connected=True)])) == OVER


def test_a_resource_that_has_no_other_node_yet_is_not_degraded() -> None:
    assert Watch(0).look(T, [alone() | {"remoteaddr": "none"}]) == []


def test_a_role_that_changes_proves_nothing() -> None:
    watch = Watch(0)
    assert watch.look(T, [alone() | {"transition": "to secondary"}]) == []
    assert told(watch.look(T, [alone()])) == BEGUN
    assert watch.look(T + 100, [primary(transition="to init")]) == []
    assert watch.look(T + 200, [primary(stopping=True)]) == []


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("split-brain", "split-brain"),
        ("disk-failed", "disk-failed"),
        ("disk-hung", "disk-failed"),
        ("peer-disk-failed", "disk-failed"),
        ("frozen", "frozen"),
        ("slow-disk", "slow-disk"),
        ("arbiter-lost", "arbiter-lost"),
    ],
)
def test_an_event_is_told_at_once_and_not_again_while_it_lasts(name: str, topic: str) -> None:
    watch = Watch(60)
    assert told(watch.event(event(name))) == [("disk1", topic, "begun")]
    assert watch.event(event(name, T + 1)) == []


def test_a_split_brain_that_the_status_knows_is_told_without_its_event() -> None:
    watch = Watch(60)
    (message,) = watch.look(T, [primary(split_brain={"differing_bytes": 4096, "reason": "policy is none"})])
    assert told([message]) == [("disk1", "split-brain", "begun")]
    assert message.level == "critical"
    assert "At most 4096 bytes differ." in message.text


def test_an_event_that_was_over_at_the_next_look_is_told_and_then_over() -> None:
    watch = Watch(60)
    assert told(watch.event(event("frozen"))) == [("disk1", "frozen", "begun")]
    assert watch.look(T + 1, [primary()]) == []
    assert told(watch.look(T + 11, [primary()])) == [("disk1", "frozen", "over")]


def test_a_disk_taken_out_by_hand_has_not_failed() -> None:
    problem = [{"kind": "disk", "text": "The local disk is out of service."}]
    assert Watch(60).look(T, [primary(problems=problem, history=[event("detach")])]) == []
    failed = Watch(60).look(T, [primary(problems=problem, history=[event("detach"), event("disk-failed")])])
    assert told(failed) == [("disk1", "disk-failed", "begun")]


def test_the_arbiter_is_back_when_its_event_says_so_or_this_node_is_not_primary() -> None:
    watch = Watch(60)
    watch.event(event("arbiter-lost"))
    assert watch.look(T + 100, [primary()]) == []
    assert watch.event(event("arbiter-back", T + 200)) == []
    assert told(watch.event(event("arbiter-back", T + 200 + CLEAR_S))) == [("disk1", "arbiter-lost", "over")]


def test_a_resynchronisation_is_told_when_it_is_done() -> None:
    assert told(Watch(60).event(event("syncdone"))) == [("disk1", "resync-done", "happened")]
    assert Watch(60).event(event("syncstart")) == []


def test_a_hastd_that_is_away_for_long_is_told_and_the_resources_keep_what_is_known() -> None:
    watch = Watch(60)
    watch.event(event("split-brain"))
    assert watch.look(T, None) == []
    assert told(watch.look(T + 60, None)) == [("", "hastd-away", "begun")]
    assert watch.look(T + 90, [primary(split_brain={})]) == []
    assert told(watch.look(T + 100, [primary(split_brain={})])) == [("", "hastd-away", "over")]


def test_a_resource_that_is_no_more_is_forgotten() -> None:
    watch = Watch(0)
    watch.look(T, [alone()])
    assert watch.look(T + 1, []) == []
    assert told(watch.look(T + 2, [alone()])) == BEGUN


def run(phase: str, request: int = 7, **more: Any) -> dict[str, Any]:
    record = {"verb": "master", "request": request, "phase": phase, "started_s": T, "finished_s": T + 1.84}
    return record | {"resources": ["disk1", "disk2"]} | more


def test_a_fail_over_is_told_once_with_how_long_it_took() -> None:
    watch = Watch(60)
    assert watch.failover({}) == []
    assert watch.failover(run("running")) == []
    (done,) = watch.failover(run("done"))
    assert (done.topic, done.level) == (Topic.FAILOVER_DONE, "info")
    assert done.text == "failover master of disk1 disk2: done after 1.8 s."
    assert watch.failover(run("done")) == []
    (failed,) = watch.failover(run("failed", 8, failures={"pool zhast": "cannot import"}))
    assert (failed.topic, failed.level) == (Topic.FAILOVER_FAILED, "critical")
    assert failed.text.endswith("failed after 1.8 s. pool zhast: cannot import")
    assert watch.failover(run("gave way", 9)) == []


def test_a_fail_over_from_before_the_first_start_is_not_told() -> None:
    watch = Watch(60)
    watch.pass_over(run("done"))
    assert watch.failover(run("done")) == []
    again = Watch(60)
    again.pass_over(run("running"))
    assert len(again.failover(run("done"))) == 1


def test_what_was_told_is_known_after_a_restart() -> None:
    watch = Watch(0)
    watch.look(T, [alone()])
    watch.failover(run("done"))
    after = Watch(0)
    after.restore(json.loads(json.dumps(watch.record())))
    assert after.look(T + 1, [alone()]) == []
    assert after.failover(run("done")) == []
    after.look(T + 2, [primary()])
    assert told(after.look(T + 2 + CLEAR_S, [primary()])) == OVER


def test_events_that_were_lost_are_told() -> None:
    (message,) = Watch(60).lost(T, 12)
    assert (message.topic, message.state) == (Topic.EVENTS_LOST, State.HAPPENED)
    assert message.text.startswith("12 events")
