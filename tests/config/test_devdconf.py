"""devd.conf: docs/hast-devd.conf.5.md, and the two blocks of the article."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.config import devdconf
from hast.config.devd_model import DevdConfiguration, Match, Rule, RuleKind, expand
from hast.config.devdconf import DIALECT, load, parse
from hast.config.model import ConfigError
from hast.config.posix_regex import RegexError, to_python
from hast.config.syntax import keywords

UP = {"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP"}
DOWN = {**UP, "type": "LINK_DOWN"}


def read(text: str) -> DevdConfiguration:
    return parse(text, "devd.conf")


def only(text: str) -> Rule:
    (rule,) = read(text).rules
    return rule


def error_of(text: str) -> str:
    """The error's text; empty when the text is accepted. Anything but a ConfigError fails the test."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return ""


def matching(regex: str) -> Match:
    return only(f'notify 1 {{ match "v" "{regex}"; action "x"; }};').matches[0]


def test_the_articles_blocks_are_read_as_written(shared: Path) -> None:
    line = next(line for line in (shared / "article.txt").read_text().splitlines() if line.startswith("notify 30"))
    master, slave = read(line).rules
    assert master == Rule(
        RuleKind.NOTIFY,
        30,
        (Match("system", "IFNET"), Match("subsystem", "carp0"), Match("type", "LINK_UP")),
        ("/usr/local/bin/failover master",),
        "devd.conf:1",
    )
    assert slave.actions == ("/usr/local/bin/failover slave",)
    assert [master.accepts(UP), master.accepts(DOWN)] == [True, False]
    assert [slave.accepts(UP), slave.accepts(DOWN)] == [False, True]


def test_a_rule_is_kept_with_kind_priority_conditions_and_actions_in_order() -> None:
    text = """
    attach 7 {
        device-name "em0";   media-type "ethernet";
        class "0x02"; subdevice "1"; match "x" "y";
        action "first";
        action "second";
    };"""
    rule = only(text)
    assert (rule.kind, rule.priority, rule.location) == (RuleKind.ATTACH, 7, "devd.conf:2")
    assert [match.variable for match in rule.matches] == ["device-name", "media-type", "class", "subdevice", "x"]
    assert rule.actions == ("first", "second")


def test_every_kind_of_block_is_known() -> None:
    text = "".join(f'{kind} 0 {{ action "x"; }};' for kind in RuleKind)
    assert [rule.kind for rule in read(text).rules] == list(RuleKind)


def test_the_three_kinds_of_comment_are_skipped_and_lines_counted() -> None:
    text = '# a "\n// b {\n/* c\n; */ notify 1 /* d */ { action "x"; }; # end'
    assert only(text).location == "devd.conf:4"


def test_a_string_may_go_on_after_a_backslash_and_hold_quotes_comments_and_line_ends() -> None:
    assert only('notify 1 { action "logger \\\n\t  \\"a # b\\" // c\nd"; };').actions == ('logger "a # b" // c\nd',)


def test_options_are_kept() -> None:
    text = 'options { directory "/etc/devd"; directory "/x"; directory "/x"; pid-file "/run/d.pid"; set a-b "(c|d)"; };'
    configuration = read(text)
    assert configuration.directories == ("/etc/devd", "/x")
    assert configuration.pidfile == "/run/d.pid"
    assert configuration.variables == {"a-b": "(c|d)"}


def test_an_empty_file_gives_the_defaults() -> None:
    assert read("") == DevdConfiguration("devd.conf")


def test_a_regular_expression_must_match_the_whole_value() -> None:
    match = matching("carp[0-9]+|eth0")
    assert match.accepts({"v": "carp12"})
    assert match.accepts({"v": "eth0"})
    assert not match.accepts({"v": "xcarp1"})
    assert not match.accepts({"v": "eth01"})
    assert not match.accepts({})


def test_an_exclamation_mark_turns_a_condition_round() -> None:
    match = matching("!carp.*")
    assert not match.accepts({"v": "carp0"})
    assert match.accepts({"v": "eth0"})
    assert match.accepts({})


