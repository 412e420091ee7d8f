"""`hastctl upgrade`: has hastd and its workers replaced by the code that is installed now, and waits for it."""

from __future__ import annotations

import time

from hast.cli.session import Failure, Session

EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
REQUEST_S = 15.0
BACK_S = 30.0
"""How long the next hastd may take to answer."""
POLL_S = 0.1


def run(session: Session, limit_s: float) -> str:
    """Upgrade; returns the line that says what runs now. Raises Failure."""
    before = session.ask({"command": "upgrade"}, REQUEST_S)["generation"]
    end_s = time.monotonic() + limit_s
    told = _wait_for_next(session, before, min(BACK_S, limit_s))
    while (state := str(told.get("upgrade"))) != "done":
        if state.startswith("stopped"):
            raise Failure(f"hastd was replaced; the upgrade of its workers {state}.", EX_UNAVAILABLE)
        if time.monotonic() >= end_s:
            raise Failure(f"hastd was replaced; its workers are not yet, after {limit_s:g} s ({state}).", EX_TEMPFAIL)
        time.sleep(POLL_S)
        told = session.ask({"command": "version"}, REQUEST_S)
    return f"hastd and its workers run release {told['release']} now."


def _wait_for_next(session: Session, before: int, limit_s: float) -> dict[str, object]:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            told = session.ask({"command": "version"}, REQUEST_S)
            if told.get("generation") != before:
                return told
        except Failure:
            pass
        if time.monotonic() >= end_s:
            raise Failure(
                f"hastd does not answer {limit_s:g} s after it was told to replace itself; its workers serve on. "
                "See the log, and start hastd.",
                EX_UNAVAILABLE,
            )
        time.sleep(POLL_S)
