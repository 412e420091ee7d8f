"""devd.conf → DevdConfiguration (docs/hast-devd.conf.5.md). Opens the file and those of its directories only."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from hast.config import syntax
from hast.config.devd_model import DEFAULT_DEVD_PIDFILE, DevdConfiguration, Match, Rule, RuleKind, expand
from hast.config.model import ConfigError
from hast.config.posix_regex import RegexError, to_python
from hast.config.syntax import Statement, Word

MAX_PRIORITY = 2**31 - 1
MAX_FILES = 1000

DIALECT = syntax.Dialect(
    grammar="devdconf.lark",
    tokens=re.compile(
        r"""(?P<blank>[ \t\r\n]+ | (?:\#|//)[^\n]* | /\*.*?\*/) | (?P<word>[A-Za-z0-9][A-Za-z0-9_-]*) | (?P<mark>[{};])
          | (?P<string>"(?:\\.|[^"\\])*")""",
        re.VERBOSE | re.DOTALL,
    ),
    characters="double quotes around text that holds it",
    value_names={
        "notify": "a priority number",
        "attach": "a priority number",
        "detach": "a priority number",
        "nomatch": "a priority number",
        "set": "the name of a variable",
    },
)

_LINE_JOINT = re.compile(r"\\\n\s*")
_CONDITIONS = {"device_name": "device-name", "media_type": "media-type", "class": "class", "subdevice": "subdevice"}
"""Statement → the variable that it is short for."""


def load(path: str) -> DevdConfiguration:
    """Read the file, then every *.conf of its directories by name. A directory that is absent is skipped, as by devd.

    Raises ConfigError (exit code 72 when a file cannot be opened, else 78).
    """
    contents = _Contents()
    _read_into(contents, syntax.read_text(path), path)
    waiting = deque(contents.directories)
    files = 0
    while waiting:
        directory = waiting.popleft()
        known = len(contents.directories)
        for file in _conf_files(directory):
            files += 1
            if files > MAX_FILES:
                raise ConfigError(f"{path}: the directories hold more than {MAX_FILES} files ending in .conf")
            _read_into(contents, syntax.read_text(str(file)), str(file))
        waiting.extend(contents.directories[known:])
    return contents.configuration(path)


def parse(text: str, path: str) -> DevdConfiguration:
    """Check `text` as the contents of the file `path`, without its directories. Raises ConfigError."""
    contents = _Contents()
    _read_into(contents, text, path)
    return contents.configuration(path)


def _conf_files(directory: str) -> Sequence[Path]:
    try:
        return sorted(file for file in Path(directory).iterdir() if file.suffix == ".conf" and file.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise ConfigError(f"Unable to open configuration directory {directory}: {error.strerror}.", 72) from None


@dataclass(slots=True)
class _Contents:
    """What the files read so far have said."""

    rules: list[Rule] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    pidfile: str = DEFAULT_DEVD_PIDFILE

    def configuration(self, path: str) -> DevdConfiguration:
        return DevdConfiguration(path, tuple(self.rules), dict(self.variables), self.pidfile, tuple(self.directories))


def _read_into(contents: _Contents, text: str, path: str) -> None:
    reader = _Reader(path, contents)
    for statement in syntax.statements(text, path, DIALECT):
        reader.statement(statement)


class _Reader:
    """Adds one file's statements, in order: a variable counts from where it is set."""

    def __init__(self, path: str, contents: _Contents) -> None:
        self._path = path
        self._contents = contents

    def statement(self, statement: Statement) -> None:
        if statement.kind == "options":
            for option in statement.body:
                self._option(option)
        else:
            self._contents.rules.append(self._rule(statement))

    def _option(self, option: Statement) -> None:
        if option.kind == "set":
            name, value = option.values
            self._contents.variables[name.text] = self._string(value)
        elif option.kind == "pidfile":
            self._contents.pidfile = self._full_path(option.value)
        else:
            directory = self._full_path(option.value)
            if directory not in self._contents.directories:
                self._contents.directories.append(directory)

    def _rule(self, statement: Statement) -> Rule:
        word = statement.value
        priority = int(word.text) if len(word.text) <= 10 else MAX_PRIORITY + 1
        if priority > MAX_PRIORITY:
            self._fail(word, f"the priority {word.text[:40]} is larger than {MAX_PRIORITY}")
        actions = tuple(self._string(inner.value) for inner in statement.body if inner.kind == "action")
        matches = tuple(self._match(inner) for inner in statement.body if inner.kind != "action")
        if not actions:
            self._fail(word, f'this {statement.kind} has no action; add for example: action "logger it happened";')
        return Rule(RuleKind(statement.kind), priority, matches, actions, f"{self._path}:{word.line}")

    def _match(self, statement: Statement) -> Match:
        if statement.kind == "match":
            variable, word = self._string(statement.value), statement.values[1]
        else:
            variable, word = _CONDITIONS[statement.kind], statement.value
        expression = self._string(word, may_be_empty=True)
        negated = expression.startswith("!")
        try:
            regex = to_python(expand(expression.removeprefix("!"), self._contents.variables))
        except RegexError as error:
            self._fail(word, f"{expression[:60]!a} is not a regular expression: {error}")
        return Match(variable, regex, negated)

    def _full_path(self, word: Word) -> str:
        path = self._string(word)
        if not path.startswith("/"):
            self._fail(word, f"{path[:60]!a} is not a full path beginning with '/'")
        return path

    def _string(self, word: Word, may_be_empty: bool = False) -> str:
        """The string with its continued lines joined and `\\"` as a quote."""
        text = _LINE_JOINT.sub("", word.text).replace('\\"', '"')
        if not text.strip() and not may_be_empty:
            self._fail(word, "this text is empty")
        if "\0" in text:
            self._fail(word, "this text holds a NUL character")
        return text

    def _fail(self, at: Word, message: str) -> NoReturn:
        syntax.fail(self._path, at, message)