def test_a_set_variable_stands_in_later_expressions() -> None:
    text = 'options { set nic "(em|eth)"; }; notify 1 { match "v" "${nic}0|$nic[1-9]$$"; action "$v"; };'
    rule = only(text)
    assert rule.matches[0].regex == "(em|eth)0|(em|eth)[1-9]$"
    assert rule.matches[0].accepts({"v": "eth7"})
    assert rule.actions == ("$v",)


@pytest.mark.parametrize(
    ("regex", "accepted", "refused"),
    [
        ("[[:digit:]]+", "12", "1a"),
        ("[^[:space:]x]", "y", "x"),
        ("[[:alpha:]_][[:alnum:]_]*", "_a1", "1a"),
        ("[]a]+", "]a", "b"),
        ("[^]]", "a", "]"),
        ("[[]", "[", "]"),
        ("[a&&b]", "&", "c"),
        ("[+~|-]+", "+-~|", "a"),
        (r"a\.b", "a.b", "axb"),
        (r"[\].]", "]", "x"),
        ("0x(2|7)[0-9a-f]{2}", "0x7ff", "0x3ff"),
        ("", "", "x"),
    ],
)
def test_posix_expressions_mean_what_they_mean_in_devd(regex: str, accepted: str, refused: str) -> None:
    expression = to_python(regex)
    assert re.fullmatch(expression, accepted)
    assert not re.fullmatch(expression, refused)


@given(st.text("[]^:alphx-\\()*+?{}|.&~0", max_size=15))
def test_any_expression_compiles_or_is_refused(expression: str) -> None:
    try:
        translated = to_python(expression)
    except RegexError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        re.compile(translated)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logger $subsystem is ${type}", "logger carp0 is LINK_UP"),
        ("a $$x $unknown b", "a $x  b"),
        ("${HOME} ${x:-y} $(date +$type) $1 $", "${HOME} ${x:-y} $(date +$type) $1 $"),
        ("$type-x $type.x", " LINK_UP.x"),
    ],
)
def test_variables_in_text_are_expanded_as_by_devd(text: str, expected: str) -> None:
    assert expand(text, UP) == expected


def test_expanded_values_can_be_made_safe_for_a_shell() -> None:
    hostile = "x'; echo pwned; $(id) `id`"
    command = expand("printf %s $notify", {"notify": hostile}, shlex.quote)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == hostile


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("notify 3 { };", "1:8: this notify has no action"),
        ("notify { };", "1:8: syntax error near '{': found '{', expected a priority number"),
        ('notify 3 { action "x" };', "1:23: syntax error near '}': found '}', expected ';'"),
        ('notify 3 { action "x"; }', "found the end of the file, expected ';'"),
        ('notify 3 { action "x', "1:19: syntax error: found a quote that is never closed"),
        ("\n /* x", "2:2: syntax error: found a comment that is never closed, expected '*/'"),
        ("notify 3 { action x; };", "found 'x', expected a \"quoted string\""),
        ('notify 3 { match "a"; };', "1:21: syntax error near ';'"),
        ('notify 3 { match "a" "("; action "x"; };', "1:22: '(' is not a regular expression: missing )"),
        ('notify 3 { match "a" "[[:foo:]]"; action "x"; };', "no character class [:foo:]"),
        ('notify 3 { match "a" "[a"; action "x"; };', "a '[' is never closed"),
        ('notify 3 { match "" "a"; action "x"; };', "this text is empty"),
        ('notify 3 { action " "; };', "this text is empty"),
        ('notify 3 { action "\0"; };', "holds a NUL character"),
        ('notify 99999999999 { action "x"; };', "the priority 99999999999 is larger than"),
        ('options { directory "x"; };', "'x' is not a full path"),
        ('options { set 1 "x"; };', "expected the name of a variable"),
        ("notfy 3 { };", "(did you mean 'notify'?)"),
        ("match", "expected 'attach', 'detach', 'nomatch', 'notify', 'options' or the end of the file"),
        ("@", "found the character '@', expected double quotes around text that holds it"),
    ],
)
def test_a_malformed_file_is_refused_with_place_and_reason(text: str, expected: str) -> None:
    message = error_of(text)
    assert expected in message
    assert re.match(r"devd\.conf:\d+:\d+: ", message)


