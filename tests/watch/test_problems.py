"""What is found wrong in a picture of both nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pictures import healthy

from hast.watch.catalogue import CATALOGUE, Level
from hast.watch.picture import read, unknown
from hast.watch.problems import USUAL, Limits, Problem, find, level_of

NOW_S = 1000.0
Bend = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]
"""Changes the report of this node, that of the other, and the entry that holds the latter."""


def found(bend: Bend, limits: Limits = USUAL) -> list[Problem]:
    reply = healthy()
    bend(reply["node"], reply["peers"][0]["node"], reply["peers"][0])
    return find(read(reply), NOW_S, limits)


def here(bend: Callable[[dict[str, Any]], Any]) -> Bend:
    """Changes the status of the resource on this node."""
    return lambda node, _other, _entry: bend(node["resources"][0])


def test_a_pair_in_step_has_no_problem() -> None:
    assert found(lambda *_: None) == []
    assert level_of([]) is Level.OK


@pytest.mark.parametrize(
    ("code", "bend"),
    [
        ("peer-unknown", lambda _n, _o, entry: entry.update(error="10.0.0.2 does not answer.", node=None)),
        ("two-primaries", lambda _n, other, _e: other["resources"][0].update(role="primary")),
        ("no-primary", here(lambda status: status.update(role="secondary"))),
        ("split-brain", here(lambda status: status.update(split_brain={"since": 1, "reason": "both wrote"}))),
        (
            "degraded",
            here(lambda status: status.update(status="degraded", not_connected={"since": 990, "reason": "x"})),
        ),
        ("synchronizing", here(lambda status: status.update(status="synchronizing", sync={"total_bytes": 10}))),
        ("disk", here(lambda status: status["problems"].append({"kind": "disk", "text": "I/O error."}))),
        ("stale", lambda _n, other, _e: other["resources"][0]["problems"].append({"kind": "stale", "text": "old"})),
        ("here-only", lambda _n, other, _e: other["resources"].clear()),
        ("two-masters", lambda _n, other, _e: other["carp"]["vhids"][0].update(state="MASTER")),
        ("no-master", lambda node, _o, _e: node["carp"]["vhids"][0].update(state="BACKUP")),
        ("failover-failed", lambda node, _o, _e: node.update(failover={"verb": "master", "phase": "failed"})),
    ],
)
def test_each_trouble_is_found_by_its_code_and_by_no_other(code: str, bend: Bend) -> None:
    assert {each.code for each in found(bend)} == {code}
    assert code in CATALOGUE


def test_settings_that_differ_are_named_with_their_values_where_a_status_shows_them() -> None:
    def bend(node: dict[str, Any], other: dict[str, Any], _entry: dict[str, Any]) -> None:
        node["resources"][0].update(settings={"replication": "1", "arbiter": "2", "later": "3"}, replication="fullsync")
        other["resources"][0].update(settings={"replication": "4", "arbiter": "5", "name": "6"}, replication="memsync")

    (problem,) = found(bend)
    assert problem.code == "configuration"
    assert problem.text == "hast.conf differs in: replication (fullsync on hasta, memsync on hastb), arbiter."


def test_an_address_that_is_not_where_the_data_are_served_is_named() -> None:
    def exchange(node: dict[str, Any], other: dict[str, Any], _entry: dict[str, Any]) -> None:
        node["carp"], other["carp"] = other["carp"], node["carp"]

    (problem,) = found(exchange)
    assert problem.code == "address-apart"
    assert problem.text == "vhid 1 is MASTER on hastb, hasta is primary."


def test_a_link_without_keys_is_no_problem_of_its_own() -> None:
    assert found(lambda _n, _o, entry: entry.update(asked=False, error="no keys", node=None)) == []


def test_degraded_for_longer_than_the_limit_is_critical() -> None:
    bend = here(lambda status: status.update(status="degraded", not_connected={"since": 900.0, "reason": "x"}))
    assert [each.level for each in found(bend)] == [Level.WARNING]
    assert [each.level for each in found(bend, Limits(degraded_critical_s=100.0))] == [Level.CRITICAL]


def test_a_split_brain_that_both_sides_tell_of_comes_first_and_degraded_is_not_said_beside_it() -> None:
    def apart(node: dict[str, Any], other: dict[str, Any], _entry: dict[str, Any]) -> None:
        for each in (node, other):
            each["resources"][0] |= {"split_brain": {"since": 1}, "status": "degraded"}
            each["resources"][0]["problems"].append({"kind": "split-brain", "text": "split-brain"})

    assert [each.code for each in found(apart)] == ["split-brain", "split-brain"]


def test_a_split_brain_comes_before_what_follows_from_it() -> None:
    def apart(node: dict[str, Any], _other: dict[str, Any], _entry: dict[str, Any]) -> None:
        node["resources"][0] |= {"split_brain": {"since": 1}, "role": "init", "status": "-"}

    assert [each.code for each in found(apart)] == ["split-brain", "no-primary"]


def test_what_a_copy_or_a_lost_disk_says_as_well_is_not_said_beside_it() -> None:
    def copying(node: dict[str, Any], other: dict[str, Any], _entry: dict[str, Any]) -> None:
        node["resources"][0] |= {"status": "synchronizing", "sync": {"total_bytes": 10, "done_bytes": 4}}
        other["resources"][0]["problems"].append({"kind": "inconsistent", "text": "half"})

    def lost(node: dict[str, Any], _other: dict[str, Any], _entry: dict[str, Any]) -> None:
        node["resources"][0] |= {"status": "degraded"}
        node["resources"][0]["problems"].append({"kind": "disk", "text": "gone"})

    assert [each.code for each in found(copying)] == ["synchronizing"]
    assert [each.code for each in found(lost)] == ["disk"]


def test_a_node_that_cannot_be_asked_is_unknown_and_something_grave_is_graver() -> None:
    silent = find(unknown("hasta", "hastd does not answer."), NOW_S)
    assert level_of(silent) is Level.UNKNOWN
    assert silent[0].next_step == "systemctl status hastd"
    assert level_of([*silent, Problem("disk", Level.CRITICAL, "disk1", "hasta", "")]) is Level.CRITICAL


def test_a_problem_of_a_newer_hastd_is_kept_with_its_text() -> None:
    problems = found(here(lambda status: status["problems"].append({"kind": "new", "text": "words"})))
    assert [(each.code, each.text, each.level) for each in problems] == [("new", "words", Level.WARNING)]


def test_every_kind_of_problem_that_hastd_tells_is_in_the_catalogue() -> None:
    """docs/control.md lists them under `problems`."""
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| `problems`"))
    kinds = {word for word in line.partition("kinds:")[2].split("`") if word.strip(" |")}
    assert kinds - set(CATALOGUE) == set()


def test_an_answer_that_is_no_report_makes_an_empty_picture() -> None:
    for rubbish in ({}, {"node": 1, "peers": {}}, {"node": {"resources": [1, {"name": 2}]}, "peers": [None, {}]}):
        assert read(rubbish).pairs == ()
