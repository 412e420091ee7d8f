"""The witness's file of nodes: which pairs it serves, and by which fingerprints their nodes are known.

Lines `PAIR NODE=FINGERPRINT NODE=FINGERPRINT ...`; `#` begins a comment. A node may be given twice, with two
fingerprints, while its key is changed. `no-force` at the end of a line: nobody of this pair takes over an outdated copy
by force. Opens the file and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from hast.config import syntax
from hast.config.model import ConfigError

DEFAULT_WITNESS_NODES = "/etc/hast-witness.nodes"
NO_FORCE = "no-force"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Nodes that share resources; mostly two."""

    name: str
    nodes: frozenset[str]
    may_force: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """Who asks: a node, as the file calls it, and its pair."""

    node: str
    pair: Pair


Nodes = Mapping[str, Member]
"""By fingerprint."""


def load(path: str) -> Nodes:
    """Raises ConfigError: exit code 72 when it cannot be opened, else 78."""
    try:
        text = syntax.read_bytes(path).decode()
    except UnicodeError:
        raise ConfigError(f"{path}: not text") from None
    return parse(text, path)


def parse(text: str, path: str) -> Nodes:
    """Check `text` as the contents of the file `path`. Raises ConfigError."""
    pairs: dict[str, int] = {}
    nodes: dict[str, Member] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            reader = _Line(f"{path}:{number}", words)
            reader.refuse_shared(pairs, nodes)
            pairs[reader.name] = number
            nodes.update(reader.members)
    return nodes


class _Line:
    """One pair. Raises ConfigError."""

    def __init__(self, place: str, words: list[str]) -> None:
        self._place = place
        self.name = words[0]
        if not _NAME.fullmatch(self.name):
            self._fail(f"{self.name[:80]} is no name for a pair: letters, digits and . _ -, 64 at most")
        may_force = words[-1] != NO_FORCE
        known = self._known(words[1:] if may_force else words[1:-1])
        if len(set(known.values())) < 2:
            self._fail(f"pair {self.name} has fewer than two nodes: PAIR NODE=FINGERPRINT NODE=FINGERPRINT is expected")
        pair = Pair(self.name, frozenset(known.values()), may_force)
        self.members = {fingerprint: Member(node, pair) for fingerprint, node in known.items()}

    def refuse_shared(self, pairs: Mapping[str, int], nodes: Nodes) -> None:
        """`pairs` and `nodes` are those of the lines before."""
        if self.name in pairs:
            self._fail(f"pair {self.name} is given in line {pairs[self.name]} already")
        for member in (nodes[fingerprint] for fingerprint in self.members if fingerprint in nodes):
            text = f"this fingerprint belongs to {member.node} of {member.pair.name} already"
            self._fail(f"{text}: write all hosts that share resources with it into one line, under one name")

    def _known(self, words: Iterable[str]) -> dict[str, str]:
        """Fingerprint → node."""
        known: dict[str, str] = {}
        for word in words:
            node, equals, found = word.partition("=")
            fingerprint = found.lower()
            if not equals or not _NAME.fullmatch(node):
                self._fail(f"NODE=FINGERPRINT is expected, not {word[:80]}")
            if not _FINGERPRINT.fullmatch(fingerprint):
                text = f"fingerprint {found[:80]} of {node} is not a number of 64 hexadecimal digits"
                self._fail(f"{text}: on {node}, hastctl keygen --show prints it")
            if fingerprint in known:
                self._fail(f"{known[fingerprint]} and {node} have one fingerprint: each node needs a key of its own")
            known[fingerprint] = node
        return known

    def _fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self._place}: {message}")
