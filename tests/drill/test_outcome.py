"""What clients saw, cut into its parts; what of it is a failure, and who is suspected."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_sites import ARTICLE, changed, site

from hast.drill.decisions.outcome import Outcome, judge, longest_gap_s, percentile, phases, summaries
from hast.drill.decisions.review import review
from hast.drill.decisions.steps import SHORT, SINGLE, START, Kind, Step, Wants, estimate_s, patience_s, steps_of

MOVES = Step("client_cable", Kind.MOVE, "cable", Wants.OTHER)
STAYS = Step("link_cable", Kind.LINK, "cable", Wants.SAME)
DOUBLE = Step("both", Kind.DOUBLE, "both", Wants.ANY)


def outcome(step: Step, **given: object) -> Outcome:
    return Outcome(step, 1, **{"master": "a", "then": "b", "pause_s": 1.0, "lost": 0, **given})  # type: ignore[arg-type]


def test_the_longest_gap_counts_from_the_last_write_before_the_failure() -> None:
    times = [1.0, 1.1, 1.2, 4.2, 4.3, 9.3]
    assert longest_gap_s(times, 1.5, 4.0) == pytest.approx(3.0)
    assert longest_gap_s(times, 4.25) == pytest.approx(5.0)
    assert longest_gap_s([], 0.0) == longest_gap_s([1.0], 0.0) == 0.0


def test_a_fail_over_is_cut_at_what_the_new_master_logged() -> None:
    log = [
        (12.0, "h2 carpd[7]: 1@pub: MASTER (the master fell silent)"),
        (11.0, "h1 carpd[7]: 1@pub: MASTER (nobody)"),
        (12.5, "h2 failover: Switching to primary provider for disk1."),
        (14.5, "h2 failover: Role for HAST resources disk1 switched to primary."),
    ]
    found = phases(log, "h2", 10.0, 15.0)
    assert [phase.seconds for phase in found] == [2.0, 0.5, 2.0, 0.5]
    assert phases(log[:2], "h2", 10.0, 15.0) == ()


@pytest.mark.parametrize(
    ("step", "given", "word"),
    [
        (MOVES, {}, ""),
        (MOVES, {"then": "a"}, "nobody else serves"),
        (MOVES, {"pause_s": None, "then": ""}, "not served"),
        (MOVES, {"lost": 3}, "lost"),
        (STAYS, {"then": "a"}, ""),
        (STAYS, {}, "another serves"),
        (DOUBLE, {"lost": 3, "pause_s": None, "then": ""}, ""),
    ],
)
def test_what_is_a_failure(step: Step, given: dict[str, object], word: str) -> None:
    judged = outcome(step, **given)
    judge(judged, ())
    assert [text.partition(":")[0] for text in judged.complaints] == ([word] if word else [])
    assert judged.failed is bool(word)
    assert bool(judged.suspects) is bool(word)


def test_a_finding_that_explains_the_step_is_suspected_before_anything_else(tmp_path: Path) -> None:
    findings = review(site(tmp_path, changed(ARTICLE, "carp.conf", "mypassword advskew 100", "x advskew 100")))
    judged = outcome(MOVES, then="a")
    judge(judged, findings)
    assert len(judged.suspects) == 1
    assert judged.suspects[0].startswith("carp.conf, vhid 1, pass")


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([2.0], 0.95), percentile([], 0.5)) == (
        51,
        96,
        2,
        0,
    )


def test_rounds_of_a_step_are_put_together() -> None:
    first, second = outcome(MOVES), outcome(MOVES, pause_s=None, then="")
    judge(second, ())
    found = summaries([first, outcome(STAYS, then="a"), second])
    assert [(each.step, each.pauses, each.failed) for each in found] == [(MOVES, [1.0], True), (STAYS, [1.0], False)]


def test_the_plan_begins_with_a_start_and_ends_with_double_failures(tmp_path: Path) -> None:
    own = site(tmp_path)
    steps = list(steps_of(own, 3, False, True))
    assert steps[0] == (1, START)
    assert steps[-1][1].is_double
    assert [step.action for number, step in steps if number == 3] == ["client_cable", "master_power", "both_cables"]
    assert not any("arbiter" in step.action for _, step in steps)
    short = list(steps_of(own, 1, True, True))
    assert [step.action for _, step in short[1:]] == [step.action for step in SINGLE if step.action in SHORT]
    assert 120 < estimate_s(own, steps) < 600


def test_an_arbiter_is_lost_as_well_where_there_is_one(tmp_path: Path) -> None:
    files = {**ARTICLE, "hast.conf": "arbiter witness 10.0.0.1\n" + ARTICLE["hast.conf"]}
    actions = [step.action for _, step in steps_of(site(tmp_path, files), 1, False, False)]
    assert {"arbiter_lost", "arbiter_then_master"} <= set(actions)
    assert "service_killed" not in actions


def test_waits_of_the_configuration_are_waited_for(tmp_path: Path) -> None:
    short = site(tmp_path / "1")
    long = site(tmp_path / "2", changed(ARTICLE, "failover.conf", "resources", "delay 30 resources"))
    assert patience_s(long, MOVES) == patience_s(short, MOVES) + 30
    assert patience_s(short, DOUBLE) > patience_s(short, MOVES)


def test_every_action_has_a_fault() -> None:
    from hast.drill.decisions.steps import ARBITER, DOUBLE_ARBITER, SERVICE
    from hast.drill.decisions.steps import DOUBLE as DOUBLES
    from hast.drill.faults import ACTIONS

    planned = {step.action for step in (*SINGLE, *DOUBLES, SERVICE, ARBITER, DOUBLE_ARBITER)}
    assert planned == set(ACTIONS)
