"""hast.conf → Configuration, as one host sees it (specification section 1). Opens the file and nothing else.

Where this differs from the reference: docs/hast.conf.5.md, "Differences from FreeBSD".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

from hast.config import syntax
from hast.config.address import Address, AddressError, AddressKind, parse_address
from hast.config.host import Host
from hast.config.model import (
    SYNC_AUTO,
    Arbiter,
    ArbiterKind,
    Configuration,
    CrashLoop,
    Device,
    DiskCache,
    NodeNames,
    Resource,
    SplitBrainPolicy,
    Tls,
)
from hast.config.syntax import Statement, Word
from hast.format.constants import DEFAULT_PORT, MAX_NAME_BYTES, Checksum, Compression, Replication

DEFAULT_HAST_CONF = "/etc/hast.conf"
MAX_PATH_BYTES = 1023
MAX_SECONDS = 2**31 - 1
MAX_RATE_BYTES_S = 2**63 - 1

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_RATE = re.compile(r"([0-9]{1,19})([kKmMgGtT]?)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

DIALECT = syntax.Dialect(
    grammar="hastconf.lark",
    characters="values without quotes, of letters, digits and . - _ / : [ ] %",
    reserved=frozenset(
        {
            "control",
            "pidfile",
            "listen",
            "replication",
            "checksum",
            "compression",
            "timeout",
            "exec",
            "metaflush",
            "resource",
            "name",
            "local",
            "remote",
            "source",
            "on",
            "off",
            "fullsync",
            "memsync",
            "async",
            "none",
            "crc32",
            "sha256",
            "hole",
            "lzf",
        }
    ),
    value_names={
        "control": "the address of the control socket",
        "pidfile": "a path",
        "listen": "an address",
        "timeout": "a number of seconds",
        "exec": "the path of a program",
        "resource": "a resource name",
        "name": "a device name",
        "local": "the path of a disk, partition or file",
        "remote": "an address",
        "source": "an address",
        "on": "a node name",
        "sync-rate": "a number of bytes per second such as 50M",
        "wait-for-peer": "a number of seconds",
        "disk-timeout": "a number of seconds",
        "ping": "an address",
        "witness": "an address",
        "etcd": "a URL",
        "credentials": "the path of a file",
        "fence": "the path of a program",
        "fingerprint": "a number of 64 hexadecimal digits, as hastctl keygen prints it",
    },
)


def load(path: str, host: Host) -> Configuration:
    """Read and check the file. Raises ConfigError (exit code 72 when it cannot be opened, else 78)."""
    return parse(syntax.read_text(path), path, host)


def parse(text: str, path: str, host: Host) -> Configuration:
    """Check `text` as the contents of the file `path`. Raises ConfigError."""
    return _Reader(path, host).read(syntax.statements(text, path, DIALECT))


@dataclass(slots=True)
class _Draft:
    """A resource between its braces. `own` holds the resource's settings, `section` those of matching `on` parts."""

    word: Word
    own: dict[str, Any] = field(default_factory=dict)
    section: dict[str, Any] = field(default_factory=dict)
    own_nodes: list[str] = field(default_factory=list)
    peer_nodes: list[str] = field(default_factory=list)

    @property
    def names(self) -> NodeNames:
        return NodeNames(tuple(dict.fromkeys(self.own_nodes)), tuple(dict.fromkeys(self.peer_nodes)))


