"""hast-notify.conf → NotifyConfiguration (docs/hast-notify.conf.5.md). Opens the file and nothing else."""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn
from urllib.parse import urlsplit

from hast.config import syntax
from hast.config.notify_model import Kind, NotifyConfiguration, Receiver, Topic
from hast.config.syntax import Statement, Word

MAX_TEXT_BYTES = 1023
MAX_S = 7 * 86400

TOKENS = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*) | (?P<word>[A-Za-z0-9.\-_/:\[\]%@+]+) | (?P<mark>[{}])
      | (?P<string>"[^"\n]*")""",
    re.VERBOSE,
)
"""Those of the family, and what an address for mail holds."""
DIALECT = syntax.Dialect(
    grammar="notifyconf.lark",
    tokens=TOKENS,
    characters="double quotes around text that holds it",
    value_names={
        "degraded": "a number of seconds",
        "host": "the name of this host",
        "hastd": "the path of hastd's socket",
        "mail": "an address for mail",
        "webhook": "a URL",
        "command": "a shell command",
        "only": "what is told, such as degraded",
        "gather": "a number of seconds",
        "limit": "a number of messages an hour",
        "timeout": "a number of seconds",
        "retry": "a number of seconds",
        "from": "an address for mail",
        "sendmail": "the path of a program",
        "header": 'a header such as "Authorization: Bearer x"',
        "ca": "the path of a file of certificates",
    },
)
_NUMBERS = {
    "gather": ("gather_s", 0, 3600),
    "limit": ("limit_per_hour", 1, 3600),
    "timeout": ("timeout_s", 1, 600),
    "retry": ("retry_s", 0, MAX_S),
}
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*:\s*(.*)")
_TOLD = tuple(topic for topic in Topic if topic is not Topic.TRY)


def load(path: str) -> NotifyConfiguration:
    """Read and check the file. Raises ConfigError (exit code 72 when it cannot be opened, else 78)."""
    return parse(syntax.read_text(path), path)


def parse(text: str, path: str) -> NotifyConfiguration:
    """Check `text` as the contents of the file `path`. Raises ConfigError."""
    return _Reader(path).read(syntax.statements(text, path, DIALECT))


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, statements: tuple[Statement, ...]) -> NotifyConfiguration:
        fields: dict[str, Any] = {}
        receivers: list[Receiver] = []
        for statement in statements:
            word = statement.value
            match statement.kind:
                case "degraded":
                    fields["degraded_s"] = self._number(word, 0, MAX_S, "degraded")
                case "host":
                    fields["host"] = self._text(word)
                case "hastd":
                    fields["hastd"] = self._text(word).removeprefix("uds://").removeprefix("unix://")
                case _:
                    receiver = self._receiver(statement)
                    if any(receiver.name == other.name for other in receivers):
                        self._fail(word, f"{receiver.name} is there twice")
                    receivers.append(receiver)
        return NotifyConfiguration(self._path, tuple(receivers), **fields)

    def _receiver(self, statement: Statement) -> Receiver:
        kind = Kind(statement.kind)
        fields: dict[str, Any] = {}
        for inner in statement.body:
            word = inner.value
            match inner.kind:
                case "only":
                    fields["only"] = fields.get("only", frozenset()) | {self._topic(each) for each in inner.values}
                case "from":
                    fields["sender"] = self._address(word)
                case "sendmail" | "ca":
                    fields[inner.kind] = self._file(word)
                case "header":
                    fields["headers"] = (*fields.get("headers", ()), self._header(word))
                case _:
                    name, low, high = _NUMBERS[inner.kind]
                    fields[name] = self._number(word, low, high, inner.kind)
        return Receiver(kind, self._target(kind, statement.value), **fields)

    def _target(self, kind: Kind, word: Word) -> str:
        if kind is Kind.MAIL:
            return self._address(word)
        return self._url(word) if kind is Kind.WEBHOOK else self._text(word)

    def _topic(self, word: Word) -> Topic:
        if word.text in _TOLD:
            return Topic(word.text)
        close = difflib.get_close_matches(word.text, _TOLD, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_TOLD)}"
        self._fail(word, f"nothing is told of {word.text[:60]!a}; {hint}")

    def _address(self, word: Word) -> str:
        """An address, or a local user. None that sendmail could take for an option."""
        text = self._text(word)
        if text.startswith("-") or any(letter in " ,;<>\"'" for letter in text):
            self._fail(word, f"{text[:60]!a} is not one address for mail")
        return text

    def _url(self, word: Word) -> str:
        text = self._text(word)
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good or " " in text:
            self._fail(word, "that is not a URL that begins with http:// or https://")
        return text

    def _header(self, word: Word) -> tuple[str, str]:
        """Errors never show it."""
        found = _HEADER.fullmatch(word.text)
        if found is None or not word.text.isprintable() or not word.text.isascii():
            self._fail(word, 'that is not a header such as "Authorization: Bearer x"')
        return found[1], found[2]

    def _file(self, word: Word) -> str:
        text = self._text(word)
        if not text.startswith("/"):
            self._fail(word, f"{text[:60]!a} does not begin with /")
        return text

    def _text(self, word: Word) -> str:
        if not word.text or not word.text.isprintable() or word.size_bytes > MAX_TEXT_BYTES:
            self._fail(word, f"that is empty, longer than {MAX_TEXT_BYTES} bytes, or cannot be printed")
        return word.text

    def _number(self, word: Word, low: int, high: int, keyword: str) -> int:
        number = int(word.text) if len(word.text) <= 9 else high + 1
        if not low <= number <= high:
            self._fail(word, f"{keyword} {word.text[:40]} is not from {low} to {high}")
        return number

    def _fail(self, at: Word, message: str) -> NoReturn:
        syntax.fail(self._path, at, message)
