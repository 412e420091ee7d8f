"""What the worker of a primary is told of its arbiter's word: hold writes, let them go on, the answer to its question.

Two things hold writes: a standing verdict that is not SERVE, and a question whose answer was no. Writes are let go only
when neither does, or by hand (safety rule S11). Each call returns what to do about it, in order. `arbiter_link.py` does
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hast.election.arbiter import Verdict


@dataclass(frozen=True, slots=True)
class Freeze:
    """Tell the worker to hold writes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Thaw:
    """Tell the worker to let writes go on."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Tell the worker the answer to its question."""

    question: str
    yes: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the arbiter this from now on, until it says yes or the question is settled; in place of any other."""

    question: str


@dataclass(frozen=True, slots=True)
class StopAsking:
    """The question is settled."""


@dataclass(frozen=True, slots=True)
class StepDown:
    """Give the role up."""

    reason: str


Action = Freeze | Thaw | Reply | Ask | StopAsking | StepDown


class LeaveToWrite:
    """For one promotion."""

    def __init__(self) -> None:
        self._verdict, self._reason = Verdict.SERVE, ""
        self._question: str | None = None
        self._refused = False

    def asked(self, question: str) -> list[Action]:
        """The worker waits for leave to go on without its peer."""
        actions = self._settle()
        self._question = question
        return [*actions, Ask(question)]

    def refused(self, question: str) -> list[Action]:
        """The arbiter said no, or nothing. The worker is told once, however often it is asked."""
        if self._refused or question != self._question:
            return []
        self._refused = True
        return [Reply(question, yes=False)]

    def granted(self, question: str) -> list[Action]:
        """The arbiter said yes."""
        if question != self._question:
            return []
        actions: list[Action] = [Reply(question, yes=True)]
        if self._refused and self._verdict is Verdict.SERVE:
            actions.append(Thaw())
        self._question, self._refused = None, False
        return actions

    def peer_connected(self) -> list[Action]:
        """The peer takes every write again: nothing has to be asked."""
        return self._settle()

    def overruled(self) -> list[Action]:
        """By hand: writes go on, whatever the arbiter says or does not say."""
        question = self._question
        reply: list[Action] = [Reply(question, yes=True)] if question is not None else []
        self._question, self._refused = None, False
        return [StopAsking(), *reply, Thaw()]

    def worker_replaced(self) -> list[Action]:
        """A new worker knows nothing of a standing verdict, and asks its own questions."""
        actions = self._settle()
        if self._verdict is not Verdict.SERVE:
            actions.append(Freeze(self._reason))
        return actions

    def judged(self, verdict: Verdict, reason: str) -> list[Action]:
        """What the primary may do has changed."""
        self._verdict, self._reason = verdict, reason
        if verdict is Verdict.SERVE:
            return [] if self._refused else [Thaw()]
        stepping_down: list[Action] = [StepDown(reason)] if verdict is Verdict.STEP_DOWN else []
        return [Freeze(reason), *stepping_down]

    def _settle(self) -> list[Action]:
        thaw = self._refused and self._verdict is Verdict.SERVE
        self._question, self._refused = None, False
        return [StopAsking(), Thaw()] if thaw else [StopAsking()]
