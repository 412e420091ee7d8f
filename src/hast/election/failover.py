"""The order of a fail-over: what is brought up or taken down after what, and what happens when a step fails.

Sans-I/O: `master` and `slave` are generators that yield one `Step` at a time and are sent an `Answer`; what a step
does to the machine is the caller's. Nothing is remembered between two runs. Every part looks for itself whether there
is anything to do, so a run that was killed between any two steps is continued by running either verb from its start.

    master   stage by stage upwards: every part of a stage at once. A failed stage ends the run: what is up stays up,
             a second `master` goes on from there, a `slave` takes it down. A part that is up, not well, and cannot be
             mended where it is (a mount of a device that is gone) is made anew: first everything above it is taken
             down, then it, then the way goes upwards again. Once a stage and run.
    slave    stage by stage downwards. A part that cannot be taken down holds up the parts it needs (a pool in use
             holds its resources in the primary role) and nothing else; one that is only a ghost, on devices that no
             longer exist, holds nothing.
    Before anything is taken down that stands on a pool whose devices are dead, that pool is let go: what waits for it
    waits in the kernel, where no deadline of a service reaches it. A failure there does not count: the way down comes
    to the pool again.
    Both ask after each step whether a later request overrules them, and then end where they are: the later run begins
    with the true state and undoes or redoes what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verb(StrEnum):
    """What is asked of the node."""

    MASTER = "master"
    SLAVE = "slave"


class Direction(StrEnum):
    """What a step does with its parts."""

    UP = "up"
    DOWN = "down"
    LET_GO = "let go"
    """Of parts whose devices are dead: end them, so that what hangs on them gets errors. Any other is left alone."""


@dataclass(frozen=True, slots=True)
class Item:
    """One part of the node's service: a resource's role, its device, a pool, an export, a service, a hook."""

    name: str
    needs: frozenset[str] = frozenset()
    """Names of items of earlier stages that must not be taken down while this one is up."""
    can_hang: bool = False
    """Whoever uses it while its devices are dead hangs, instead of getting errors."""


@dataclass(frozen=True, slots=True)
class Step:
    """Bring these parts up, or take them down, all at once. Parts already there count as done."""

    direction: Direction
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a step went. `failures` gives, for each part that is not as wanted, one line of why."""

    failures: Mapping[str, str] = field(default_factory=dict)
    give_way: bool = False
    """A later request overrules this run, or it was told to end."""
    renew: frozenset[str] = frozenset()
    """Parts that are up and not well, and have to be taken down first; none of them is in `failures`."""
    loose: frozenset[str] = frozenset()
    """Those of `failures` that hold up nothing."""


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    GAVE_WAY = "gave way"


@dataclass(frozen=True, slots=True)
class Ending:
    """The result of a run. `failures` as in Answer, of all steps; parts held up by others say by which."""

    outcome: Outcome
    failures: Mapping[str, str] = field(default_factory=dict)


NOT_WELL = "is not well although it was just brought up anew"
Stages = Sequence[Sequence[Item]]
Plan = Generator[Step, Answer, Ending]


def master(stages: Stages) -> Plan:
    """Bring everything up, the first stage first."""
    renewed: set[int] = set()
    number = 0
    while number < len(stages):
        stage = stages[number]
        if not stage:
            number += 1
            continue
        answer = yield Step(Direction.UP, tuple(item.name for item in stage))
        _check(answer, stage)
        if answer.give_way:
            return Ending(Outcome.GAVE_WAY, answer.failures)
        if answer.failures:
            return Ending(Outcome.FAILED, answer.failures)
        if not answer.renew:
            number += 1
            continue
        if number in renewed:
            return Ending(Outcome.FAILED, dict.fromkeys(sorted(answer.renew), NOT_WELL))
        renewed.add(number)
        ending = yield from _clear_away(stages[number:], answer.renew)
        if ending is not None:
            return ending
    return Ending(Outcome.DONE)


def _clear_away(stages: Stages, renew: frozenset[str]) -> Generator[Step, Answer, Ending | None]:
    """Take down what stands above the first of `stages`, then those of it that are to be made anew."""
    if (yield from _let_go([stages[0]], renew)):
        return Ending(Outcome.GAVE_WAY)
    failures: dict[str, str] = {}
    for stage in [*reversed(stages[1:]), [item for item in stages[0] if item.name in renew]]:
        if not stage:
            continue
        answer = yield Step(Direction.DOWN, tuple(item.name for item in stage))
        _check(answer, stage)
        failures |= answer.failures
        if answer.give_way:
            return Ending(Outcome.GAVE_WAY, failures)
    return Ending(Outcome.FAILED, failures) if failures else None


def _let_go(stages: Stages, chosen: Collection[str] | None = None) -> Generator[Step, Answer, bool]:
    """True when a later request overrules the run."""
    items = [item for stage in stages for item in stage if item.can_hang and (chosen is None or item.name in chosen)]
    if not items:
        return False
    answer = yield Step(Direction.LET_GO, tuple(item.name for item in items))
    _check(answer, items)
    return answer.give_way


def slave(stages: Stages) -> Plan:
    """Take everything down, the last stage first."""
    failures: dict[str, str] = {}
    held: dict[str, str] = {}
    loose: set[str] = set()
    if (yield from _let_go(stages)):
        return Ending(Outcome.GAVE_WAY)
    for stage in reversed(stages):
        failures |= {item.name: f"held by {held[item.name]}" for item in stage if item.name in held}
        free = [item for item in stage if item.name not in held]
        if free:
            answer = yield Step(Direction.DOWN, tuple(item.name for item in free))
            _check(answer, free)
            failures |= answer.failures
            loose |= answer.loose
            if answer.give_way:
                return Ending(Outcome.GAVE_WAY, failures)
        for item in stage:
            if item.name in failures and item.name not in loose:
                held |= dict.fromkeys(item.needs, item.name)
    return Ending(Outcome.FAILED if failures else Outcome.DONE, failures)


def plan(verb: Verb, stages: Stages) -> Plan:
    """The generator for `verb`. Raises ValueError when two items share a name or one needs an unknown item."""
    seen: set[str] = set()
    for stage in stages:
        names = [item.name for item in stage]
        unknown = {name for item in stage for name in item.needs} - seen
        if unknown or len(set(names)) != len(names) or seen.intersection(names):
            raise ValueError(f"stage {names}: names are not unique, or {sorted(unknown)} is needed but not before it")
        seen.update(names)
    return master(stages) if verb is Verb.MASTER else slave(stages)


def _check(answer: Answer, stage: Sequence[Item]) -> None:
    strangers = {*answer.failures, *answer.renew} - {item.name for item in stage}
    if strangers:
        raise ValueError(f"answer about {sorted(strangers)}, which the step did not ask for")
