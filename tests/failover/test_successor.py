"""Whether the other host could serve: one table, for who leaves, who hands over and who holds up a shutdown."""

from __future__ import annotations

from typing import Any

import pytest

from hast.failover.successor import can_take_over, lacking

WHOLE: dict[str, Any] = {"role": "primary", "connected": True, "peer_whole": True, "status": "complete"}
OWN_DISK_FAILED = {"status": "degraded", "problems": [{"kind": "disk", "text": "The local disk failed."}]}
BEING_MADE = {"status": "synchronizing", "dirty": 4096, "peer_whole": False}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, ""),
        (OWN_DISK_FAILED, ""),
        ({"status": "synchronizing", "stale": True}, ""),
        ({"status": "synchronizing", "inconsistent": True}, ""),
        ({"remoteaddr": "none", "connected": False}, "there is no second node"),
        ({"connected": False}, "the other node is not connected"),
        ({"connected": False, "not_connected": {"reason": "timeout"}}, "the other node is not connected: timeout"),
        (BEING_MADE, "the other copy is being made, 4096 bytes to go"),
        ({**OWN_DISK_FAILED, "peer_whole": False}, "the other copy does not have everything"),
        ({"status": "degraded", "stale": True, "peer_whole": False}, "the other copy does not have everything"),
    ],
)
def test_what_the_other_copy_lacks(entry: dict[str, Any], expected: str) -> None:
    assert lacking(WHOLE | entry) == expected
    assert can_take_over([WHOLE | entry]) is (expected == "")
    assert can_take_over([WHOLE, WHOLE | entry]) is (expected == "")


@pytest.mark.parametrize("role", ["secondary", "init"])
def test_what_is_not_primary_here_lacks_nothing_and_is_nothing_to_take_over(role: str) -> None:
    assert lacking({"role": role, "connected": False}) == ""
    assert not can_take_over([WHOLE, WHOLE | {"role": role}])


def test_nothing_known_is_nothing_to_take_over() -> None:
    assert not can_take_over([])
    assert not can_take_over([WHOLE, {}])
