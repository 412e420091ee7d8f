"""The typed, frozen form of a devd.conf file, and the expansion of its variables. Holds no parser, does no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_DEVD_CONF = "/etc/devd.conf"
DEFAULT_DEVD_PIDFILE = "/var/run/hast-devd.pid"

_REFERENCE = re.compile(
    r"""\$(?:(?P<dollar>\$) | (?P<kept>\([^()]*\)) | \{(?P<braced>[A-Za-z_*][A-Za-z0-9_-]*)\}
          | (?P<plain>[A-Za-z_*][A-Za-z0-9_-]*))""",
    re.VERBOSE,
)


class RuleKind(StrEnum):
    """Which events a rule is asked about."""

    NOTIFY = "notify"
    ATTACH = "attach"
    DETACH = "detach"
    NOMATCH = "nomatch"


@dataclass(frozen=True, slots=True)
class Match:
    """One condition: the event's variable `variable` must match `regex` as a whole, or must not when `negated`.

    `regex` is checked to compile and has the variables of `options { set … }` already put in. A variable that the
    event lacks counts as the empty string.
    """

    variable: str
    regex: str
    negated: bool = False

    def accepts(self, event: Mapping[str, str]) -> bool:
        """Whether this condition holds for the event's variables."""
        return (re.fullmatch(self.regex, event.get(self.variable, "")) is not None) is not self.negated


@dataclass(frozen=True, slots=True)
class Rule:
    """One `notify`, `attach`, `detach` or `nomatch` block."""

    kind: RuleKind
    priority: int
    """The matching rule with the largest number runs, as in devd; on equal numbers the first in the file."""
    matches: tuple[Match, ...]
    """All must hold; empty holds always."""
    actions: tuple[str, ...]
    """Shell commands in the order they run, variables not yet expanded; at least one."""
    location: str
    """`file:line` of the block, for logs."""

    def accepts(self, event: Mapping[str, str]) -> bool:
        """Whether every condition holds for the event's variables."""
        return all(match.accepts(event) for match in self.matches)


@dataclass(frozen=True, slots=True)
class DevdConfiguration:
    """The whole file and the files of its directories. `rules` is in file order; the runner orders by priority."""

    path: str
    rules: tuple[Rule, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """The `set` variables of options."""
    pidfile: str = DEFAULT_DEVD_PIDFILE
    directories: tuple[str, ...] = ()
    """Directories whose *.conf files were read too, in file order."""


def expand(text: str, variables: Mapping[str, str], quote: Callable[[str], str] = str) -> str:
    """`text` with `$name` and `${name}` replaced by their quoted values and `$$` by `$`, as devd does it.

    An unknown `$name` becomes empty; an unknown `${name}` and all of `$(command)` are left for the shell.
    Pass `shlex.quote` as `quote` for text that a shell will read.
    """

    def replacement(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        if found["plain"] is not None:
            return quote(variables[found["plain"]]) if found["plain"] in variables else ""
        name = found["braced"]
        return quote(variables[name]) if name is not None and name in variables else found.group()

    return _REFERENCE.sub(replacement, text)