def rule(action: str) -> str:
    return f'notify 1 {{ action "{action}"; }};\n'


def test_the_conf_files_of_directories_are_read_by_name_after_the_file(tmp_path: Path) -> None:
    main, first, second = tmp_path / "devd.conf", tmp_path / "one", tmp_path / "two"
    for directory in (first, second):
        directory.mkdir()
    main.write_text(f'options {{ directory "{first}"; directory "{tmp_path}/absent"; set v "w"; }};' + rule("main"))
    (first / "b.conf").write_text(rule("b") + 'notify 1 { match "x" "$v"; action "c"; };')
    (first / "a.conf").write_text(rule("a") + f'options {{ directory "{second}"; }};')
    (first / "ignored.txt").write_text("not read")
    (second / "d.conf").write_text(rule("d"))
    configuration = load(str(main))
    assert [rule.actions[0] for rule in configuration.rules] == ["main", "a", "b", "c", "d"]
    assert configuration.rules[3].matches == (Match("x", "w"),)
    assert configuration.rules[4].location == f"{second}/d.conf:1"


def test_an_error_in_a_directorys_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "devd.conf").write_text(f'options {{ directory "{tmp_path}/d"; }};')
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x.conf").write_text("\nnotify")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/d/x\.conf:2:7: syntax error"):
        load(str(tmp_path / "devd.conf"))


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "devd.conf").write_text(f'options {{ directory "/{"x" * 300}"; }};')
    with pytest.raises(ConfigError, match="Unable to open configuration directory /xxx") as caught:
        load(str(tmp_path / "devd.conf"))
    assert caught.value.exit_code == 72


def test_directories_with_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devdconf, "MAX_FILES", 2)
    (tmp_path / "main").write_text(f'options {{ directory "{tmp_path}"; }};')
    for name in "abc":
        (tmp_path / f"{name}.conf").write_text("")
    with pytest.raises(ConfigError, match="more than 2 files"):
        load(str(tmp_path / "main"))


def test_a_file_that_is_absent_has_its_own_exit_code(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "absent"))
    assert caught.value.exit_code == 72


strings = st.text(
    st.characters(exclude_characters='\\"\0$', exclude_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda text: text.strip() != "")
expressions = strings.map(re.escape).filter(lambda text: not text.startswith("!"))
"""One that begins with `!` is a negated one in the file."""
rules = st.builds(
    Rule,
    st.sampled_from(RuleKind),
    st.integers(0, 2**31 - 1),
    st.lists(st.builds(Match, strings, expressions, st.booleans()), max_size=3).map(tuple),
    st.lists(strings, min_size=1, max_size=2).map(tuple),
    st.just("devd.conf:1"),
)


def printed(rule: Rule) -> str:
    conditions = (f'match "{m.variable}" "{"!" if m.negated else ""}{m.regex}";' for m in rule.matches)
    actions = (f'action "{action}";' for action in rule.actions)
    return f"{rule.kind} {rule.priority} {{ {' '.join([*conditions, *actions])} }};"


@settings(max_examples=100, deadline=None)
@given(rules)
def test_a_rule_that_is_printed_reads_back_the_same(rule: Rule) -> None:
    found = only(printed(rule))
    assert (found.kind, found.priority, found.actions) == (rule.kind, rule.priority, rule.actions)
    assert [(m.variable, m.negated) for m in found.matches] == [(m.variable, m.negated) for m in rule.matches]
    event: dict[str, Any] = {"x": ""}
    assert found.accepts(event) == rule.accepts(event)


WORDS = [*sorted(keywords(DIALECT)), "1", "x", '"x"', '"("', '"', "#", "//", "/*", "*/", "\n"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    assert "\n" not in error_of(text)
