"""What status says of a split brain: how much differs, why nothing happens by itself, the next step."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hast.cli import output
from hast.replication.types import Metadata

SINCE = int(time.mktime((2026, 2, 6, 15, 1, 41, 0, 0, -1)))
FOUND: dict[str, Any] = {
    "since": SINCE,
    "local": {"extents": 12, "bytes": 12 << 21, "since": SINCE},
    "peer": {"extents": 3, "bytes": 3 << 21, "since": SINCE},
    "differing_extents": 15,
    "differing_bytes": 15 << 21,
    "reason": "policy manual: it is left to the operator",
}
ENTRY: dict[str, Any] = {
    "name": "disk1",
    "role": "secondary",
    "provname": "disk1",
    "localpath": "/dev/vdb",
    "extentsize": 2 << 20,
    "keepdirty": 64,
    "remoteaddr": "hast1",
    "replication": "fullsync",
    "status": "-",
    "dirty": 0,
    "problems": [{"kind": "split-brain", "text": "Split-brain condition!"}],
    "split_brain": FOUND,
    "discard_ordered": False,
}


def told(**changes: Any) -> list[str]:
    return output.status_block(ENTRY | changes)[10:]


def test_the_secondary_is_told_what_to_do() -> None:
    assert told() == [
        "  split-brain: since 2026-02-06 15:01:41, local 12 extents (24MB), peer 3 extents (6.0MB)",
        "  differing: at most 15 extents (30MB)",
        "  resolution: policy manual: it is left to the operator",
        "  next step: to keep the other node's data, run here: hastctl resolve --discard-local disk1",
    ]


def test_the_primary_is_sent_to_the_other_node() -> None:
    assert told(role="primary")[-1] == (
        "  next step: to keep this node's data, run on the other node: hastctl resolve --discard-local disk1"
    )


def test_an_order_is_shown_and_other_problems_stay() -> None:
    problems = [*ENTRY["problems"], {"kind": "provider", "text": "gone"}]
    lines = told(discard_ordered=True, problems=problems)
    assert lines[2:] == [
        "  resolution: this node's changes are discarded at the next connection",
        "  problem: provider: gone",
    ]


@pytest.mark.parametrize("missing", ["differing_extents", "reason"])
def test_what_a_freebsd_node_does_not_tell_is_left_out(missing: str) -> None:
    lines = told(split_brain=FOUND | {"peer": None, missing: None})
    assert "peer not known" in lines[0]
    assert len(lines) == 3


def test_times_that_make_no_sense_are_shown_as_they_are() -> None:
    assert output.moment(2**64 - 1) == f"second {2**64 - 1}"


def test_dump_shows_order_and_time() -> None:
    lines = output.dump_block(Metadata("disk1", 1 << 30, 2 << 20, 64, 4608, ahead_since_s=SINCE, discard=True))
    assert lines[-2:] == ["    ahead since: 2026-02-06 15:01:41", "    discard ordered: yes"]


def test_what_an_order_did() -> None:
    result = {"name": "disk1", "extents": 1, "bytes": 2 << 20, "already": False, "map": "/x.json"}
    assert output.resolve_lines(result) == [
        "disk1: this node's changes in 1 extent (2.0MB) are discarded at the next connection; "
        "the map of them is in /x.json."
    ]
    assert "given before" in output.resolve_lines(result | {"already": True, "map": None})[0]
    assert "taken back" in output.resolve_lines({"name": "disk1", "error": None})[0]
