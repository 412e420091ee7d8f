"""What every adapter of the fail-over program is: a part that can be looked at, brought up and taken down.

A part holds no state of its own between calls: `is_up` looks at the machine. `up` and `down` are called only when
`is_up` says otherwise, end before `context.left_s()` runs out, and are safe to repeat after being killed half-way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from hast.failover.commands import Commands
from hast.failover.log import Log

POLL_S = 0.05


class PartError(Exception):
    """A part that could not be brought up or taken down. `str()` is one line: what, why, what to do next."""


class Ghost(PartError):
    """A part that cannot be taken down but lies on nothing that still exists: it keeps nothing below it up."""


class GiveWay(Exception):
    """A later request overrules this run; raised from `Context.pause` while a part only waits."""


class Context:
    """What a part gets for one call: the log, the commands, and the time it has.

    `overruled` is asked while a part waits; `deadline_s` is on the monotonic clock.
    """

    def __init__(self, log: Log, commands: Commands, timeout_s: float, overruled: Callable[[], bool]) -> None:
        self.log = log
        self.commands = commands
        self.timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self.overruled = overruled

    def left_s(self) -> float:
        """Seconds until the part's deadline, never negative."""
        return max(0.0, self._deadline_s - time.monotonic())

    def pause(self, seconds: float = POLL_S) -> None:
        """Wait, at most until the deadline. Raises GiveWay at once when a later request overrules the run."""
        until = time.monotonic() + min(seconds, self.left_s())
        while True:
            if self.overruled():
                raise GiveWay
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_S))

    def run(self, *argv: str, timeout_s: float | None = None) -> str:
        """Run a program to its end and return what it printed. Raises PartError when it fails or is late."""
        result = self.commands.run(argv, self.left_s() if timeout_s is None else min(timeout_s, self.left_s()))
        if result.code != 0:
            raise PartError(result.problem())
        return result.output

    def ok(self, *argv: str) -> bool:
        """Whether a program ends with exit code 0 before the deadline."""
        return self.commands.run(argv, self.left_s()).code == 0


class Part(Protocol):
    """One adapter. `name` is unique in a run, such as `pool zhast`; `summary` is for --plan."""

    name: str
    timeout_s: float

    @property
    def blind(self) -> bool:
        """Whether `is_up` can never tell, as with a hook."""
        return False

    def ailment(self, context: Context) -> str:
        """Of a part that is up: one line of what is not well with it; empty when it is well. Raises PartError."""
        return ""

    def mend(self, context: Context, ailment: str) -> bool:
        """Put right what `ailment` told, in place; False: it has to be taken down and brought up. Raises PartError."""
        return False

    @property
    def can_hang(self) -> bool:
        """Whether its users hang, instead of getting errors, when its devices are dead."""
        return False

    def let_go(self, context: Context) -> None:
        """Before what stands on it is taken down: end it if its devices are dead, else nothing. Raises PartError."""
        return

    def is_up(self, context: Context) -> bool | None:
        """Look at the machine; None: cannot be told, so up and down are always carried out. Raises PartError."""
        ...

    def up(self, context: Context) -> None: ...
    def down(self, context: Context) -> None: ...

    def summary(self, up: bool) -> str:
        """One line of what `up` or `down` does; empty for nothing."""
        ...
