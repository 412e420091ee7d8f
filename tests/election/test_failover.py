"""The order of a fail-over: every crash point, every failure, every change of mind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.election import failover as plans
from hast.election.failover import Answer, Direction, Ending, Item, Outcome, Step, Verb, master, plan, slave

ROLES = ("role disk1", "role disk2", "role disk3")
STAGES = (
    (Item("hooks"),),
    tuple(Item(name) for name in ROLES),
    (Item("device disk1"), Item("device disk2"), Item("device disk3")),
    (Item("pool zhast", frozenset(ROLES[:2])), Item("pool mail", frozenset({"role disk3"}))),
    (Item("export"),),
    (Item("service a"),),
    (Item("service b"),),
)
ORDER = [item.name for stage in STAGES for item in stage]


class Crash(Exception):
    """The program was killed."""


class World:
    """Parts that are up or down; counts effects and dies before or after the one it is told to."""

    def __init__(self, up: set[str] | None = None) -> None:
        self.up = set(up or ())
        self.effects = 0
        self.die_at: int | None = None
        self.die_after = False
        self.broken: set[str] = set()

    def perform(self, step: Step) -> Answer:
        failures = {}
        for name in step.items:
            wanted = step.direction is Direction.UP
            if (name in self.up) is wanted:
                continue
            self.effects += 1
            if self.effects == self.die_at and not self.die_after:
                raise Crash
            if name in self.broken:
                failures[name] = "broken"
            else:
                (self.up.add if wanted else self.up.discard)(name)
                self.check()
            if self.effects == self.die_at:
                raise Crash
        return Answer(failures)

    def check(self) -> None:
        """What must hold at every moment."""
        if "pool zhast" in self.up:
            assert set(ROLES[:2]) <= self.up
        if "pool mail" in self.up:
            assert "role disk3" in self.up
        if "service b" in self.up and "service b" not in self.broken and "service a" not in self.broken:
            assert "service a" in self.up


def drive(world: World, verb: Verb, give_way_at: int | None = None) -> Ending:
    generator = plan(verb, STAGES)
    step = next(generator)
    for number in itertools.count():
        answer = Answer(give_way=True) if number == give_way_at else world.perform(step)
        try:
            step = generator.send(answer)
        except StopIteration as stop:
            ending: Ending = stop.value
            return ending
    raise AssertionError


def every_crash() -> Iterator[tuple[Verb, Verb, int, bool]]:
    for first, second in itertools.product(Verb, Verb):
        for number in range(1, len(ORDER) + 1):
            for after in (False, True):
                yield first, second, number, after


@pytest.mark.parametrize(("first", "second", "number", "after"), every_crash())
def test_a_run_killed_at_any_effect_is_finished_or_undone_by_the_next_run(
    first: Verb, second: Verb, number: int, after: bool
) -> None:
    world = World() if first is Verb.MASTER else World(set(ORDER))
    world.die_at, world.die_after = number, after
    with pytest.raises(Crash):
        drive(world, first)
    world.die_at = None
    assert drive(world, second).outcome is Outcome.DONE
    assert world.up == (set(ORDER) if second is Verb.MASTER else set())


def test_master_goes_up_in_order_and_slave_comes_down_in_reverse() -> None:
    world = World()
    seen = []
    for verb in (Verb.MASTER, Verb.SLAVE):
        generator = plan(verb, STAGES)
        step = next(generator)
        try:
            while True:
                seen.append(step.items)
                step = generator.send(world.perform(step))
        except StopIteration:
            pass
    upwards = [tuple(item.name for item in stage) for stage in STAGES]
    assert seen == upwards + upwards[::-1]


@pytest.mark.parametrize("verb", list(Verb))
def test_a_second_run_of_the_same_verb_changes_nothing(verb: Verb) -> None:
    world = World(set(ORDER[:5]))
    drive(world, verb)
    effects = world.effects
    assert drive(world, verb).outcome is Outcome.DONE
    assert world.effects == effects


@pytest.mark.parametrize("broken", ORDER)
def test_master_stops_at_the_stage_that_fails_and_leaves_what_is_up(broken: str) -> None:
    world = World()
    world.broken = {broken}
    ending = drive(world, Verb.MASTER)
    assert ending == Ending(Outcome.FAILED, {broken: "broken"})
    stage = next(index for index, stage in enumerate(STAGES) if broken in {item.name for item in stage})
    assert world.up == {item.name for s in STAGES[: stage + 1] for item in s} - {broken}


def test_a_pool_that_stays_in_use_holds_its_own_resources_and_no_others() -> None:
    world = World(set(ORDER))
    world.broken = {"pool zhast"}
    ending = drive(world, Verb.SLAVE)
    assert ending.outcome is Outcome.FAILED
    assert world.up == {"pool zhast", "role disk1", "role disk2"}
    assert ending.failures["role disk1"] == "held by pool zhast"
    assert "role disk3" not in ending.failures


def test_a_service_that_does_not_stop_does_not_keep_the_node_primary() -> None:
    world = World(set(ORDER))
    world.broken = {"service b", "export"}
    ending = drive(world, Verb.SLAVE)
    assert ending.outcome is Outcome.FAILED
    assert world.up == {"service b", "export"}


@pytest.mark.parametrize("verb", list(Verb))
def test_a_run_that_gives_way_does_no_further_step(verb: Verb) -> None:
    for number in range(len(STAGES)):
        world = World(set() if verb is Verb.MASTER else set(ORDER))
        assert drive(world, verb, give_way_at=number).outcome is Outcome.GAVE_WAY
        other = Verb.SLAVE if verb is Verb.MASTER else Verb.MASTER
        assert drive(world, other).outcome is Outcome.DONE
        assert world.up == (set(ORDER) if other is Verb.MASTER else set())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Verb)), st.sampled_from(["finish", "give way", "die"]), st.integers(0, 12)),
        max_size=6,
    ),
    st.sampled_from(list(Verb)),
)
def test_after_any_history_one_whole_run_reaches_its_goal(history: list[tuple[Verb, str, int]], last: Verb) -> None:
    world = World()
    for verb, how, number in history:
        world.die_at = world.effects + number if how == "die" else None
        try:
            drive(world, verb, give_way_at=number if how == "give way" else None)
        except Crash:
            pass
    world.die_at = None
    assert drive(world, last).outcome is Outcome.DONE
    assert world.up == (set(ORDER) if last is Verb.MASTER else set())


def test_empty_stages_are_skipped() -> None:
    assert list(master(((), ()))) == []
    assert list(slave(((), ()))) == []


def test_a_plan_with_wrong_names_is_refused() -> None:
    for stages in (((Item("a"), Item("a")),), ((Item("a"),), (Item("a"),)), ((Item("a", frozenset({"b"})),),)):
        with pytest.raises(ValueError, match="names are not unique"):
            plan(Verb.MASTER, stages)
    generator = plan(Verb.MASTER, ((Item("a"),),))
    next(generator)
    with pytest.raises(ValueError, match="did not ask for"):
        generator.send(Answer({"b": "?"}))


def steps(generator: plans.Plan, answers: Callable[[Step], Answer]) -> tuple[list[tuple[str, tuple[str, ...]]], Ending]:
    """Every step of a plan, and its ending."""
    taken = []
    step = next(generator)
    while True:
        taken.append((str(step.direction), step.items))
        try:
            step = generator.send(answers(step))
        except StopIteration as stop:
            return taken, stop.value


SMALL = (
    (Item("role"),),
    (Item("pool a", frozenset({"role"})), Item("pool b", frozenset({"role"}))),
    (),
    (Item("export"),),
    (Item("service"),),
)


def test_a_part_that_cannot_be_mended_in_place_is_made_anew_with_all_above_it() -> None:
    sick = {"pool a"}

    def answer(step: Step) -> Answer:
        found = sick.intersection(step.items) if step.direction is Direction.UP else set()
        if step.direction is Direction.DOWN:
            sick.difference_update(step.items)
        return Answer(renew=frozenset(found))

    taken, ending = steps(master(SMALL), answer)
    assert ending.outcome is Outcome.DONE
    assert taken == [
        ("up", ("role",)),
        ("up", ("pool a", "pool b")),
        ("down", ("service",)),
        ("down", ("export",)),
        ("down", ("pool a",)),
        ("up", ("pool a", "pool b")),
        ("up", ("export",)),
        ("up", ("service",)),
    ]


def test_a_part_is_made_anew_once_a_run() -> None:
    def answer(step: Step) -> Answer:
        return Answer(renew=frozenset({"pool a"}.intersection(step.items)) if step.direction is Direction.UP else NONE)

    taken, ending = steps(master(SMALL), answer)
    assert taken.count(("down", ("pool a",))) == 1
    assert (ending.outcome, dict(ending.failures)) == (Outcome.FAILED, {"pool a": plans.NOT_WELL})


def test_what_cannot_be_cleared_away_ends_the_run_after_all_was_tried() -> None:
    def answer(step: Step) -> Answer:
        if step.direction is Direction.DOWN:
            return Answer({"service": "hangs"} if "service" in step.items else {})
        return Answer(renew=frozenset({"pool a"}.intersection(step.items)))

    taken, ending = steps(master(SMALL), answer)
    assert taken[-1] == ("down", ("pool a",))
    assert (ending.outcome, dict(ending.failures)) == (Outcome.FAILED, {"service": "hangs"})


def test_a_ghost_holds_nothing_up() -> None:
    def answer(step: Step) -> Answer:
        if "pool a" in step.items:
            return Answer({"pool a": "the kernel keeps it"}, loose=frozenset({"pool a"}))
        return Answer()

    taken, ending = steps(slave(SMALL), answer)
    assert taken[-1] == ("down", ("role",))
    assert (ending.outcome, dict(ending.failures)) == (Outcome.FAILED, {"pool a": "the kernel keeps it"})


HANGING = (
    (Item("role"),),
    (Item("pool a", frozenset({"role"}), can_hang=True), Item("pool b", frozenset({"role"}))),
    (Item("pool c", frozenset({"role"}), can_hang=True),),
    (Item("service"),),
)


def test_pools_on_which_services_would_hang_are_let_go_before_anything_is_taken_down() -> None:
    taken, ending = steps(slave(HANGING), lambda _step: Answer())
    assert ending.outcome is Outcome.DONE
    assert taken == [
        ("let go", ("pool a", "pool c")),
        ("down", ("service",)),
        ("down", ("pool c",)),
        ("down", ("pool a", "pool b")),
        ("down", ("role",)),
    ]


def test_a_pool_that_cannot_be_let_go_is_no_failure_before_the_way_down_comes_to_it() -> None:
    def answer(step: Step) -> Answer:
        return Answer({"pool a": "the kernel keeps it"} if step.direction is Direction.LET_GO else {})

    taken, ending = steps(slave(HANGING), answer)
    assert taken[-1] == ("down", ("role",))
    assert (ending.outcome, dict(ending.failures)) == (Outcome.DONE, {})


@pytest.mark.parametrize("sick", ["pool a", "pool b"])
def test_only_the_pool_that_is_made_anew_is_let_go_before_what_stands_on_it(sick: str) -> None:
    well = False

    def answer(step: Step) -> Answer:
        nonlocal well
        well = well or step.direction is Direction.DOWN
        found = {sick}.intersection(step.items) if step.direction is Direction.UP and not well else set()
        return Answer(renew=frozenset(found))

    taken, ending = steps(master(HANGING), answer)
    assert ending.outcome is Outcome.DONE
    assert taken[2] == (("let go", ("pool a",)) if sick == "pool a" else ("down", ("service",)))
    assert [step for step in taken if step[0] == "let go"] == taken[2:3] * (sick == "pool a")


@pytest.mark.parametrize("verb", list(Verb))
def test_a_newer_request_is_heard_while_a_pool_is_let_go(verb: Verb) -> None:
    def answer(step: Step) -> Answer:
        sick = {"pool a"} if step.direction is Direction.UP else set()
        return Answer(renew=frozenset(sick.intersection(step.items)), give_way=step.direction is Direction.LET_GO)

    taken, ending = steps(plan(verb, HANGING), answer)
    assert taken[-1][0] == "let go"
    assert ending.outcome is Outcome.GAVE_WAY


def test_a_newer_request_is_heard_while_a_part_is_made_anew() -> None:
    def answer(step: Step) -> Answer:
        if step.direction is Direction.DOWN:
            return Answer(give_way=True)
        return Answer(renew=frozenset({"pool a"}.intersection(step.items)))

    taken, ending = steps(master(SMALL), answer)
    assert taken[-1] == ("down", ("service",))
    assert ending.outcome is Outcome.GAVE_WAY


NONE: frozenset[str] = frozenset()
