"""`hastctl explain`: what a problem's code means and what to do about it; hastd is not needed."""

from __future__ import annotations

import difflib

from hast.watch.catalogue import CATALOGUE


def list_lines() -> list[str]:
    """Every code with its level and meaning."""
    width = max(map(len, CATALOGUE))
    return [f"{kind.code:<{width}}  {kind.level.name:<8}  {kind.meaning}" for kind in CATALOGUE.values()]


def lines(code: str) -> list[str] | None:
    """One code; None for one that is not known."""
    kind = CATALOGUE.get(code.strip().lower())
    if kind is None:
        return None
    steps = [f"  {number}. {step}" for number, step in enumerate(kind.steps, 1)]
    return [f"{kind.code} ({kind.level.name})", f"  {kind.meaning}", "What to do (NAME is the resource):", *steps]


def complaint(code: str) -> str:
    """What is said of a code that is not known."""
    near = difflib.get_close_matches(code, CATALOGUE, 1)
    return f"Unknown problem {code!r}{f'; did you mean {near[0]}?' if near else '; hastctl explain lists all.'}"
