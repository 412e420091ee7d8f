"""What is carried out of what is ordered: decided without a socket, a clock, or a process."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
from pictures import healthy
from sights import SIGHTS, Sight

from hast.order.decisions.judge import CHANGED, Order, Refused, judge
from hast.order.decisions.request import NotUnderstood, Request, read
from hast.order.decisions.wrong_tokens import FIRST_S, LONGEST_S, MOST, WrongTokens
from hast.watch.picture import Picture
from hast.watch.picture import read as picture_of
from hast.watch.web.decisions.actions import ACTIONS, outcome
from hast.watch.web.plans import plans_of

NOW_S = 1_700_000_000.0


def seen(name: str) -> Picture:
    return Sight(NOW_S, SIGHTS[name]).at(NOW_S)


def seen_from_the_other_side(name: str) -> Picture:
    report = Sight(NOW_S, SIGHTS[name]).report(NOW_S)
    report["node"], report["peers"][0]["node"] = report["peers"][0]["node"], report["node"]
    return picture_of(report)


def without_carp(change: Callable[[dict[str, Any]], None] = lambda reply: None) -> Picture:
    reply = healthy()
    for node in (reply["node"], reply["peers"][0]["node"]):
        node["carp"]["vhids"] = []
    change(reply)
    return picture_of(reply)


def nobody_serves(reply: dict[str, Any]) -> None:
    reply["node"]["resources"][0]["role"] = "secondary"


def differs(reply: dict[str, Any]) -> None:
    reply["node"]["resources"][0]["last_verify"] = {"outcome": "different", "differing_bytes": 4096}


def wanted(picture: Picture, action: str) -> dict[str, Any]:
    return next(each for each in plans_of(picture) if each["order"] and each["order"]["action"] == action)


def ordering(plan: dict[str, Any], **other: Any) -> Request:
    order = plan["order"]
    told = {"action": order["action"], "targets": tuple(order["targets"]), "seen": plan["fingerprint"]}
    return Request(**{"token": "", "typed": order["type"], "origin": "", **told, **other})


PICTURES: dict[str, Picture] = {
    "leave": seen("healthy"),
    "take-over": seen_from_the_other_side("healthy"),
    "let-go": seen("split-brain"),
    "serve": without_carp(nobody_serves),
    "discard": seen_from_the_other_side("split-brain"),
    "attach": seen("disk-failed"),
    "detach": seen("healthy"),
    "compare": seen("healthy"),
    "repair": without_carp(differs),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_the_first_command_of_a_plan_and_is_carried_out_as_it_was_shown(action: str) -> None:
    plan = wanted(PICTURES[action], action)
    order = judge(ordering(plan), plans_of(PICTURES[action]))
    assert isinstance(order, Order)
    assert shlex.join(order.words) == plan["order"]["command"] == plan["steps"][0]["command"]
    assert plan["steps"][0]["node"] == PICTURES[action].here.name


def test_the_list_of_what_can_be_ordered_is_short_and_closed() -> None:
    commands = {" ".join(action.words) for action in ACTIONS.values()}
    assert commands == {
        "failover leave",
        "carpctl state {} master",
        "hastctl role secondary {}",
        "hastctl role primary {}",
        "hastctl resolve --discard-local {}",
        "hastctl attach {}",
        "hastctl detach {}",
        "hastctl verify --no-wait {}",
        "hastctl verify --repair --no-wait {}",
    }
    picture = seen("healthy")
    refused = judge(ordering(wanted(picture, "leave"), action="create"), plans_of(picture))
    assert refused == Refused("This cannot be ordered from the page.")


@pytest.mark.parametrize("name", ["-f", "--force", "all", ""])
def test_a_name_that_a_command_would_read_as_something_else_is_refused(name: str) -> None:
    picture = seen("healthy")
    refused = judge(ordering(wanted(picture, "detach"), targets=(name,)), plans_of(picture))
    assert refused == Refused("No name that can be ordered from the page.")


def test_a_plan_for_such_a_name_is_shown_and_cannot_be_ordered() -> None:
    def called_all(reply: dict[str, Any]) -> None:
        for node in (reply["node"], reply["peers"][0]["node"]):
            node["resources"][0]["name"] = "all"
        reply["peers"][0]["resources"] = ["all"]

    assert [plan["order"] for plan in plans_of(without_carp(called_all))] == [None, None, None]


def test_a_plan_that_changed_since_it_was_seen_is_refused() -> None:
    shown, now = wanted(seen("healthy"), "leave"), seen("degraded")
    assert judge(ordering(shown), plans_of(now)) == Refused(CHANGED)
    assert judge(ordering(shown, seen=""), plans_of(seen("healthy"))) == Refused(CHANGED)
    assert judge(ordering(shown), []) == Refused(CHANGED)


def test_a_plan_of_which_something_is_not_true_is_refused_though_it_is_the_one_that_was_seen() -> None:
    picture = seen("resync")
    refused = judge(ordering(wanted(picture, "leave")), plans_of(picture))
    assert isinstance(refused, Refused)
    assert "hastb has no whole copy of disk2, disk3" in refused.text


@pytest.mark.parametrize("action", ["let-go", "discard", "repair"])
def test_what_takes_something_from_clients_or_for_good_needs_the_name_typed(action: str) -> None:
    plan = wanted(PICTURES[action], action)
    refused = judge(ordering(plan, typed=""), plans_of(PICTURES[action]))
    assert refused == Refused("disk1 has to be typed for this.")
    assert {name for name, each in ACTIONS.items() if each.is_grave} == {"let-go", "discard", "repair"}


def test_more_changes_on_the_side_that_loses_are_another_plan() -> None:
    report = Sight(NOW_S, SIGHTS["split-brain"]).report(NOW_S)
    report["node"], report["peers"][0]["node"] = report["peers"][0]["node"], report["node"]
    before = wanted(picture_of(report), "discard")
    report["node"]["resources"][0]["split_brain"]["local"]["bytes"] += 1 << 20
    after = picture_of(report)
    assert wanted(after, "discard")["fingerprint"] != before["fingerprint"]
    assert judge(ordering(before), plans_of(after)) == Refused(CHANGED)


def test_what_is_for_the_other_node_cannot_be_ordered_here_and_says_so() -> None:
    keep_here = plans_of(seen("split-brain"))[0]
    assert (keep_here["order"], keep_here["steps"][0]["node"]) == (None, "hastb")
    assert keep_here["why_not"] == "Its first command is for hastb: see the page of that node."


def test_the_same_picture_makes_the_same_plan_a_second_later() -> None:
    sight = Sight(NOW_S, SIGHTS["healthy"])
    first, second = ([plan["fingerprint"] for plan in plans_of(sight.at(at_s))] for at_s in (NOW_S - 30, NOW_S))
    assert first == second


GOOD: dict[str, Any] = {
    "command": "order",
    "token": "t",
    "action": "leave",
    "targets": [],
    "seen": "0" * 64,
    "typed": "",
    "origin": "127.0.0.1",
}


@pytest.mark.parametrize(
    "change",
    [
        {"command": "role"},
        {"token": None},
        {"token": "x" * 300},
        {"targets": "disk1"},
        {"targets": [1]},
        {"targets": ["x"] * 200},
        {"seen": ["0"]},
        {"typed": {}},
        {"origin": "x" * 200},
    ],
)
def test_what_is_no_order_is_not_understood(change: dict[str, Any]) -> None:
    assert read(GOOD).action == "leave"
    with pytest.raises(NotUnderstood):
        read({**GOOD, **change})
    with pytest.raises(NotUnderstood):
        read([GOOD])


def test_after_a_few_wrong_tokens_none_is_looked_at_for_longer_and_longer() -> None:
    wrong = WrongTokens()
    for _ in range(MOST - 1):
        wrong.note(0.0, is_right=False)
    assert wrong.shut_for_s(0.0) == 0.0
    wrong.note(0.0, is_right=False)
    assert wrong.shut_for_s(0.0) == FIRST_S
    wrong.note(FIRST_S, is_right=False)
    assert wrong.shut_for_s(FIRST_S) == 2 * FIRST_S
    for _ in range(20):
        wrong.note(100.0, is_right=False)
    assert wrong.shut_for_s(100.0) == LONGEST_S
    assert wrong.is_remembered(200.0)


def test_a_right_token_or_a_long_time_ends_the_counting() -> None:
    wrong = WrongTokens()
    for at_s in (0.0, 1.0, 2.0, 3.0):
        wrong.note(at_s, is_right=False)
    wrong.note(4.0, is_right=True)
    assert not wrong.is_remembered(4.0)
    for at_s in range(MOST * 2):
        wrong.note(at_s * 10_000.0, is_right=False)
    assert wrong.shut_for_s(MOST * 20_000.0) == 0.0


def test_an_outcome_is_said_as_the_command_means_its_exit_code() -> None:
    assert outcome("leave", 2) == "stopped without a successor"
    assert outcome("serve", 0) == "done"
    assert outcome("serve", 69) == "failed, exit code 69"
    assert "it goes on" in outcome("leave", None)
