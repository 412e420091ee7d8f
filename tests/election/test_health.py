"""The rule for a node that is not well: repair, else hand over, else say so; and never in circles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hast.election.failover import Verb
from hast.election.health import HOLD_S, REMIND_S, REPAIRS, WINDOW_S, Action, Facts, Health, Kind, Repair, Tell

ILL = {"pool zhast": "suspended"}
MASTER_ILL = Facts(Verb.MASTER, ill=ILL)
WELL = Facts(Verb.MASTER)


class Node:
    """Looks every five seconds; a repair ends at once."""

    def __init__(self, repair_helps: bool = False) -> None:
        self.health = Health()
        self.now_s = 1000.0
        self.repair_helps = repair_helps

    def look(self, facts: Facts) -> list[Action]:
        actions = self.health.look(facts, self.now_s)
        for action in actions:
            if isinstance(action, Repair):
                self.health.repaired(self.repair_helps, self.now_s)
        self.now_s += self.health.look_again_s(5.0)
        return actions

    def looks(self, facts: Facts, seconds: float) -> list[Action]:
        until, actions = self.now_s + seconds, []
        while self.now_s < until:
            actions += self.look(facts)
        return actions


def kinds(actions: list[Action]) -> list[str]:
    return [str(action.kind) if isinstance(action, Tell) else f"repair {action.verb}" for action in actions]


def test_what_is_seen_once_is_looked_at_again_soon_and_then_repaired() -> None:
    node = Node(repair_helps=True)
    assert node.look(MASTER_ILL) == []
    assert node.now_s == 1001.0
    assert kinds(node.look(MASTER_ILL)) == ["ILL", "repair master"]
    assert kinds(node.look(WELL)) == ["WELL"]
    assert node.look(WELL) == []


def test_what_is_gone_at_the_second_look_was_nothing() -> None:
    node = Node()
    assert node.look(MASTER_ILL) + node.look(WELL) + node.look(MASTER_ILL) == []


def test_nothing_is_done_where_nobody_asked_or_while_a_run_is_in_progress() -> None:
    node = Node()
    assert node.looks(Facts(None, ill=ILL), 60) == []
    assert node.looks(Facts(Verb.MASTER, busy=True, ill=ILL), 60) == []


def test_a_repair_that_fails_is_followed_by_a_hand_over_where_the_other_node_can_serve() -> None:
    node = Node()
    facts = Facts(Verb.MASTER, ill=ILL, can_hand_over=True)
    assert kinds(node.looks(facts, 12)) == ["ILL", "repair master", "HANDED_OVER"]
    assert node.health.hold_until_s > node.now_s + HOLD_S - 15


def test_a_hand_over_is_not_repeated_while_it_is_held() -> None:
    node = Node()
    facts = Facts(Verb.MASTER, ill=ILL, can_hand_over=True)
    assert kinds(node.looks(facts, HOLD_S - 20)).count("HANDED_OVER") == 1


def test_without_another_node_repairs_are_spaced_and_then_a_person_is_told_once() -> None:
    node = Node()
    actions = kinds(node.looks(MASTER_ILL, WINDOW_S - 10))
    assert actions == ["ILL", *["repair master"] * REPAIRS, "HELPLESS"]


def test_a_person_is_told_again_when_something_else_is_wrong() -> None:
    node = Node()
    node.looks(MASTER_ILL, WINDOW_S - 200)
    other = Facts(Verb.MASTER, ill={"service smbd": "down"})
    assert kinds(node.look(other)) == ["HELPLESS"]


def test_the_text_says_what_to_do() -> None:
    node = Node()
    told = [each for each in node.looks(MASTER_ILL, 200) if isinstance(each, Tell) and each.kind is Kind.HELPLESS]
    assert "pool zhast: suspended" in told[0].text
    assert "failover status" in told[0].text
    assert "failover master" in told[0].text


def test_repairs_that_help_but_do_not_last_are_counted_too() -> None:
    node = Node(repair_helps=True)
    repairs = 0
    for _ in range(50):
        repairs += kinds(node.looks(MASTER_ILL, 4)).count("repair master")
        node.look(WELL)
    assert repairs == REPAIRS


def test_a_slave_that_is_not_down_is_repaired_and_never_handed_over() -> None:
    node = Node()
    actions = kinds(node.looks(Facts(Verb.SLAVE, ill=ILL, can_hand_over=True), 300))
    assert actions == ["ILL", *["repair slave"] * REPAIRS, "HELPLESS"]


def test_another_order_is_another_matter() -> None:
    node = Node()
    assert kinds(node.looks(Facts(Verb.SLAVE, ill=ILL), 8)) == ["ILL", "repair slave"]
    node.now_s += 60
    facts = Facts(Verb.MASTER, ill=ILL, can_hand_over=True)
    assert node.look(facts) == []
    assert kinds(node.look(facts)) == ["ILL", "repair master"]


def test_while_hastd_is_silent_it_is_only_told() -> None:
    node = Node()
    assert kinds(node.looks(Facts(Verb.MASTER, ill=ILL, hastd_answers=False), 300)) == ["ILL"]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=300), st.booleans())
def test_whatever_happens_there_are_few_repairs_and_few_words(looks: list[tuple[bool, ...]], helps: bool) -> None:
    node = Node(helps)
    repairs: list[float] = []
    helpless: list[float] = []
    moved: list[float] = []
    for ill, busy, hastd, other in looks:
        at_s = node.now_s
        facts = Facts(Verb.MASTER, busy, ILL if ill else {}, hastd, other)
        for action in node.look(facts):
            if isinstance(action, Repair):
                repairs.append(at_s)
            elif action.kind is Kind.HELPLESS:
                helpless.append(at_s)
            elif action.kind is Kind.HANDED_OVER:
                moved.append(at_s)
    for times, count, window_s in ((repairs, REPAIRS, WINDOW_S), (moved, 1, HOLD_S)):
        for at_s in times:
            assert sum(at_s <= other_s < at_s + window_s for other_s in times) <= count
    assert REMIND_S > WINDOW_S
