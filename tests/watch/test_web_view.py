"""What the page is given to draw: sentences, entries of trouble, plans. Made of pictures that are made up."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pictures import healthy
from sights import SIGHTS, Sight

from hast.watch.picture import read, unknown
from hast.watch.web.history import History
from hast.watch.web.known_names import KnownNames
from hast.watch.web.timeline import Timeline
from hast.watch.web.view import MAX_RESOURCES, document

NOW_S = 1_700_000_000.0


def seen(name: str) -> dict[str, Any]:
    return document(Sight(NOW_S, SIGHTS[name]).at(NOW_S), NOW_S)


@pytest.mark.parametrize(
    ("name", "level", "headline", "codes"),
    [
        ("healthy", "ok", "Both copies of every resource are equal", []),
        ("resync", "warning", "A copy is being made: disk2, disk3", ["synchronizing"]),
        ("degraded", "warning", "The other node does not answer", ["peer-unknown", "degraded"]),
        ("split-brain", "critical", "Split brain: disk1, disk2, disk3", ["split-brain"]),
        ("disk-failed", "critical", "A disk failed: disk2", ["disk"]),
        ("failover", "warning", "A fail-over is under way on hasta", ["peer-unknown", "degraded"]),
    ],
)
def test_the_first_line_says_the_gravest_thing_and_each_trouble_is_there_once(
    name: str, level: str, headline: str, codes: list[str]
) -> None:
    view = seen(name)
    assert (view["level"], view["headline"]) == (level, headline)
    assert [each["code"] for each in view["problems"]] == codes
    json.dumps(view, allow_nan=False)


def test_a_trouble_says_the_same_words_as_long_as_it_lasts() -> None:
    sight = Sight(NOW_S, SIGHTS["degraded"])
    early, late = (document(sight.at(at_s), at_s)["problems"] for at_s in (NOW_S - 100, NOW_S))
    assert early == late
    assert late[1]["items"][0]["since_s"] == NOW_S - 384


def test_a_resync_tells_from_where_to_where_how_far_and_how_long_still() -> None:
    sync = seen("resync")["resources"][1]["sync"]
    assert (sync["source"], sync["target"], round(sync["share"], 2)) == ("hasta", "hastb", 0.4)
    assert sync["left_s"] > 0


def test_a_sync_that_is_not_over_is_never_shown_as_whole() -> None:
    reply = healthy()
    status = reply["node"]["resources"][0]
    status |= {"status": "synchronizing", "sync": {"direction": "from-peer", "total_bytes": 5, "done_bytes": 5}}
    sync = document(read(reply), NOW_S)["resources"][0]["sync"]
    assert sync["share"] < 1
    assert (sync["source"], sync["target"]) == ("hastb", "hasta")


def test_split_brain_shows_what_each_node_changed_alone_and_a_plan_for_either_choice() -> None:
    view = seen("split-brain")
    split = view["resources"][0]["split"]
    assert [(side["node"], side["bytes"]) for side in split["sides"]] == [("hasta", 96 << 20), ("hastb", 6 << 20)]
    keep_here, keep_there, let_go = view["plans"]
    assert keep_here["ready"]
    assert keep_here["steps"][0] == {
        "node": "hastb",
        "command": "hastctl resolve --discard-local disk1 disk2 disk3",
    }
    assert not keep_there["ready"], "hasta serves still"
    assert keep_there["steps"][0] == {"node": "hasta", "command": "hastctl role secondary disk1 disk2 disk3"}
    assert (keep_there["order"], keep_there["why_not"]) == (None, "hasta has to let go first.")
    assert (let_go["title"], let_go["ready"]) == ("disk1, disk2, disk3: stop serving on hasta", True)
    assert "(at most 96MB)" not in keep_here["notice"], "that is what hasta changed"
    assert "hastb alone (at most 18MB)" in keep_here["notice"]


def test_a_move_is_possible_only_while_the_other_copy_is_whole() -> None:
    plan, compare, *disks = seen("healthy")["plans"]
    assert compare["steps"] == [{"node": "hasta", "command": "hastctl verify --no-wait disk1 disk2 disk3"}]
    assert [each["title"] for each in disks] == [
        f"{name}: take the disk of hasta out of service" for name in ("disk1", "disk2", "disk3")
    ]
    assert (plan["title"], plan["ready"]) == ("Move the service from hasta to hastb", True)
    assert plan["steps"][0] == {"node": "hasta", "command": "failover leave"}
    titles = [plan["title"] for plan in seen("resync")["plans"] if plan["ready"]]
    assert titles == ["Compare both copies of disk1", "disk1: take the disk of hasta out of service"]
    assert not any(plan["ready"] for plan in seen("degraded")["plans"])
    titles = [plan["title"] for plan in seen("disk-failed")["plans"] if plan["ready"]]
    assert titles == [
        "disk2: take the disk of hasta into service again",
        "disk2: replace the disk of hasta",
        "Move the service from hasta to hastb",
        "Compare both copies of disk1, disk3",
        "disk1: take the disk of hasta out of service",
        "disk3: take the disk of hasta out of service",
    ]


def test_a_name_that_a_shell_would_take_apart_is_quoted_in_commands() -> None:
    name = "$(reboot); x"
    reply = healthy()
    for node in (reply["node"], reply["peers"][0]["node"]):
        node["resources"][0] |= {"name": name, "split_brain": {"since": 1}}
    reply["peers"][0]["resources"] = [name]
    view = document(read(reply), NOW_S)
    commands = [step["command"] for entry in view["problems"] for step in entry["steps"]]
    commands += [step["command"] for plan in view["plans"] for step in plan["steps"]]
    told = [command for command in commands if "reboot" in command]
    assert told
    assert all("'$(reboot); x'" in command for command in told)


def test_while_hastd_is_silent_the_last_picture_is_shown_as_stale_and_nothing_is_planned() -> None:
    view = document(Sight(NOW_S).at(NOW_S), NOW_S + 50, NOW_S, "hastd does not answer")
    assert (view["stale_since_s"], view["level"], view["plans"]) == (NOW_S, "unknown", [])
    assert len(view["resources"]) == 3
    assert view["problems"][0]["code"] == "hastd-down"


def test_without_any_picture_only_that_is_said() -> None:
    view = document(unknown("hasta", "hastd does not answer"), NOW_S)
    assert (view["level"], view["resources"]) == ("unknown", [])


def test_a_node_that_does_not_answer_keeps_its_name() -> None:
    names = KnownNames()
    degraded = Sight(NOW_S, SIGHTS["degraded"]).at(NOW_S)
    assert names.put_into(degraded).nodes[1].name == "10.0.0.2"
    names.put_into(Sight(NOW_S).at(NOW_S))
    named = names.put_into(degraded)
    assert named.nodes[1].name == "hastb"
    assert named.pairs[0].other is named.nodes[1]


def test_no_node_can_make_the_document_larger_than_the_page_can_bear() -> None:
    reply = healthy()
    one = reply["node"]["resources"][0]
    one["problems"] = [{"kind": f"k{n}", "text": "x" * 1000} for n in range(40)]
    reply["node"]["resources"] = [copy.deepcopy(one) | {"name": f"d{n}", "localpath": "y" * 9000} for n in range(300)]
    reply["node"]["carp"]["vhids"] = [{"vhid": n, "state": "BACKUP", "addresses": ["z" * 9000] * 99} for n in range(99)]
    view = document(read(reply), NOW_S)
    assert len(view["resources"]) == MAX_RESOURCES
    assert view["left_out"] == 300 - MAX_RESOURCES
    assert len(json.dumps(view)) < 1_000_000


def test_figures_that_are_none_are_told_as_unknown() -> None:
    reply = healthy()
    reply["node"]["resources"][0] |= {"datasize": "big", "at_risk_bytes": float("nan"), "sync": {"total_bytes": []}}
    view = document(read(reply), NOW_S)
    assert (view["resources"][0]["size_bytes"], view["resources"][0]["at_risk_bytes"]) == (None, None)
    json.dumps(view, allow_nan=False)


NONSENSE = (5, "x", [], {}, None, True, float("nan"), [[5]], {"x": {}}, -(1 << 90))


def test_no_nonsense_that_a_node_tells_ends_the_looking() -> None:
    """Whatever it has in the place of one value, the page and the history are made of the rest."""
    whole = Sight(NOW_S, SIGHTS["split-brain"]).report(NOW_S)
    for node in (whole["node"], whole["peers"][0]["node"]):
        del node["resources"][1:]
        sync = {"direction": "to-peer", "total_bytes": 5, "done_bytes": 3}
        node["resources"][0] |= {"sync": sync, "arbiter": {"verdict": "serve"}, "not_connected": {"since": 1.0}}
    for place in _places(whole):
        for nonsense in NONSENSE:
            reply = copy.deepcopy(whole)
            _put(reply, place, nonsense)
            picture = KnownNames().put_into(read(reply))
            timeline, history = Timeline(), History()
            timeline.add_picture(picture)
            shown = [document(picture, NOW_S), timeline.entries(), history.add(picture, 1.0), history.add(picture, 2.0)]
            json.dumps(shown, allow_nan=False)


def _places(whole: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value, in lists to the first; one copy is enough of what only history reads."""
    inside = whole.items() if isinstance(whole, dict) else enumerate(whole[:1]) if isinstance(whole, list) else ()
    for key, value in inside:
        yield (*before, key)
        if key not in ("buckets", "peers"):
            yield from _places(value, (*before, key))


def _put(reply: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        reply = reply[key]
    reply[place[-1]] = value
