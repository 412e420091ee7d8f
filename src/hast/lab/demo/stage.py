"""What the acts speak and run through: prints prompt, command, output, time; ends the story at the first surprise."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hast.lab.cluster import Cluster
from hast.lab.processes import LabError

STEP_TIMEOUT_S = 60.0
POLL_S = 0.2


class StoryError(Exception):
    """A step did not go as told. `str()` says which, and what was seen instead."""


class Actor(Protocol):
    """A host or node on which commands run."""

    @property
    def name(self) -> str: ...

    def run(self, argv: Sequence[str], timeout_s: float = ...) -> subprocess.CompletedProcess[str]: ...


@dataclass(slots=True)
class Stage:
    """Runs steps and keeps the times of the acts. `prompt` follows the actor's name."""

    prompt: str = "#"
    colour: bool = field(default_factory=sys.stdout.isatty)
    times: list[tuple[str, float]] = field(default_factory=list)
    steps: int = 0
    cluster: Cluster | None = None
    """From act 5 on: the pair that fails over by itself."""
    _act: tuple[str, float] | None = None

    def act(self, title: str) -> None:
        """Begin an act; ends the one before."""
        self.end()
        self._act = (title, time.monotonic())
        print(f"\n{self._paint('1', f'== {title} ==')}", flush=True)

    def end(self) -> None:
        """End the current act and note its time."""
        if self._act is not None:
            title, start_s = self._act
            self.times.append((title, time.monotonic() - start_s))
            self._act = None

    def say(self, text: str) -> None:
        """A line to the reader."""
        print(f"\n{self._paint('36', f'-- {text}')}", flush=True)

    def run(self, actor: Actor, command: str, wants: str = "", timeout_s: float = STEP_TIMEOUT_S) -> str:
        """Run a shell command, show it; returns its output. Raises StoryError unless it exits 0 and prints `wants`."""
        self._show_command(actor, command)
        start_s = time.monotonic()
        output = self._output(actor, command, timeout_s)
        self._show_output(output, time.monotonic() - start_s)
        if wants and not re.search(wants, output, re.MULTILINE):
            raise StoryError(f"{actor.name}{self.prompt} {command}: no {wants!r} in its output")
        return output

    def refuse(self, actor: Actor, command: str, wants: str, timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Run a shell command that must fail and say why."""
        self._show_command(actor, command)
        start_s = time.monotonic()
        done = self._done(actor, command, timeout_s)
        output = done.stdout + done.stderr
        self._show_output(output, time.monotonic() - start_s)
        if done.returncode == 0 or not re.search(wants, output):
            raise StoryError(f"{actor.name}{self.prompt} {command}: exit {done.returncode}, a refusal was expected")

    def until(
        self,
        actor: Actor,
        command: str,
        good: Callable[[str], bool],
        what: str,
        timeout_s: float = STEP_TIMEOUT_S,
    ) -> str:
        """Repeat a command until its output is good, then show it once with the time that passed. Raises StoryError."""
        self._show_command(actor, command)
        start_s = time.monotonic()
        while True:
            output = self._output(actor, command, timeout_s)
            passed_s = time.monotonic() - start_s
            if good(output):
                self._show_output(output, passed_s)
                return output
            if passed_s > timeout_s:
                self._show_output(output, passed_s)
                raise StoryError(f"{actor.name}{self.prompt} {command}: waited {timeout_s:g} s in vain for {what}")
            time.sleep(POLL_S)

    def check(self, what: str, fact: bool) -> None:
        """State a fact that was verified. Raises StoryError if it does not hold."""
        print(f"  {self._paint('32', 'ok') if fact else self._paint('31', 'NOT SO')}: {what}", flush=True)
        if not fact:
            raise StoryError(f"not so: {what}")

    def _output(self, actor: Actor, command: str, timeout_s: float) -> str:
        done = self._done(actor, command, timeout_s)
        output = done.stdout + done.stderr
        if done.returncode != 0:
            self._show_output(output, None)
            raise StoryError(f"{actor.name}{self.prompt} {command}: exit {done.returncode}")
        return output

    def _done(self, actor: Actor, command: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        self.steps += 1
        try:
            return actor.run(["sh", "-c", command], timeout_s=timeout_s)
        except LabError as error:
            raise StoryError(str(error)) from None

    def _show_command(self, actor: Actor, command: str) -> None:
        print(self._paint("1", f"{actor.name}{self.prompt} {command}"), flush=True)

    def _show_output(self, output: str, seconds: float | None) -> None:
        for line in output.rstrip("\n").splitlines():
            print(f"  {line}")
        if seconds is not None:
            print(self._paint("2", f"  [{seconds:.2f} s]"), flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text
