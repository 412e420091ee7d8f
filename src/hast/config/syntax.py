"""The family of grammars that hast.conf began: words, braces, comments; and errors a person can act on.

Splits text into tokens, drives lark's LALR parser with them and turns its complaints into ConfigError. Knows nothing
about what statements mean. Lark is imported when a grammar is first used, so that workers, which get their resource
ready made, never pay for it.

Two kinds of keyword: reserved ones are keywords everywhere, as in the reference (a resource cannot be called
`local`); the others are keywords only where the grammar asks for them and plain words everywhere else.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, NoReturn

from hast.config.model import ConfigError

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.parsers.lalr_interactive_parser import InteractiveParser

MAX_FILE_BYTES = 1024 * 1024

EX_OSFILE = 72

_MARKS = frozenset("{}=;")

PLAIN_TOKENS = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*) | (?P<word>[A-Za-z0-9.\-_/:\[\]%]+) | (?P<mark>[{}])""",
    re.VERBOSE,
)
QUOTING_TOKENS = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*) | (?P<word>[A-Za-z0-9.\-_/:\[\]%]+) | (?P<mark>[{}=])
      | (?P<string>"[^"\n]*")""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What sets one file format of the family apart."""

    grammar: str
    """Name of the .lark file beside this module. Its terminals: literals, STR, NUM, STRING, VARIABLE."""
    tokens: re.Pattern[str] = PLAIN_TOKENS
    """Matches one token; its groups are `blank`, `word`, `mark` and `string` (between double quotes)."""
    characters: str = "letters, digits and . - _ / : [ ] %"
    """What may stand where a character without meaning was found, in errors."""
    reserved: frozenset[str] = frozenset()
    """Literals of the grammar that are keywords everywhere."""
    variable: re.Pattern[str] | None = None
    """Words that are the terminal VARIABLE where the grammar asks for one."""
    value_names: Mapping[str, str] = field(default_factory=dict)
    """What a value is called after a keyword, in errors: {"resource": "a resource name"}."""

    @property
    def quoting(self) -> bool:
        return "string" in self.tokens.groupindex


