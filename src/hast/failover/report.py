"""What `failover status` and `failover --plan` print: the last run, the truth of every part, the steps to come.

Looks at the machine through the parts and changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from hast.config.failover_model import FailoverConfiguration
from hast.election.failover import Outcome, Verb
from hast.failover.build import Stages, build
from hast.failover.commands import Commands
from hast.failover.former import leftover, remembered
from hast.failover.log import Log
from hast.failover.part import Context, Part, PartError
from hast.failover.roles import DelayPart, RolePart
from hast.failover.state import RunFiles

CHECK_S = 5.0
MARGIN_S = 2.0
HANGS = "cannot be looked at: a call of the kernel hangs"

State = bool | str | None
"""True up, False down, None cannot be told, text for an error or for what is up and not well."""
Parts = dict[str, State]
"""By the name of the part, in the order of `master`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What monitoring wants to know. `wrong`: parts that are not as `wanted` (True: up)."""

    wanted: bool
    wrong: tuple[str, ...]
    trouble: str = ""
    """What is wrong with the last run; empty when it was done, or when there was none."""
    running: bool = False

    @property
    def good(self) -> bool:
        return not (self.wrong or self.trouble or self.running)

    def __str__(self) -> str:
        role = "master" if self.wanted else "slave"
        if self.running:
            return f"{role}, a run is in progress"
        found = [f"not {'up' if self.wanted else 'down'}: {', '.join(self.wrong)}"] if self.wrong else []
        return f"{role}, " + "; ".join([*([self.trouble] if self.trouble else []), *found] or ["as it should be"])


def look(stages: Stages, files: RunFiles, hanging: MutableMapping[str, threading.Thread] | None = None) -> Parts:
    """The true state of each part, all at once, at most CHECK_S for each.

    `hanging` is kept by who looks again and again: parts whose last look has not ended are not looked at beside that.
    """
    commands = Commands(f"{files.state_path}.look")
    stuck = {} if hanging is None else hanging
    states: dict[str, State] = dict.fromkeys(stages.parts, HANGS)
    threads = {}
    for name, part in stages.parts.items():
        if name not in stuck or not stuck[name].is_alive():
            threads[name] = threading.Thread(target=_look_at, args=(part, commands, states), daemon=True)
            threads[name].start()
    until_s = time.monotonic() + CHECK_S + MARGIN_S
    for name, thread in threads.items():
        thread.join(max(0.0, until_s - time.monotonic()))
        if thread.is_alive():
            stuck[name] = thread
    return dict(states)


def _look_at(part: Part, commands: Commands, states: dict[str, State]) -> None:
    context = Context(Log(terminal=False, to_syslog=False), commands, CHECK_S, lambda: False)
    try:
        state: State = part.is_up(context)
        states[part.name] = (part.ailment(context) or True) if state is True else state
    except (PartError, OSError) as error:
        states[part.name] = str(error)
    except Exception as error:
        states[part.name] = f"error in the program: {type(error).__name__}: {error}"


def verdict(last: Mapping[str, Any], pid: int, stages: Stages, states: Mapping[str, State]) -> Verdict:
    """Is everything as the last run wanted it? Without one: as the roles say.

    What only an earlier configuration has belongs on no slave; on a master it is shown and is the operator's. A run to
    slave that failed is no trouble any more when what failed is down by now; one to master did not do what came after.
    """
    roles = [state for name, state in states.items() if isinstance(stages.parts[name], RolePart)]
    verb = last.get("verb")
    wanted = verb == Verb.MASTER if verb in tuple(Verb) else True in roles
    wrong = tuple(
        name
        for name, state in states.items()
        if state is not wanted
        and not (state is None and stages.parts[name].blind)
        and not (wanted and name in stages.former)
    )
    phase = last.get("phase")
    done = not last or phase == Outcome.DONE or _is_made_good(last, states)
    trouble = "" if done else f"the last run {_ENDINGS.get(str(phase), 'has not ended')}"
    return Verdict(wanted, wrong, trouble, bool(pid))


def _is_made_good(last: Mapping[str, Any], states: Mapping[str, State]) -> bool:
    failures = last.get("failures")
    if last.get("verb") != Verb.SLAVE or last.get("phase") != Outcome.FAILED or not isinstance(failures, dict):
        return False
    return bool(failures) and all(states.get(name) is False for name in failures)


_ENDINGS = {Outcome.FAILED: "failed", Outcome.GAVE_WAY: "gave way", "killed": "was killed"}


def last_run(files: RunFiles) -> tuple[dict[str, Any], int]:
    """The state file, and the process id of the run in progress (0: none). A run that died has phase `killed`."""
    last = files.load()
    if last.get("verb") not in tuple(Verb):
        return {}, 0
    pid = int(files.holder()["pid"]) if last.get("phase") == "running" else 0
    if last.get("phase") == "running" and not pid:
        last["phase"] = "killed"
    return last, pid


@dataclass(frozen=True, slots=True)
class Sight:
    """All that `failover status` tells of."""

    last: dict[str, Any]
    pid: int
    """Of the run in progress; 0 where there is none."""
    stages: Stages
    states: Parts
    verdict: Verdict


def see(configuration: FailoverConfiguration, files: RunFiles) -> Sight:
    """Look at everything. Raises HastdError."""
    last, pid = last_run(files)
    stages = build(configuration, remembered(last), left=leftover(configuration, last))
    states = look(stages, files)
    return Sight(last, pid, stages, states, verdict(last, pid, stages, states))


def plan_lines(verb: Verb, stages: Stages, states: Mapping[str, State]) -> list[str]:
    """The steps of `verb` in order, numbered; parts of one step carry the same number."""
    up = verb is Verb.MASTER
    lines: list[str] = []
    number = 0
    for stage in stages.items if up else reversed(stages.items):
        texts = [(item.name, stages.parts[item.name].summary(up)) for item in stage]
        texts = [(name, text) for name, text in texts if text]
        number += bool(texts)
        for name, text in texts:
            already = " (already so)" if states[name] is up else ""
            limit = "" if isinstance(stages.parts[name], DelayPart) else f", at most {stages.parts[name].timeout_s:g} s"
            lines.append(f"{number}. {text}{limit}{already}")
    return lines


def status_lines(
    last: Mapping[str, Any], pid: int, states: Mapping[str, State], blind: Collection[str], found: Verdict
) -> list[str]:
    """The verdict, the last run and every part, for people. `blind`: parts whose state nobody can tell."""
    parts = ["Now:", *(f"  {name}: {word(state, name in blind)}" for name, state in states.items())]
    state = f"State: {found}."
    if not last:
        return [state, "No failover has run since this host started.", *parts]
    head = f"Last: failover {last.get('verb')} at {_when(last.get('started_s'))}: {last.get('phase')}"
    step = last.get("step")
    if pid and isinstance(step, dict):
        items = step.get("items")
        doing = ", ".join(map(str, items)) if isinstance(items, list) else ""
        head += f" (process {pid}, {step.get('direction')}: {doing})"
    failures = last.get("failures")
    reasons = [f"  {name}: {why}" for name, why in failures.items()] if isinstance(failures, dict) else []
    return [state, head, *(["Failed:", *reasons] if reasons else []), *parts]


def word(state: State, blind: bool = False) -> str:
    """A state for people."""
    if isinstance(state, str):
        return state
    return {True: "up", False: "down", None: "-" if blind else "neither up nor down"}[state]


def _when(started_s: object) -> str:
    if isinstance(started_s, float) and 0 <= started_s < 2**33:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started_s))
    return "an unknown time"
