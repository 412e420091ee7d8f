"""What `hastctl wait` waits for."""

from __future__ import annotations

import pytest

from hast.watch.waiting import NoCondition, missing, split

GOOD = {"name": "disk1", "role": "primary", "status": "complete", "connected": True, "sync": None}


def test_conditions_come_first_and_names_follow() -> None:
    assert split(["synced", "role=primary", "disk1", "synced"]) == (["synced", "role=primary"], ["disk1", "synced"])


@pytest.mark.parametrize("words", [["disk1"], ["role=king", "disk1"], ["role=", "disk1"]])
def test_words_that_name_nothing_to_wait_for_are_refused(words: list[str]) -> None:
    with pytest.raises(NoCondition):
        split(words)


def test_nothing_is_missing_where_all_is_so() -> None:
    assert missing(["synced", "connected", "role=primary"], GOOD) == ""


@pytest.mark.parametrize(
    ("condition", "bend", "told"),
    [
        ("synced", {"status": "synchronizing", "sync": {"total_bytes": 10, "done_bytes": 4}}, "40.0% copied"),
        ("synced", {"split_brain": {"since": 1}}, "split-brain"),
        ("connected", {"connected": False, "not_connected": {"since": 0, "reason": "No route."}}, "No route"),
        ("role=secondary", {}, "primary, complete"),
        ("role=primary", {"transition": "init to primary, starting"}, "changing: init to primary, starting"),
    ],
)
def test_what_is_missing_is_told_with_the_present_state(condition: str, bend: dict[str, object], told: str) -> None:
    found = missing([condition], GOOD | bend)
    assert found.startswith(f"disk1 is not {condition} (")
    assert told in found
