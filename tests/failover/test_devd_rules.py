"""Events, the choice of a rule, and actions that no event can turn into another command."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.config.devd_model import RuleKind
from hast.config.devdconf import parse
from hast.failover.devd.events import Event, EventError, from_hastd, from_object, link, parse_line
from hast.failover.devd.replay import replay
from hast.failover.devd.rules import choose, command, environment, readable, variables

ARTICLE = """
notify 30 { match "system" "IFNET"; match "subsystem" "carp0"; match "type" "LINK_UP";
  action "/usr/local/bin/failover master"; };
notify 30 { match "system" "IFNET"; match "subsystem" "carp0"; match "type" "LINK_DOWN";
  action "/usr/local/bin/failover slave"; };
"""
UP = link("carp0", "LINK_UP")


def test_the_articles_rules_act_on_carp0_and_nothing_else() -> None:
    rules = parse(ARTICLE, "devd.conf").rules
    chosen = choose(rules, UP).rule
    assert chosen is not None
    assert chosen.actions == ("/usr/local/bin/failover master",)
    chosen = choose(rules, link("carp0", "LINK_DOWN")).rule
    assert chosen is not None
    assert chosen.actions == ("/usr/local/bin/failover slave",)
    for other in (link("carp01", "LINK_UP"), link("xcarp0", "LINK_UP"), link("carp0", "ATTACH")):
        assert choose(rules, other).rule is None


def test_the_highest_priority_runs_and_the_first_in_the_file_among_equals() -> None:
    text = "".join(f'notify {n} {{ match "system" "IFNET"; action "a{i}"; }};' for i, n in enumerate((5, 30, 30, 10)))
    choice = choose(parse(text, "f").rules, UP)
    assert [rule.actions[0] for rule in choice.matching] == ["a1", "a2", "a3", "a0"]


def test_rules_of_another_kind_are_not_asked() -> None:
    rules = parse('attach 10 { match "system" "IFNET"; action "x"; };', "f").rules
    assert choose(rules, UP).rule is None
    assert choose(rules, Event(UP.variables, RuleKind.ATTACH)).rule is not None


def test_events_of_carpd_and_hastd_are_read() -> None:
    carp = {"time": 1.5, "system": "IFNET", "subsystem": "carp0", "type": "LINK_UP", "vhid": 1, "current": True}
    event = from_object(carp)
    assert event.current
    assert event.variables["vhid"] == "1"
    assert event.queue == ("IFNET", "carp0")
    event = from_hastd({"seq": 7, "event": "split-brain", "resource": "disk1", "text": "a b", "level": "error"})
    assert event.queue == ("HAST", "disk1")
    assert (event.variables["type"], event.variables["text"]) == ("SPLIT_BRAIN", "a b")


@pytest.mark.parametrize("value", [None, [], {}, {"system": "X"}, {"system": "X", "type": "Y", "kind": "Z"}])
def test_what_is_no_event_is_refused(value: object) -> None:
    with pytest.raises(EventError):
        from_object(value)


@pytest.mark.parametrize(
    "line",
    ["!system=IFNET subsystem=carp0 type=LINK_UP", '{"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP"}'],
)
def test_recorded_lines_of_both_forms_are_read(line: str) -> None:
    assert parse_line(line) == UP
    assert parse_line(UP.record()) == UP
    assert parse_line(f"!{UP}") == UP


def test_a_quoted_value_of_a_recorded_line_is_read() -> None:
    event = parse_line(r'!system=HAST subsystem=disk1 type=ROLE text="a \"b\" c"')
    assert event.variables["text"] == 'a "b" c'
    assert parse_line(f"!{event}") == event


@pytest.mark.parametrize("line", ["", "nonsense", "{", "[1]", "!"])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(EventError):
        parse_line(line)


def shell(action: str, event: Event) -> str:
    text = command(action, variables(event))
    done = subprocess.run(["sh", "-c", text], env={**os.environ, **environment(event)}, capture_output=True, check=True)
    return done.stdout.decode()


NASTY = "a  b'; echo BAD #\"$(echo BAD)`echo BAD`*\\"


@pytest.mark.parametrize(
    "action", ["printf %s $text", 'printf %s "$text"', "printf %s '$text'", 'printf %s ""${text}""']
)
def test_a_value_reaches_the_command_as_it_is_in_any_quotes(action: str) -> None:
    assert shell(action, Event({"text": NASTY})) == NASTY


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r")), st.sampled_from(["", "'", '"'])
)
def test_any_value_stays_one_word(value: str, quote: str) -> None:
    assert shell(f"printf %s {quote}$v{quote}", Event({"v": value})) == value


def test_other_dollars_are_as_in_devd() -> None:
    event = Event({"a": "x", "b-c": "y"})
    assert shell("echo $a$b-c $unknown.$$((1+1)) $(echo sub)", event) == "xy .2 sub\n"
    assert shell("echo ${HOME:+home} ${a}s", event) == "home xs\n"
    assert shell("echo $*", UP) == "system=IFNET subsystem=carp0 type=LINK_UP\n"
    assert shell(r"echo \$a '\$a'", event) == "$a \\x\n"


def test_replay_prints_what_would_run_and_runs_nothing() -> None:
    rules = parse(ARTICLE + 'notify 1 { action "touch /nonexistent/$type"; };', "devd.conf").rules
    lines = ["# recorded", "", f"!{UP}", "!system=HAST subsystem=d type=ROLE", "what"]
    out = list(replay(rules, lines))
    text = [line for fine, line in out if fine]
    assert text[:3] == [str(UP), "    devd.conf:2: priority 30", "    would run: /usr/local/bin/failover master"]
    assert text[3] == "    also matches, but does not run: devd.conf:6 (priority 1)"
    assert text[-1] == "    would run: touch /nonexistent/ROLE"
    assert [line for fine, line in out if not fine] == [
        "line 5: found 'what'; expected a JSON object or !system=… subsystem=… type=…"
    ]


def test_readable_actions_are_quoted() -> None:
    assert readable("logger $text", Event({"text": "a b"})) == "logger 'a b'"