class _Reader:
    """Walks the statements in file order; what is wrong first is reported first."""

    def __init__(self, path: str, host: Host) -> None:
        self._path = path
        self._host = host
        self._values = _Values(path)
        self._defaults: dict[str, Any] = {}
        self._global: dict[str, str] = {}
        self._node: dict[str, str] = {}
        self._listen: list[str] = []
        self._drafts: dict[str, _Draft] = {}
        self._fingerprints: dict[str, list[str]] = {}
        self._known_nodes: list[Word] = []

    def read(self, statements: tuple[Statement, ...]) -> Configuration:
        for statement in statements:
            self._statement(statement)
        resources = {name: self._resource(draft) for name, draft in self._drafts.items()}
        self._refuse_shared(resources)
        self._refuse_unnamed()
        settings: dict[str, Any] = {**self._global, **self._node}
        if self._listen:
            settings["listen"] = tuple(dict.fromkeys(self._listen))
        return Configuration(
            self._path,
            **settings,
            resources=resources,
            fingerprints=self._fingerprints_of([node for node in self._fingerprints if self._host.matches(node)]),
            node_names={name: draft.names for name, draft in self._drafts.items()},
            node_fingerprints={node: self._fingerprints_of([node]) for node in self._fingerprints},
        )

    def _statement(self, statement: Statement) -> None:
        if statement.kind == "resource":
            self._resource_section(statement)
        elif statement.kind == "node":
            self._node_places(statement)
        elif statement.kind in _SETTINGS:
            self._set(statement, self._defaults)
        else:
            self._place(statement, self._global, True)

    def _node_places(self, section: Statement) -> None:
        matches = self._host.matches(section.value.text)
        for statement in section.body:
            if statement.kind == "fingerprint":
                self._known_nodes.append(section.value)
                found = self._fingerprints.setdefault(section.value.text, [])
                found.append(self._values.fingerprint(statement.value))
            else:
                self._place(statement, self._node, matches)

    def _fingerprints_of(self, nodes: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each for node in nodes for each in self._fingerprints.get(node, ())))

    def _place(self, statement: Statement, into: dict[str, str], matches: bool) -> None:
        """`control`, `pidfile` or `listen`; checked even where it is not for this host."""
        value = _PLACES[statement.kind](self._values, statement.value)
        if not matches:
            return
        if statement.kind == "listen":
            self._listen.append(value)
        else:
            into[statement.kind] = value

    def _resource_section(self, section: Statement) -> None:
        name = self._values.name(section.value, "Resource name is too long.")
        if name in self._drafts:
            self._fail(section.value, f"Resource {name} configured more than once.")
        if name == "all":
            self._fail(section.value, "a resource cannot be called 'all': hastctl takes that for every resource")
        draft = self._drafts[name] = _Draft(section.value)
        for statement in section.body:
            if statement.kind == "resource_node":
                self._node_section(statement, draft)
            else:
                self._set(statement, draft.own)
        self._require(draft)

    def _node_section(self, section: Statement, draft: _Draft) -> None:
        values: dict[str, Any] = {}
        for statement in section.body:
            self._set(statement, values)
        if self._host.matches(section.value.text):
            draft.own_nodes.append(section.value.text)
            draft.section.update(values)
        else:
            draft.peer_nodes.append(section.value.text)

    def _set(self, statement: Statement, into: dict[str, Any]) -> None:
        if statement.kind != "remote":
            setting, read = _SETTINGS[statement.kind]
            into[setting] = read(self._values, statement.values)
        elif statement.value.kind == "NONE":
            into["remotes"] = ()
        else:
            remote = self._values.tcp_address(statement.value, "remote")
            into["remotes"] = tuple(dict.fromkeys((*into.get("remotes", ()), remote)))

    def _require(self, draft: _Draft) -> None:
        name = draft.word.text
        if not draft.own_nodes:
            names = ", ".join(self._host.node_names)
            text = f"No resource {name} configuration for this node (acceptable node names: {names})."
            self._fail(draft.word, text)
        if "remotes" not in draft.section:
            self._fail(draft.word, f"Remote address not configured for resource {name}.")
        if "local" not in draft.section and "local" not in draft.own:
            self._fail(draft.word, f"Path to local component not configured for resource {name}.")

    def _resource(self, draft: _Draft) -> Resource:
        name = draft.word.text
        settings = {"provider_name": name, **self._defaults, **draft.own, **draft.section}
        resource = Resource(name=name, **settings, peer_fingerprints=self._fingerprints_of(draft.names.peer))
        self._refuse_unknown_peer(resource, draft)
        return resource

    def _refuse_unknown_peer(self, resource: Resource, draft: _Draft) -> None:
        """One that has to prove who it is, and cannot: no fingerprint is given for it, or that of this node."""
        own = self._fingerprints_of(draft.names.own)
        for shared in (each for each in resource.peer_fingerprints if each in own):
            text = f"resource {resource.name}: both nodes have the fingerprint {shared}; each needs a key of its own"
            self._fail(draft.word, f"{text}: on a copied machine remove the one it brought, then hastctl keygen")
        if resource.tls is Tls.REQUIRED and resource.remotes and not resource.peer_fingerprints:
            node = draft.names.peer[0] if draft.names.peer else "NODE"
            text = f"resource {resource.name} has tls required, and the other node no fingerprint"
            shown = f"hastctl trust {resource.remotes[0]} shows it"
            self._fail(draft.word, f"{text}: add 'on {node} {{ fingerprint ... }}' outside of resources; {shown}")

    def _refuse_unnamed(self) -> None:
        """Fingerprints that would count for nothing, because resources call the node something else."""
        named = {name for draft in self._drafts.values() for name in (*draft.own_nodes, *draft.peer_nodes)}
        for node in (node for node in self._known_nodes if named and node.text not in named):
            text = f"fingerprints are given for {node.text}, and no resource has a section 'on {node.text}'"
            self._fail(node, f"{text}: use the same name in both")

    def _refuse_shared(self, resources: dict[str, Resource]) -> None:
        """No two resources may share a disk or a device name, nor may a device name be a directory of another."""
        names: dict[str, str] = {}
        disks: dict[str, str] = {}
        for name, resource in resources.items():
            word, provider = self._drafts[name].word, resource.provider_name
            disk = posixpath.normpath(resource.local)
            if provider in names:
                self._fail(word, f"resources {names[provider]} and {name} both have the device name {provider}")
            if disk in disks:
                self._fail(word, f"resources {disks[disk]} and {name} both have the local disk {resource.local}")
            names[provider] = disks[disk] = name
        for provider, name in names.items():
            parent = posixpath.dirname(provider)
            while parent:
                if parent in names:
                    text = f"the device name {provider} of resource {name} lies below {parent} of {names[parent]}"
                    self._fail(self._drafts[name].word, text)
                parent = posixpath.dirname(parent)

    def _fail(self, at: Word, message: str) -> NoReturn:
        syntax.fail(self._path, at, message)


