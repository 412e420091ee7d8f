"""Alert rules and board: what they name exists, promtool takes them, and each rule fires when it must and not else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hast.watch.catalogue import CATALOGUE
from hast.watch.monitor.names import METRICS, Kind

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = ROOT / "packaging" / "prometheus" / "hast.rules.yml"
BOARD = ROOT / "packaging" / "grafana" / "hast.json"
STORY = HERE / "hast.rules.test.yml"
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M)


def promtool(*arguments: object) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool (package prometheus) is not installed")
    command = [program, *(str(each) for each in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def series() -> set[str]:
    """Names as they are in Prometheus."""
    names = {"up"}
    for metric in METRICS:
        names |= (
            {f"{metric.name}{end}" for end in ("_bucket", "_sum", "_count")}
            if metric.kind is Kind.HISTOGRAM
            else {metric.name}
        )
    return names


def expressions(found: Any) -> list[str]:
    """All `expr`, and the queries of variables, of the board."""
    if isinstance(found, list):
        return [text for each in found for text in expressions(each)]
    if not isinstance(found, dict):
        return []
    own = [str(found[key]) for key in ("expr", "definition") if key in found]
    return own + [text for each in found.values() for text in expressions(each)]


def test_every_metric_that_a_rule_names_exists() -> None:
    named = set(re.findall(r"\bhast_\w+", RULES.read_text()))
    assert named
    assert named <= series()


def test_a_rule_leaves_out_only_kinds_of_trouble_that_there_are_and_other_rules_tell() -> None:
    left_out = re.search(r'code!~"([^"]+)"', RULES.read_text())
    assert left_out is not None
    assert set(left_out[1].split("|")) <= set(CATALOGUE)


def test_rules_fire_when_they_must_and_not_under_healthy_load(tmp_path: Path) -> None:
    for path in (RULES, STORY):
        shutil.copy(path, tmp_path)
    promtool("test", "rules", tmp_path / STORY.name)


def test_every_rule_has_a_story_a_step_to_take_and_a_place_in_the_manual_page() -> None:
    page = (ROOT / "docs" / "hast-monitor.8.md").read_text()
    text = RULES.read_text()
    assert len(ALERTS) == text.count("next_step: ") == text.count("summary: ") == text.count("severity: ")
    for alert in ALERTS:
        assert f"`{alert}`" in page
        fires = rf"alertname: {alert}\n +exp_alerts:"
        assert re.search(fires, STORY.read_text()), f"{alert} never fires in {STORY.name}"
        assert f"eval_time: 1h, alertname: {alert}}}" in STORY.read_text(), f"{alert} is not in the healthy hour"


def test_every_metric_that_the_board_names_exists_and_every_panel_has_one() -> None:
    board = json.loads(BOARD.read_text())
    named = set(re.findall(r"\bhast_\w+", " ".join(expressions(board))))
    assert named <= series()
    assert all(re.search(r"\bhast_", " ".join(expressions(panel))) for panel in board["panels"])
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_prometheus_takes_every_expression_of_the_board(tmp_path: Path) -> None:
    board = json.loads(BOARD.read_text())
    queries = [text for text in expressions(board["panels"]) if text]
    for name, value in (("$__rate_interval", "1m"), ("$pair", ".*"), ("$resource", ".*")):
        queries = [text.replace(name, value) for text in queries]
    assert not [text for text in queries if "$" in text]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(queries)]
    path = tmp_path / "board.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", path)


def test_no_two_panels_of_the_board_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
