"""`status --both` as lines, and the line of a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pictures import healthy

from hast.watch import both, check
from hast.watch.catalogue import Level
from hast.watch.picture import Picture, read, unknown
from hast.watch.problems import USUAL, Limits, find

NOW_S = 1000.0


def picture(bend: Callable[[dict[str, Any]], Any] = lambda _reply: None) -> Picture:
    reply = healthy()
    bend(reply)
    return read(reply)


def here(reply: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = reply["node"]["resources"][0]
    return found


def text(found: Picture) -> str:
    return "\n".join(both.lines(found, find(found, NOW_S)))


def apart(reply: dict[str, Any]) -> None:
    here(reply).update(status="degraded", not_connected={"since": 940.0, "reason": "Connection refused."})


def test_both_sides_stand_beside_each_other_with_names_of_hosts() -> None:
    shown = text(picture()).splitlines()
    assert shown[0] == "disk1: complete"
    assert shown[1].split() == ["hasta", "(here)", "hastb"]
    assert shown[2].split() == ["role", "primary", "secondary"]
    assert any(line.split() == ["vhid", "1", "MASTER", "BACKUP"] for line in shown)
    assert max(map(len, shown)) <= 80


def test_a_problem_is_told_with_its_next_step() -> None:
    shown = text(picture(apart))
    assert "  problem: degraded on hasta: Connection refused, for 1m 00s." in shown
    assert "    next step: bring back the other node, its hastd, or the network" in shown


def test_a_silent_node_is_a_question_mark_and_not_what_it_was() -> None:
    def silence(reply: dict[str, Any]) -> None:
        reply["peers"][0] |= {"node": None, "error": "10.0.0.2 does not answer."}

    shown = text(picture(silence))
    assert "  role        primary               ?" in shown
    assert "problem: peer-unknown" in shown


def test_a_secondary_says_nothing_about_what_is_dirty() -> None:
    shown = text(picture(lambda reply: here(reply).update(dirty=2 << 20))).splitlines()
    assert next(line for line in shown if line.split()[:1] == ["dirty"]).split() == ["dirty", "2.0MB", "-"]


def test_json_holds_both_nodes_and_the_problems_of_the_resources_that_are_named() -> None:
    reply = healthy()
    apart(reply)
    found = both.as_json(reply, find(read(reply), NOW_S), ["disk1"])
    assert [each["name"] for each in found["peers"][0]["node"]["resources"]] == ["disk1"]
    assert found["problems"][0]["code"] == "degraded"
    assert both.as_json(reply, find(read(reply), NOW_S), ["other"])["problems"] == []


@pytest.mark.parametrize(
    ("bend", "limits", "level", "begins"),
    [
        (lambda _reply: None, USUAL, Level.OK, "HAST OK - 1 resource: complete | disk1_apart=0s;;3600;0"),
        (apart, USUAL, Level.WARNING, "HAST WARNING - disk1: degraded on hasta: Connection refused, for 1m 00s | "),
        (apart, Limits(60.0), Level.CRITICAL, "HAST CRITICAL - disk1: degraded"),
        (lambda reply: here(reply).update(at_risk_bytes=1 << 30), Limits(None, 1 << 30), Level.CRITICAL, "HAST CRIT"),
    ],
)
def test_a_check_is_one_line_with_level_and_figures(
    bend: Callable[[dict[str, Any]], Any], limits: Limits, level: Level, begins: str
) -> None:
    found = picture(bend)
    told, line = check.of_picture(found, find(found, NOW_S, limits), NOW_S, limits)
    assert (told, line[: len(begins)]) == (level, begins)
    assert line.count("|") == 1
    assert "\n" not in line


def test_figures_of_a_check_are_numbers_without_exponents_and_quoted_where_needed() -> None:
    assert check.figure("a b", "7B", 2.0**40, 0) == "'a b'=7B;;1099511627776;0"


def test_a_check_without_hastd_is_unknown() -> None:
    found = unknown("hasta", "hastd does not | answer.")
    assert check.of_picture(found, find(found, NOW_S), NOW_S, USUAL) == (
        Level.UNKNOWN,
        "HAST UNKNOWN - hastd-down on hasta: hastd does not / answer",
    )


@pytest.mark.parametrize(("written", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800)])
def test_durations_are_read(written: str, seconds: float) -> None:
    assert check.parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", "h", "-1s", "1 week"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        check.parse_duration(written)
