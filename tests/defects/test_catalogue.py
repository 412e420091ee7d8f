"""The seeded defects fit the code as it is: who changes a line that one of them changes sees it here."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from catalogue import Defect, load, parse

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hast"
DEFECTS = load()
ROOMS = ("replication", "election", "failover", "supervisor", "worker")
RULES = {f"S{number}" for number in range(1, 12)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hast")
    for room in ROOMS:
        shutil.copytree(SOURCE / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_defect_applies_and_compiles(defect: Defect, copy: Path) -> None:
    paths = {hunk.path for hunk in defect.hunks}
    before = {path: (copy / path).read_text() for path in paths}
    try:
        defect.apply(copy)
        for path in paths:
            text = (copy / path).read_text()
            assert text != before[path]
            compile(text, path, "exec")
    finally:
        for path, text in before.items():
            (copy / path).write_text(text)


def test_every_rule_is_broken_by_several_under_names_of_their_own() -> None:
    assert max(Counter(defect.name for defect in DEFECTS).values()) == 1
    rules = Counter(defect.rule for defect in DEFECTS)
    assert set(rules) == RULES
    assert min(rules.values()) >= 5
    assert all(defect.what.endswith(".") and defect.hunks for defect in DEFECTS)


def test_text_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    (defect,) = parse("== s1-twice\nTwice.\n@@ a.py\n-x = 1\n+x = 2\n")
    with pytest.raises(ValueError, match="occurs 2 times"):
        defect.apply(tmp_path)