class _Values:
    """Reads and checks single values."""

    def __init__(self, path: str) -> None:
        self._path = path

    def text(self, word: Word, too_long: str, limit_bytes: int = MAX_PATH_BYTES) -> str:
        if word.size_bytes > limit_bytes:
            self._fail(word, too_long)
        return word.text

    def name(self, word: Word, too_long: str) -> str:
        """A resource or device name: what can stand as a relative path below /dev/hast."""
        name = self.text(word, too_long, MAX_NAME_BYTES)
        if "%" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            self._fail(word, f"{name} cannot be a name below /dev/hast")
        return name

    def program(self, word: Word, too_long: str) -> str:
        path = self.text(word, too_long)
        if not path.startswith("/"):
            self._fail(word, f"{path} is not a full path beginning with '/'")
        return path

    def tcp_address(self, word: Word, keyword: str, default_port: int = DEFAULT_PORT) -> str:
        if self._address(word, keyword, default_port).kind is not AddressKind.TCP:
            self._fail(word, f"{word.text} is not a TCP address")
        return word.text

    def control_address(self, word: Word) -> str:
        """The path of a UNIX socket: over TCP anybody could give commands."""
        address = self._address(word, "control", DEFAULT_PORT)
        if address.kind is not AddressKind.UNIX:
            self._fail(word, f"{word.text} is not the path of a UNIX socket")
        return word.text

    def _address(self, word: Word, keyword: str, default_port: int) -> Address:
        text = self.text(word, f"{keyword} argument is too long.")
        try:
            return parse_address(text, default_port)
        except AddressError as error:
            self._fail(word, str(error))

    def seconds(self, word: Word) -> int:
        """A number of seconds; 0 for `off`."""
        if word.kind == "OFF":
            return 0
        seconds = int(word.text) if len(word.text) <= 10 else MAX_SECONDS + 1
        if seconds > MAX_SECONDS:
            self._fail(word, f"{word.text[:40]} seconds are too many, at most {MAX_SECONDS}")
        return seconds

    def timeout(self, word: Word) -> int:
        seconds = self.seconds(word)
        if seconds == 0:
            self._fail(word, "Negative or zero timeout.")
        return seconds

    def rate(self, word: Word) -> int:
        """Bytes per second; 0 for `unlimited`, SYNC_AUTO for `auto`."""
        if word.kind == "AUTO":
            return SYNC_AUTO
        if word.kind == "UNLIMITED":
            return 0
        found = _RATE.fullmatch(word.text)
        rate = int(found[1]) * _UNITS[found[2].lower()] if found else 0
        if not 0 < rate <= MAX_RATE_BYTES_S:
            text = f"sync-rate {word.text[:40]} is not 'auto', 'unlimited' or bytes per second such as 50M or 1G"
            self._fail(word, text)
        return rate

    def fingerprint(self, word: Word) -> str:
        found = word.text.lower()
        if not _FINGERPRINT.fullmatch(found):
            text = f"fingerprint {word.text[:80]} is not a number of 64 hexadecimal digits"
            shown = "on the node itself, hastctl keygen --show prints it; on a witness, hast-witness --show-key"
            self._fail(word, f"{text}: {shown}")
        return found

    def arbiter(self, words: tuple[Word, ...]) -> Arbiter:
        kind = ArbiterKind(words[0].text)
        read = self.url if kind is ArbiterKind.ETCD else self._arbiter_address
        options = [index for index, word in enumerate(words) if word.kind in ("CREDENTIALS", "FINGERPRINT")]
        end = options[0] if options else len(words)
        targets, given = tuple(read(word) for word in words[1:end]), words[end + 1 :]
        if kind is ArbiterKind.WITNESS:
            return Arbiter(kind, targets, fingerprints=tuple(dict.fromkeys(self.fingerprint(word) for word in given)))
        credentials = self.program(given[0], "credentials argument is too long.") if given else ""
        return Arbiter(kind, targets, credentials)

    def _arbiter_address(self, word: Word) -> str:
        """A misspelt `fingerprint` must not leave a witness that is believed unseen, with a strange address more."""
        if word.text == "fingerprint" or _FINGERPRINT.fullmatch(word.text.lower()):
            self._fail(word, "arbiter witness ADDRESS... fingerprint HEX... is expected, where the witness has a key")
        return self.tcp_address(word, "arbiter")

    def url(self, word: Word) -> str:
        text = self.text(word, "arbiter argument is too long.")
        try:
            url = urlsplit(text)
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            self._fail(word, f"{text} is not a URL such as http://192.168.100.10:2379")
        return text

    def _fail(self, at: Word, message: str) -> NoReturn:
        syntax.fail(self._path, at, message)


