"""Pages that are made of the code are as the code is now, and the index by question leads somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from hast.watch.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def drawings() -> ModuleType:
    found = importlib.util.spec_from_file_location("drawings", ROOT / "packaging" / "drawings.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["problems.md", "diagrams.md"])
def test_a_page_made_of_the_code_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == drawings().PAGES[name](), "run: make docs"


def test_every_decision_about_a_first_message_is_drawn() -> None:
    text = "\n".join(drawings().accept_chart())
    for words in ("No access to the resource.", "Token doesn't match.", "Resource not configured.", "message 4"):
        assert words in text


def test_a_change_in_a_decision_changes_its_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawings()
    before = made.diagrams()
    monkeypatch.setattr(made, "SOURCES", dict.fromkeys(made.SOURCES, next(iter(made.SOURCES.values()))))
    assert made.diagrams() != before


def test_the_index_by_question_names_every_problem() -> None:
    text = (DOCS / "questions.md").read_text()
    assert [code for code in CATALOGUE if f"`{code}`" not in text] == []


def test_the_index_by_question_leads_to_pages_that_are_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (DOCS / "questions.md").read_text())
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
