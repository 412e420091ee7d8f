"""The status object: what may be said of a resource, from the facts of worker and metadata."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hast.config.model import Resource
from hast.format import control, nv
from hast.format.constants import SPLIT_BRAIN_TEXT, Role
from hast.supervisor import status
from hast.supervisor.contact import ContactMemory
from hast.supervisor.split_brain import DETECTED, SplitBrainMemory

RESOURCE = Resource("disk1", "disk1", "/dev/vdb", ("tcp4://10.0.0.2",))
WORKER: dict[str, Any] = {"status": "complete", "in_step": True, "dirty": 0, "keepdirty": 64}


def state(role: Role = Role.PRIMARY, **changes: Any) -> Any:
    values = {
        "resource": RESOURCE,
        "role": role,
        "worker": None,
        "device": None,
        "transition": None,
        "stopping": False,
        "restarts": 0,
        "settings": SimpleNamespace(sync_rate_bytes_s=0),
        "verified": SimpleNamespace(last=None, trouble=""),
        "no_disk": None,
        "split_brain": SplitBrainMemory(),
        "belongs_with": [],
        "arbiter": None,
        "last_error": None,
    }
    return SimpleNamespace(**values | changes)


def build(
    resource: Any = None,
    worker: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    contact: ContactMemory | None = None,
) -> dict[str, Any]:
    return status.build(resource or state(), worker, metadata, contact or ContactMemory(), [])


def apart(since_s: float, reason: str = "") -> ContactMemory:
    memory = ContactMemory()
    memory.since_s, memory.reason = since_s, reason
    return memory


@pytest.mark.parametrize(
    ("worker", "word"),
    [
        (WORKER, "complete"),
        (WORKER | {"in_step": False}, "synchronizing"),
        (WORKER | {"in_step": False, "problems": [{"kind": "disk", "text": "failed"}]}, "degraded"),
        (WORKER | {"status": "degraded"}, "degraded"),
        (WORKER | {"status": "degraded", "in_step": False}, "degraded"),
        ({"error": "The worker process did not answer within 2 s."}, "degraded"),
        (None, "degraded"),
    ],
)
def test_complete_is_said_only_of_two_equal_copies(worker: dict[str, Any] | None, word: str) -> None:
    assert build(worker=worker)["status"] == word


def test_a_primary_whose_disk_failed_is_degraded_and_connected() -> None:
    entry = build(worker=WORKER | {"problems": [{"kind": "disk", "text": "failed"}]})
    assert (entry["status"], entry["connected"]) == ("degraded", True)
    assert not build()["connected"]


@pytest.mark.parametrize(
    ("worker", "whole"),
    [
        (WORKER | {"peer_whole": True}, True),
        (WORKER | {"peer_whole": True, "in_step": False, "problems": [{"kind": "disk", "text": "failed"}]}, True),
        (WORKER | {"peer_whole": False}, False),
        (WORKER | {"peer_whole": True, "status": "degraded"}, False),
        ({"error": "The worker process did not answer within 2 s."}, False),
        (None, False),
    ],
)
def test_a_primary_says_whether_its_peer_has_everything(worker: dict[str, Any] | None, whole: bool) -> None:
    assert build(worker=worker)["peer_whole"] is whole


@pytest.mark.parametrize(("word", "told"), [("synchronizing", "degraded"), ("complete", "complete"), ("-", "-")])
def test_reference_messages_know_only_the_words_of_the_reference(word: str, told: str) -> None:
    entry = build(worker=WORKER) | {"status": word, "workerpid": 1}
    fields = nv.decode(nv.encode(control.status_reply([entry])))
    assert control.read_status_reply(fields)[0]["status"] == told


def test_a_node_without_its_peer_says_since_when_and_why() -> None:
    worker = WORKER | {"status": "degraded", "link": {"reason": "tcp4://10.0.0.2: Connection refused"}}
    entry = build(worker=worker, contact=apart(1700000000.5, "the peer closed connection A"))
    assert entry["not_connected"] == {"since": 1700000000.5, "reason": "tcp4://10.0.0.2: Connection refused"}


def test_until_an_attempt_has_failed_the_reason_is_what_ended_the_connection() -> None:
    worker = WORKER | {"status": "degraded", "link": {"reason": ""}}
    entry = build(worker=worker, contact=apart(5.0, "the peer closed connection A"))
    assert entry["not_connected"] == {"since": 5.0, "reason": "the peer closed connection A"}


def test_a_secondary_without_its_primary_says_since_when_and_why() -> None:
    entry = build(state(Role.SECONDARY), contact=apart(5.0))
    assert entry["not_connected"] == {"since": 5.0, "reason": "the primary has not connected"}
    assert build(state(Role.SECONDARY), contact=apart(5.0, "cut"))["not_connected"]["reason"] == "cut"


def test_nothing_is_missed_where_nothing_is_wanted() -> None:
    assert build(state(Role.INIT))["not_connected"] is None
    assert build(worker=WORKER)["not_connected"] is None


def test_keepdirty_of_a_secondary_is_that_of_its_metadata() -> None:
    assert build(state(Role.SECONDARY), WORKER)["keepdirty"] == 64


def split_brain() -> SplitBrainMemory:
    memory = SplitBrainMemory()
    memory.heard(DETECTED, {})
    return memory


@pytest.mark.parametrize(
    "error",
    [
        SPLIT_BRAIN_TEXT,
        "The worker process ended (exit code 78).",
        "Not primary: Split-brain: both nodes hold writes that the other lacks.",
    ],
)
def test_the_end_of_a_worker_over_a_split_brain_is_no_second_problem(error: str) -> None:
    entry = build(state(Role.SECONDARY, split_brain=split_brain(), last_error=error))
    assert [problem["kind"] for problem in entry["problems"]] == ["split-brain"]


def test_an_error_of_its_own_is_told_beside_a_split_brain() -> None:
    error = "No longer primary: Provider /dev/vdb is gone."
    entry = build(state(Role.INIT, split_brain=split_brain(), last_error=error))
    assert [problem["kind"] for problem in entry["problems"]] == ["split-brain", "last-error"]


def test_figures_of_a_worker_are_told_and_unknown_without_one() -> None:
    statistics = {"reads": 1, "writes": 2, "read_bytes": 512, "write_bytes": 1024, "delete_bytes": 4096}
    latency = {"read": {"local": {"count": 1, "sum_s": 0.1, "p50_s": 0.1, "p99_s": 0.1, "buckets": [[None, 1]]}}}
    link = {"stage": "up", "sent_bytes": 7, "received_bytes": 8}
    worker = WORKER | {"statistics": statistics, "latency": latency, "link": link, "at_risk_bytes": 4096}
    lease = {"verdict": "serve", "lease_left_s": 2.5, "epoch": 3, "alone": False}
    entry = build(state(arbiter=lease), worker | {"local_missing": 0, "peer_missing": 8192})
    assert entry["missing_bytes"] == {"local": 0, "peer": 8192}
    assert entry["arbiter"] == lease
    assert {key: entry["statistics"][key] for key in statistics} == statistics
    assert entry["latency"] == latency
    assert entry["links"] == {"sent_bytes": 7, "received_bytes": 8}
    assert entry["at_risk_bytes"] == 4096
    without = build()
    for key in ("latency", "links", "at_risk_bytes", "missing_bytes", "arbiter"):
        assert without[key] is None, key
    assert without["statistics"]["write_bytes"] == 0