_PLACES: dict[str, Callable[[_Values, Word], str]] = {
    "control": _Values.control_address,
    "pidfile": lambda values, word: values.text(word, "pidfile argument is too long."),
    "listen": lambda values, word: values.tcp_address(word, "listen"),
}

_SETTINGS: dict[str, tuple[str, Callable[[_Values, tuple[Word, ...]], Any]]] = {
    "replication": ("replication", lambda _, words: Replication(words[0].text)),
    "checksum": ("checksum", lambda _, words: Checksum(words[0].text)),
    "compression": ("compression", lambda _, words: Compression(words[0].text)),
    "timeout": ("timeout_s", lambda values, words: values.timeout(words[0])),
    "exec": ("exec_path", lambda values, words: values.text(words[0], "Exec path is too long.")),
    "metaflush": ("metaflush", lambda _, words: words[0].kind == "ON"),
    "name": ("provider_name", lambda values, words: values.name(words[0], "name argument is too long.")),
    "local": ("local", lambda values, words: values.text(words[0], "local argument is too long.")),
    "source": ("source", lambda values, words: values.tcp_address(words[0], "source", default_port=0)),
    "device": ("device", lambda _, words: Device(words[0].text)),
    "sync_rate": ("sync_rate_bytes_s", lambda values, words: values.rate(words[0])),
    "read_balancing": ("read_balancing", lambda _, words: words[0].kind == "ON"),
    "wait_for_peer": ("wait_for_peer_s", lambda values, words: values.seconds(words[0])),
    "disk_cache": ("disk_cache", lambda _, words: DiskCache(words[0].text)),
    "disk_timeout": ("disk_timeout_s", lambda values, words: values.seconds(words[0])),
    "arbiter": ("arbiter", lambda values, words: values.arbiter(words)),
    "fence": ("fence_path", lambda values, words: values.program(words[0], "Fence path is too long.")),
    "crash_loop": ("crash_loop", lambda _, words: CrashLoop(words[0].text)),
    "tls": ("tls", lambda _, words: Tls(words[0].text)),
    "split_brain": ("split_brain_policy", lambda _, words: SplitBrainPolicy(words[0].text)),
}
"""Statement → field of Resource, and how its values are read."""
