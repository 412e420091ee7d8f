"""carp.conf → CarpConfiguration, as one host sees it (docs/carp.conf.5.md). Opens the file and nothing else."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, NoReturn

from hast.config import syntax
from hast.config.address import AddressError, AddressKind
from hast.config.address import parse_address as parse_control_address
from hast.config.carp_model import (
    MAX_ADVBASE_S,
    MAX_ADVSKEW,
    MAX_PASSWORD_BYTES,
    CarpConfiguration,
    VirtualHost,
)
from hast.config.host import Host
from hast.config.ifconfig import IfconfigError, IfconfigLine, parse_address, parse_line, variable_interface
from hast.config.syntax import Statement, Word
from hast.format.constants import MAX_NAME_BYTES

MAX_PATH_BYTES = 1023
MAX_VHID = 255

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_CLONED = re.compile(r"carp[0-9]+")

DIALECT = syntax.Dialect(
    grammar="carpconf.lark",
    tokens=syntax.QUOTING_TOKENS,
    characters="double quotes around text that holds it",
    variable=re.compile("ifconfig_.+"),
    value_names={
        "control": "the path of the control socket",
        "pidfile": "a path",
        "on": "a node name",
        "vhid": "a number from 1 to 255",
        "interface": "the name of a network interface",
        "pass": "a password",
        "advbase": "a number of seconds",
        "advskew": "a number from 0 to 254",
        "resource": "the name of a HAST resource",
        "address": "an address with prefix length",
        "name": "a name such as carp0",
        "VARIABLE": "'ifconfig_NAME=\"...\"'",
        "ifconfig": "the name of a carp or network interface",
    },
)

Settings = dict[str, Any]
"""Fields of VirtualHost; `addresses` and `resources` hold what was said at one place."""


def load(path: str, host: Host) -> CarpConfiguration:
    """Read and check the file. Raises ConfigError (exit code 72 when it cannot be opened, else 78)."""
    return parse(syntax.read_text(path), path, host)


def parse(text: str, path: str, host: Host) -> CarpConfiguration:
    """Check `text` as the contents of the file `path`. Raises ConfigError."""
    return _Reader(path, host).read(syntax.statements(text, path, DIALECT))


@dataclass(slots=True)
class _Draft:
    """A vhid while the file is read. `at` is where errors about the whole of it point."""

    at: Word
    vhid: int | None = None
    here: bool = True
    """Whether this host takes part."""
    own: Settings = field(default_factory=dict)


class _Reader:
    """Walks the statements in file order, then puts each vhid together from defaults and its own settings."""

    def __init__(self, path: str, host: Host) -> None:
        self._path = path
        self._host = host
        self._global: Settings = {}
        self._node: Settings = {}
        self._drafts: list[_Draft] = []
        self._lines: dict[str, _Draft] = {}
        """Drafts made of ifconfig lines, by interface, or by interface and vhid where it is a real one."""

    def read(self, statements: tuple[Statement, ...]) -> CarpConfiguration:
        for statement in statements:
            if statement.kind == "node":
                matches = self._host.matches(statement.value.text)
                for inner in statement.body:
                    self._statement(inner, self._node, matches)
            else:
                self._statement(statement, self._global, True)
        places = {
            name: value for name, value in {**self._global, **self._node}.items() if name in ("control", "pidfile")
        }
        groups = tuple(self._group(draft) for draft in self._drafts if draft.here)
        if self._drafts and not groups:
            names = ", ".join(self._host.node_names)
            self._fail(self._drafts[0].at, f"No vhid configuration for this node (acceptable node names: {names}).")
        self._refuse_shared(groups)
        return CarpConfiguration(self._path, **places, groups=groups)

    def _statement(self, statement: Statement, defaults: Settings, here: bool) -> None:
        if statement.kind == "vhid":
            self._vhid_section(statement, here)
        elif statement.kind in ("ifconfig", "assignment"):
            self._ifconfig(statement, here)
        else:
            self._set(statement, defaults if here else {})

    def _vhid_section(self, section: Statement, here: bool) -> None:
        draft = _Draft(section.value, self._number(section.value, 1, MAX_VHID, "vhid"), here)
        nodes = [statement for statement in section.body if statement.kind == "vhid_node"]
        matching: Settings = {}
        for statement in section.body:
            if statement.kind != "vhid_node":
                self._set(statement, draft.own)
                continue
            into = matching if self._host.matches(statement.value.text) else {}
            for inner in statement.body:
                self._set(inner, into)
        if here and nodes and not any(self._host.matches(node.value.text) for node in nodes):
            self._fail_no_node(draft)
        for key in ("addresses", "resources"):
            if key in matching:
                matching[key] = (*draft.own.get(key, ()), *matching[key])
        draft.own.update(matching)
        self._drafts.append(draft)

    def _fail_no_node(self, draft: _Draft) -> NoReturn:
        names = ", ".join(self._host.node_names)
        text = f"No vhid {draft.vhid} configuration for this node (acceptable node names: {names})."
        self._fail(draft.at, text)

    # The lines of ifconfig and rc.conf

    def _ifconfig(self, statement: Statement, here: bool) -> None:
        at, value = statement.values
        try:
            name = at.text if statement.kind == "ifconfig" else variable_interface(at.text)
            line = parse_line(value.text)
        except IfconfigError as error:
            self._fail(value if statement.kind == "ifconfig" else at, str(error))
        if here:
            self._add_line(name, line, at, value)

    def _add_line(self, name: str, line: IfconfigLine, at: Word, value: Word) -> None:
        cloned = _CLONED.fullmatch(name) is not None
        if not cloned and line.vhid is None:
            self._fail(value, f"the line for {name} names no vhid")
        key = name if cloned else f"{name} {line.vhid}"
        draft = self._lines.get(key)
        if draft is None:
            draft = self._lines[key] = _Draft(at, own={"name": name} if cloned else {"interface": name})
            self._drafts.append(draft)
        if line.vhid is not None:
            if draft.vhid not in (None, line.vhid):
                self._fail(value, f"{name} already has the vhid {draft.vhid}")
            draft.vhid = self._range(value, line.vhid, 1, MAX_VHID, "vhid")
        if line.password is not None:
            draft.own["password"] = self._password(dataclasses.replace(value, text=line.password))
        if line.advbase_s is not None:
            draft.own["advbase_s"] = self._range(value, line.advbase_s, 1, MAX_ADVBASE_S, "advbase")
        if line.advskew is not None:
            draft.own["advskew"] = self._range(value, line.advskew, 0, MAX_ADVSKEW, "advskew")
        for address in line.addresses:
            draft.own["addresses"] = (*draft.own.get("addresses", ()), self._usable(value, address))

    # Putting together

    def _group(self, draft: _Draft) -> VirtualHost:
        settings = {**self._global, **self._node, **draft.own}
        settings.pop("control", None)
        settings.pop("pidfile", None)
        if draft.vhid is None:
            self._fail(draft.at, f"{draft.at.text} has no vhid; add 'vhid NUMBER' to its line")
        name = settings.pop("name", f"carp{draft.vhid - 1}")
        if "interface" not in settings:
            self._fail(draft.at, f"vhid {draft.vhid} has no interface; add for example 'interface eth0'")
        if not settings.get("addresses"):
            self._fail(draft.at, f"vhid {draft.vhid} has no address; add for example 'address 10.10.10.180/24'")
        for key in ("addresses", "resources"):
            if key in settings:
                settings[key] = tuple(dict.fromkeys(settings[key]))
        return VirtualHost(name=name, vhid=draft.vhid, **settings)

    def _refuse_shared(self, groups: tuple[VirtualHost, ...]) -> None:
        seen: dict[object, VirtualHost] = {}
        drafts = [draft for draft in self._drafts if draft.here]
        for group, draft in zip(groups, drafts, strict=True):
            keys: dict[object, str] = {
                group.name: f"the name {group.name}; set another with 'name'",
                (group.interface, group.vhid): f"vhid {group.vhid} on {group.interface}",
            }
            keys.update({address.ip: f"the address {address.ip}" for address in group.addresses})
            for key, text in keys.items():
                if seen.setdefault(key, group) is not group:
                    self._fail(draft.at, f"two vhids have {text}")

    # Values

    def _set(self, statement: Statement, into: Settings) -> None:
        word = statement.value
        match statement.kind:
            case "control":
                into["control"] = self._control(word)
            case "pidfile":
                into["pidfile"] = self._text(word, MAX_PATH_BYTES, "pidfile argument is too long.")
            case "name":
                into["name"] = self._matching(word, _NAME, "a name such as carp0")
            case "interface":
                into["interface"] = self._matching(word, _INTERFACE, "the name of a network interface")
            case "pass":
                into["password"] = self._password(word)
            case "advbase":
                into["advbase_s"] = self._number(word, 1, MAX_ADVBASE_S, "advbase")
            case "advskew":
                into["advskew"] = self._number(word, 0, MAX_ADVSKEW, "advskew")
            case "preempt":
                into["preempt"] = word.kind == "ON"
            case "resource":
                name = self._text(word, MAX_NAME_BYTES, "Resource name is too long.")
                into["resources"] = (*into.get("resources", ()), name)
            case "address":
                into["addresses"] = (*into.get("addresses", ()), self._address(word))

    def _text(self, word: Word, limit_bytes: int, too_long: str) -> str:
        if word.size_bytes > limit_bytes:
            self._fail(word, too_long)
        if not word.text or not word.text.isprintable():
            self._fail(word, f"{word.text[:60]!a} is empty or holds characters that cannot be printed")
        return word.text

    def _matching(self, word: Word, pattern: re.Pattern[str], wanted: str) -> str:
        if not pattern.fullmatch(word.text) or not word.text.isprintable():
            self._fail(word, f"{word.text[:60]!a} is not {wanted}")
        return word.text

    def _control(self, word: Word) -> str:
        text = self._text(word, MAX_PATH_BYTES, "control argument is too long.")
        try:
            if parse_control_address(text).kind is AddressKind.UNIX:
                return text
        except AddressError:
            pass
        self._fail(word, f"{text[:60]!a} is not the path of a UNIX socket")

    def _password(self, word: Word) -> str:
        """Errors never show it."""
        if not 0 < word.size_bytes <= MAX_PASSWORD_BYTES or not word.text.isprintable():
            self._fail(word, f"the password is not of 1 to {MAX_PASSWORD_BYTES} printable bytes")
        return word.text

    def _number(self, word: Word, low: int, high: int, keyword: str) -> int:
        return self._range(word, int(word.text) if len(word.text) <= 9 else high + 1, low, high, keyword)

    def _range(self, word: Word, number: int, low: int, high: int, keyword: str) -> int:
        if not low <= number <= high:
            self._fail(
                word, f"{keyword} {word.text[:40] if word.kind == 'NUM' else number} is not from {low} to {high}"
            )
        return number

    def _address(self, word: Word) -> IPv4Interface | IPv6Interface:
        try:
            return self._usable(word, parse_address(word.text))
        except IfconfigError as error:
            self._fail(word, str(error))

    def _usable(self, word: Word, address: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
        """An address that a host can have; the addresses of the network and of its broadcast are none."""
        network = address.network
        reserved = address.version == 4 and network.prefixlen < 31
        if reserved and address.ip in (network.network_address, network.broadcast_address):
            self._fail(word, f"{address} is the address of a network or its broadcast, not of a host")
        if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
            self._fail(word, f"{address.ip} cannot be shared between hosts")
        if isinstance(address, IPv6Interface) and address.scope_id is not None:
            self._fail(word, f"{address} names an interface; set that with 'interface'")
        return address

    def _fail(self, at: Word, message: str) -> NoReturn:
        syntax.fail(self._path, at, message)
