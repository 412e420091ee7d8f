"""What `failover status` and `failover --plan` print: the last run, the truth of every part, the steps to come.

Looks at the machine through the parts and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hast.election.failover import Verb
from hast.failover.build import Stages
from hast.failover.commands import Commands
from hast.failover.log import Log
from hast.failover.part import Context, PartError
from hast.failover.state import RunFiles

CHECK_S = 5.0

State = bool | str | None
"""True up, False down, None cannot be told, text for an error."""


def look(stages: Stages, files: RunFiles) -> dict[str, State]:
    """The true state of each part, at most CHECK_S for each."""
    log = Log(terminal=False, to_syslog=False)
    commands = Commands(f"{files.state_path}.look")
    states: dict[str, State] = {}
    for name, part in stages.parts.items():
        try:
            states[name] = part.is_up(Context(log, commands, CHECK_S, lambda: False))
        except (PartError, OSError) as error:
            states[name] = str(error)
    return states


def last_run(files: RunFiles) -> tuple[dict[str, Any], int]:
    """The state file, and the process id of the run in progress (0: none). A run that died has phase `killed`."""
    last = files.load()
    pid = int(files.holder()["pid"]) if last.get("phase") == "running" else 0
    if last.get("phase") == "running" and not pid:
        last["phase"] = "killed"
    return last, pid


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
            lines.append(f"{number}. {text}, at most {stages.parts[name].timeout_s:g} s{already}")
    return lines


def status_lines(last: Mapping[str, Any], pid: int, states: Mapping[str, State]) -> list[str]:
    """The last run and every part, for people."""
    parts = [f"  {name}: {_word(state)}" for name, state in states.items()]
    if not last:
        return ["No failover has run since this host started.", *parts]
    head = f"Last: failover {last.get('verb')} at {_when(last.get('started_s'))}: {last.get('phase')}"
    step = last.get("step")
    if pid and isinstance(step, dict):
        items = step.get("items")
        doing = ", ".join(map(str, items)) if isinstance(items, list) else ""
        head += f" (process {pid}, {step.get('direction')}: {doing})"
    failures = last.get("failures")
    reasons = [f"  {name}: {why}" for name, why in failures.items()] if isinstance(failures, dict) else []
    return [head, *(["Failed:", *reasons] if reasons else []), "Now:", *parts]


def _word(state: State) -> str:
    if isinstance(state, str):
        return state
    return {True: "up", False: "down", None: "-"}[state]


def _when(started_s: object) -> str:
    if isinstance(started_s, float) and 0 <= started_s < 2**33:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started_s))
    return "an unknown time"
