"""What the other node tells may be anything: whoever draws it goes on."""

from __future__ import annotations

from typing import Any

import pytest
from stories import NOW_S, STORIES, healthy

from hast.watch import both, check
from hast.watch.picture import read
from hast.watch.problems import USUAL, find
from hast.watch.rates import between
from hast.watch.top.frame import frame
from hast.watch.top.view import View

RUBBISH: tuple[Any, ...] = ("x", [], [None], {}, {"x": "y"}, -1, 1e300, None, True)


def spoiled(name: str, rubbish: Any) -> list[dict[str, Any]]:
    """Reports with one value each that is not of its kind."""
    made = []
    reply = healthy()
    STORIES[name](reply)
    for key in reply["node"]["resources"][0]:
        if key != "name":
            made.append(healthy())
            STORIES[name](made[-1])
            made[-1]["node"]["resources"][0][key] = rubbish
    for key in reply["node"]:
        made.append(healthy())
        STORIES[name](made[-1])
        made[-1]["node"][key] = rubbish
    for key in reply["node"]["carp"]["vhids"][0]:
        made.append(healthy())
        STORIES[name](made[-1])
        made[-1]["node"]["carp"]["vhids"][0][key] = rubbish
    return made


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
@pytest.mark.parametrize("name", ["resync", "split_brain"])
def test_a_value_of_another_kind_ends_nobody(name: str, rubbish: Any) -> None:
    for reply in spoiled(name, rubbish):
        good, found = read(healthy()), read(reply)
        problems = find(found, NOW_S)
        frame(View(found, problems, NOW_S, between(good, found), [{"time": rubbish, "text": rubbish}]), 80, 24)
        both.lines(found, problems)
        check.of_picture(found, problems, NOW_S, USUAL)


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
def test_parts_of_figures_of_another_kind_end_nobody(rubbish: Any) -> None:
    for path in (("sync", "rate_bytes_s"), ("sync", "left_s"), ("arbiter", "lease_left_s"), ("missing_bytes", "peer")):
        reply = healthy()
        STORIES["resync"](reply)
        reply["node"]["resources"][0][path[0]][path[1]] = rubbish
        reply["node"]["resources"][0]["latency"] = {"write": {"local": {"buckets": [rubbish, [rubbish, rubbish]]}}}
        reply["node"]["resources"][0]["statistics"] = {"reads": rubbish}
        found = read(reply)
        frame(View(found, find(found, NOW_S), NOW_S, between(found, found)), 80, 24)
        both.lines(found, find(found, NOW_S))
