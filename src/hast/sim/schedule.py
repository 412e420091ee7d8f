"""A run as a list of steps: everything that is done to the pair, and how its clients behave. It is kept as JSON, and
repeated without the chance that first made it; only delays, and which sectors clients touch, come from its `seed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hast.format.constants import Replication

Argument = str | int | float | bool


class Step(NamedTuple):
    """After `pause_s` seconds, the action of this name (`actions.py`) with these arguments."""

    pause_s: float
    kind: str
    arguments: Mapping[str, Argument] = {}


@dataclass(frozen=True, slots=True)
class Schedule:
    """`extensions`: our additions to the protocol; `alone`: node b is not there at first; `sync_rate_bytes_s`: the
    limit on a synchronisation, 0 for none, SYNC_AUTO.

    `strict`: no failure comes before the one before it is repaired, so nothing acknowledged may be lost beyond what the
    mode admits. Otherwise a loss is excused where no disk holds the data any more.
    """

    seed: int
    replication: Replication
    steps: tuple[Step, ...]
    extensions: bool = True
    arbiter: bool = False
    alone: bool = False
    sync_rate_bytes_s: int = 0
    read_balancing: bool = False
    strict: bool = True
    note: str = ""

    def to_json(self) -> str:
        """One step a line."""
        head = {
            "seed": self.seed,
            "replication": str(self.replication),
            "extensions": self.extensions,
            "arbiter": self.arbiter,
            "alone": self.alone,
            "sync_rate_bytes_s": self.sync_rate_bytes_s,
            "read_balancing": self.read_balancing,
            "strict": self.strict,
            "note": self.note,
        }
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
        steps = ",\n".join(f"    {json.dumps([step.pause_s, step.kind, dict(step.arguments)])}" for step in self.steps)
        return "{\n" + "\n".join(lines) + '\n  "steps": [\n' + steps + "\n  ]\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Raises ValueError, KeyError or TypeError when it is none."""
        value: dict[str, Any] = json.loads(text)
        steps = tuple(Step(float(pause_s), str(kind), arguments) for pause_s, kind, arguments in value.pop("steps"))
        return cls(steps=steps, replication=Replication(value.pop("replication")), **value)

    @classmethod
    def load(cls, path: Path) -> Schedule:
        return cls.from_json(path.read_text())
