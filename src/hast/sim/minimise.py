"""Shorten the schedule of a failing run: leave out all steps without which it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hast.format.constants import SPLIT_BRAIN_TEXT
from hast.sim.run import execute
from hast.sim.schedule import Schedule, Step

Fails = Callable[[Schedule], bool]
MOST_RUNS = 600


def rule(wrong: list[str]) -> str:
    """What kind of failure this is: the rule it breaks, or how the sentence begins."""
    text = wrong[0].split(": ", 1)[1]
    if text[:1] == "S" and text[1:2].isdigit():
        return text.split(":")[0]
    return " ".join(text.split()[:3]) + (", split brain" if SPLIT_BRAIN_TEXT in text else "")


class Minimiser:
    """`tell(schedule, runs)` hears of every success."""

    def __init__(self, schedule: Schedule, tell: Callable[[Schedule, int], None]) -> None:
        wrong = execute(schedule).wrong
        if not wrong:
            raise ValueError("this schedule does not fail")
        self.rule = rule(wrong)
        self.runs = 0
        self._best = schedule
        self._tell = tell

    def minimise(self) -> Schedule:
        """As short as single steps and pauses make it; bounded in runs."""
        while True:
            before = self._best
            self._drop_steps()
            self._shorten_pauses()
            if self._best == before or self.runs >= MOST_RUNS:
                return self._best

    def _drop_steps(self) -> None:
        """By halves, quarters, and so on down to single steps."""
        size = max(1, len(self._best.steps) // 2)
        while size >= 1:
            position = 0
            while position < len(self._best.steps) and self.runs < MOST_RUNS:
                steps = self._best.steps
                gone, rest = steps[position : position + size], list(steps[position + size :])
                if rest:
                    pause_s = round(sum(step.pause_s for step in gone) + rest[0].pause_s, 4)
                    shifted = [rest[0]._replace(pause_s=pause_s), *rest[1:]]
                else:
                    shifted = []
                if not (self._try((*steps[:position], *rest)) or self._try((*steps[:position], *shifted))):
                    position += size
            size //= 2

    def _shorten_pauses(self) -> None:
        for position, step in enumerate(self._best.steps):
            for pause_s in (0.0, round(step.pause_s / 2, 1), round(step.pause_s, 1)):
                if pause_s < step.pause_s and self._replace(position, step._replace(pause_s=pause_s)):
                    break

    def _replace(self, position: int, step: Step) -> bool:
        steps = self._best.steps
        return self._try((*steps[:position], step, *steps[position + 1 :]))

    def _try(self, steps: tuple[Step, ...]) -> bool:
        if self.runs >= MOST_RUNS:
            return False
        self.runs += 1
        shorter = replace(self._best, steps=steps)
        wrong = execute(shorter).wrong
        if not wrong or rule(wrong) != self.rule:
            return False
        self._best = shorter
        self._tell(shorter, self.runs)
        return True
