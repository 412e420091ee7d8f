"""`hast-devd --replay`: what the rules would do with recorded events. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hast.config.devd_model import Rule
from hast.failover.devd.events import EventError, parse_line
from hast.failover.devd.rules import choose, readable


def replay(rules: Sequence[Rule], lines: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """For each line of text, (whether it was an event, what to print). Blank lines and `#` lines are passed over."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            event = parse_line(line)
        except EventError as error:
            yield False, f"line {number}: {error}"
            continue
        yield True, str(event)
        choice = choose(rules, event)
        if choice.rule is None:
            yield True, "    no rule matches"
            continue
        yield True, f"    {choice.rule.location}: priority {choice.rule.priority}"
        yield from ((True, f"    would run: {readable(action, event)}") for action in choice.rule.actions)
        others = ", ".join(f"{rule.location} (priority {rule.priority})" for rule in choice.matching[1:])
        if others:
            yield True, f"    also matches, but does not run: {others}"
