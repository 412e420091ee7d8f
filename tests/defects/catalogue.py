"""Seeded defects: small wrong changes of the engine that the simulator has to notice.

They are kept in seeded/*.txt, a file for each safety rule, in a form that survives unrelated edits:

    == s2-id-of-the-defect
    One sentence: what is wrong.
    equivalent: why no run can tell it from the right code (only where that is so)
    unit: why the simulator cannot reach it (only where that is so; unit tests have to)
    @@ replication/barrier.py
     a line that stays
    -a line that goes
    +a line that comes

What stays and goes has to occur exactly once in the file; several hunks may follow each other. Nothing here is imported
by the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SEEDED = Path(__file__).parent / "seeded"


class Stale(ValueError):
    """The code changed under a defect; `str()` says where."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """In `path`, relative to src/hast, `old` becomes `new`; both are whole lines."""

    path: str
    old: str
    new: str


@dataclass(slots=True)
class Defect:
    """`equivalent` and `unit` are empty, or say why the simulator is not asked to notice it."""

    name: str
    what: str = ""
    equivalent: str = ""
    unit: str = ""
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def rule(self) -> str:
        """The safety rule that it breaks."""
        return self.name.split("-", 1)[0].upper()

    def apply(self, source: Path) -> None:
        """Change the copy of src/hast at `source`. Raises Stale."""
        for hunk in self.hunks:
            path = source / hunk.path
            text = path.read_text()
            if (found := text.count(hunk.old)) != 1:
                raise Stale(f"{self.name}: the text to change occurs {found} times in {hunk.path}")
            path.write_text(text.replace(hunk.old, hunk.new))


def load() -> list[Defect]:
    """All of them, rule by rule."""
    files = sorted(SEEDED.glob("s*.txt"), key=lambda path: int(path.stem[1:]))
    return [defect for path in files for defect in parse(path.read_text())]


def parse(text: str) -> Iterator[Defect]:
    """The defects of one file. Raises ValueError."""
    for part in text.split("\n== ")[0 if text.startswith("== ") else 1 :]:
        head, *hunks = part.removeprefix("== ").split("\n@@ ")
        name, *lines = head.strip().split("\n")
        defect = Defect(name)
        for line in lines:
            key, _colon, value = line.partition(": ")
            if key in ("equivalent", "unit"):
                setattr(defect, key, value)
            else:
                defect.what = line
        defect.hunks = [_hunk(name, hunk) for hunk in hunks]
        yield defect


def _hunk(name: str, text: str) -> Hunk:
    path, *lines = text.rstrip("\n").split("\n")
    if wrong := [line for line in lines if line[:1] not in ("", " ", "-", "+")]:
        raise ValueError(f"{name}: not a line of a hunk: {wrong[0]!r}")
    old = "".join(line[1:] + "\n" for line in lines if line[:1] != "+")
    new = "".join(line[1:] + "\n" for line in lines if line[:1] != "-")
    return Hunk(path, old, new)
