"""`hastctl verify`: begin, wait, and say what was found. What is said comes from hastd's status alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hast.cli.output import verify_in_words, verify_progress
from hast.cli.session import Session, complain

EX_DIFFERENT = 1
EX_TEMPFAIL = 75
ORDER_LIMIT_S = 30.0
LOOK_S, MOST_LOOK_S = 0.1, 2.0
NO_END_SEEN = "ended without a result: its worker was replaced, or this node is not primary any more; verify again"


def run(session: Session, names: Sequence[str], repair: bool, wait: bool) -> int:
    """Verify these resources at once; returns the exit code. Raises Failure."""
    command = {"command": "verify", "resources": list(names), "repair": repair}
    entries = session.ask(command, ORDER_LIMIT_S).get("resources") or []
    code = complain(entries)
    begun = [str(entry["name"]) for entry in entries if not entry.get("error")]
    if not wait or not begun:
        return code
    return code or _see_through(session, begun)


def stop(session: Session, names: Sequence[str]) -> int:
    """End what is under way; returns the exit code. Raises Failure."""
    command = {"command": "stop-verify", "resources": list(names)}
    return complain(session.ask(command, ORDER_LIMIT_S).get("resources") or [])


def _see_through(session: Session, names: Sequence[str]) -> int:
    """Until all have ended."""
    left = dict.fromkeys(names, 0)
    code, look_s = 0, LOOK_S
    while left:
        for entry in session.status(list(left)):
            name = str(entry["name"])
            under_way = entry.get("verify")
            if isinstance(under_way, Mapping):
                left[name] = int(under_way["began"])
                continue
            line, ended = result(entry, left.pop(name))
            print(line, flush=True)
            code = code or ended
        if left:
            _show(session, left)
            time.sleep(look_s)
            look_s = min(MOST_LOOK_S, 1.5 * look_s)
    return code


def _show(session: Session, left: Mapping[str, int]) -> None:
    """How far they are, on a terminal."""
    if not sys.stderr.isatty():
        return
    under_way = [entry for entry in session.status(list(left)) if isinstance(entry.get("verify"), Mapping)]
    told = [f"{entry['name']}: {verify_progress(entry['verify'])}" for entry in under_way]
    print(f"\r\x1b[K{'  '.join(told)}", end="", file=sys.stderr, flush=True)


def result(entry: Mapping[str, Any], began: int) -> tuple[str, int]:
    """A line for one that has ended, and its exit code. `began`: when it was seen to begin, 0 where it never was."""
    name, last = str(entry["name"]), entry.get("last_verify")
    if not isinstance(last, Mapping) or int(last["began"]) < began:
        return f"{name}: {NO_END_SEEN}", EX_TEMPFAIL
    return f"{name}: {verify_in_words(last)}", exit_code(last)


def exit_code(last: Mapping[str, Any]) -> int:
    """0: equal by now, and all could be read."""
    if last["outcome"] == "interrupted":
        return EX_TEMPFAIL
    differs = last["outcome"] not in ("equal", "repaired") or last["unreadable_bytes"]
    return EX_DIFFERENT if differs else 0