@dataclass(frozen=True, slots=True)
class Word:
    """A value as written. `kind` is its terminal: STR, NUM, STRING or a keyword's name in the grammar."""

    kind: str
    text: str
    """Without the quotes of a STRING."""
    line: int
    column: int

    @property
    def size_bytes(self) -> int:
        return len(self.text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule of the grammar: its own values and the statements inside its braces."""

    kind: str
    """The rule's name."""
    values: tuple[Word, ...]
    body: tuple[Statement, ...]

    @property
    def value(self) -> Word:
        """The first value; every rule but `start` has one."""
        return self.values[0]


def read_text(path: str) -> str:
    """The file's text; bytes that are not UTF-8 become lone surrogates. Raises ConfigError, as `read_bytes`."""
    return read_bytes(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def read_bytes(path: str) -> bytes:
    """What is in a configuration file. Raises ConfigError: exit code 72 when it cannot be opened, 78 when others may
    write it, since it names programs that run as root, or when it is too large."""
    try:
        with open(path, "rb") as file:
            writers = _writers(os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"Unable to open configuration file {path}: {reason}.", EX_OSFILE) from None
    if writers:
        raise ConfigError(f"{path} is not read: {writers} may write it; chown root {path}; chmod go-w {path}")
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: the configuration file is larger than {MAX_FILE_BYTES} bytes")
    return content


def _writers(status: os.stat_result) -> str:
    """Who may write this file, beside root and the user who reads it; empty for a pipe."""
    if not stat.S_ISREG(status.st_mode):
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return f"the user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"the group {status.st_gid}"
    return ""


def fail(path: str, at: Word, message: str) -> NoReturn:
    """Raise the ConfigError `path:line:column: message`, lines and columns from 1."""
    raise ConfigError(f"{path}:{at.line}:{at.column}: {message}")


def statements(text: str, path: str, dialect: Dialect) -> tuple[Statement, ...]:
    """The statements of the top level, in order. Raises ConfigError."""
    from lark import UnexpectedToken

    parser = _parser(dialect.grammar)
    driver = parser.parse_interactive()
    reader = _Reader(text, path, dialect, parser)
    previous: Token | None = None
    try:
        for token in reader.tokens(driver):
            driver.feed_token(token)
            previous = token
        tree: Tree[Token] = driver.feed_token(reader.end())
    except UnexpectedToken as error:
        reader.complain(error.token, previous, driver.accepts())  # type: ignore[no-untyped-call]
    return _statement(tree).body


def _statement(tree: Tree[Token]) -> Statement:
    from lark import Tree

    values = tuple(_word(child) for child in tree.children if not isinstance(child, Tree))
    return Statement(str(tree.data), values, tuple(_statement(c) for c in tree.children if isinstance(c, Tree)))


def _word(token: Token) -> Word:
    text = token[1:-1] if token.type == "STRING" else str(token)
    return Word(token.type, text, token.line or 0, token.column or 0)


def keywords(dialect: Dialect) -> frozenset[str]:
    """Every literal of the grammar: keywords, braces and marks."""
    return frozenset(_literals(_parser(dialect.grammar)))


def _literals(parser: Lark) -> dict[str, str]:
    """Literal → name of its terminal."""
    return {terminal.pattern.value: terminal.name for terminal in parser.terminals if terminal.pattern.type == "str"}


@functools.cache
def _parser(grammar: str) -> Lark:
    from lark import Lark

    text = resources.files("hast.config").joinpath(grammar).read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="basic", maybe_placeholders=False)


class _Reader:
    """Splits one text into tokens and words its syntax errors."""

    def __init__(self, text: str, path: str, dialect: Dialect, parser: Lark) -> None:
        self._text = text
        self._path = path
        self._dialect = dialect
        self._terminals = _literals(parser)
        self._line = 1
        self._line_start = 0
        self._position = 0
        self._value_end = -1

    def tokens(self, driver: InteractiveParser) -> Iterator[Token]:
        from lark import Token

        while self._position < len(self._text):
            found = self._dialect.tokens.match(self._text, self._position)
            if found is None:
                self._junk(self._text[self._position])
            start, kind, value = self._position, str(found.lastgroup), found.group()
            self._refuse_run_on(kind, value)
            if kind != "blank":
                self._value_end = found.end() if kind != "mark" else -1
                terminal = self._terminal(kind, value, driver)
                yield Token(terminal, value, start, self._line, start - self._line_start + 1)
            self._position = found.end()
            if "\n" in value:
                self._line += value.count("\n")
                self._line_start = start + value.rindex("\n") + 1

    def _refuse_run_on(self, kind: str, value: str) -> None:
        """With quoting, `my#secret` is no value and a comment, nor `"my"secret` two values: somebody forgot quotes."""
        if (
            self._dialect.quoting
            and self._position == self._value_end
            and (kind in ("word", "string") or value[0] == "#")
        ):
            self._junk(value[0])

    def end(self) -> Any:
        from lark import Token

        return Token("$END", "", self._position, self._line, self._position - self._line_start + 1)

    def _terminal(self, kind: str, value: str, driver: InteractiveParser) -> str:
        if kind == "string":
            return "STRING"
        terminal = self._terminals.get(value)
        if terminal is not None and (kind == "mark" or value in self._dialect.reserved or terminal in _choices(driver)):
            return terminal
        variable = self._dialect.variable
        if variable is not None and variable.fullmatch(value) and "VARIABLE" in _choices(driver):
            return "VARIABLE"
        return "NUM" if value.isdigit() else "STR"

    def _junk(self, character: str) -> NoReturn:
        at = Word("", character, self._line, self._position - self._line_start + 1)
        wanted = self._dialect.characters
        if self._dialect.quoting and self._position == self._value_end:
            wanted = "a space before it, or double quotes around the whole value"
        elif character == '"' and self._dialect.quoting:
            fail(self._path, at, "syntax error: found a quote that is never closed, expected a closing quote")
        elif self._text.startswith("/*", self._position):
            fail(self._path, at, "syntax error: found a comment that is never closed, expected '*/'")
        fail(self._path, at, f"syntax error: found the character {character!a}, expected {wanted}")

    def complain(self, token: Token, previous: Token | None, accepted: set[str]) -> NoReturn:
        words = {terminal: value for value, terminal in self._terminals.items()}
        keywords = sorted(
            words[terminal] for terminal in accepted if terminal in words and words[terminal] not in _MARKS
        )
        value_name = self._dialect.value_names.get(str(previous) if previous is not None else "", "a name or value")
        expected = [f"'{keyword}'" for keyword in keywords]
        if "STR" in accepted:
            expected.append(value_name)
        if "NUM" in accepted and ("STR" not in accepted or "number" not in value_name):
            expected.append(value_name if "number" in value_name else "a number")
        if "VARIABLE" in accepted:
            expected.append(self._dialect.value_names["VARIABLE"])
        if "STRING" in accepted:
            expected.append('a "quoted string"')
        expected += [f"'{words[t]}'" for t in sorted(accepted) if words.get(t, "x") in _MARKS]
        if "$END" in accepted:
            expected.append("the end of the file")
        found = f"near '{_shown(token)}': found {self._found(token, 'STR' in accepted, keywords)}"
        fail(self._path, _word(token), f"syntax error {found}, expected {_listed(expected)}")

    def _found(self, token: Token, word_expected: bool, keywords: list[str]) -> str:
        if token.type == "$END":
            return "the end of the file"
        if word_expected and str(token) in self._dialect.reserved:
            return f"the keyword '{token}', which cannot be used as a name or value"
        if word_expected and token.type == "NUM":
            return f"the number '{_shown(token)}', which cannot be used as a name or value"
        close = [] if str(token) in keywords else difflib.get_close_matches(str(token).lower(), keywords, 1, 0.75)
        return f"'{_shown(token)}'" + (f" (did you mean '{close[0]}'?)" if close else "")


def _shown(token: str) -> str:
    """A token, shortened and in plain ASCII."""
    text = token if len(token) <= 60 else token[:57] + "..."
    return ascii(str(text))[1:-1]


def _listed(items: list[str]) -> str:
    if len(items) < 2:
        return "".join(items) or "nothing"
    return f"{', '.join(items[:-1])} or {items[-1]}"


def _choices(driver: InteractiveParser) -> Container[str]:
    """Terminals that can follow in the parser's present state; cheap, unlike `accepts`."""
    choices: dict[str, Any] = driver.choices()  # type: ignore[no-untyped-call]
    return choices
