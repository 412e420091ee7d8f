"""Reads failover.conf into the model of config/failover_model.py. Opens the file and nothing else.

Every error is a ConfigError whose text is one line: file:line:column, what was found, what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from hast.config import syntax
from hast.config.failover_model import (
    EVERYBODY,
    EXPORT_TIMEOUT_S,
    FailoverConfiguration,
    Hook,
    HookTime,
    IscsiExport,
    Lun,
    NbdExport,
    NbdTls,
    Pool,
    PoolKind,
    Service,
)
from hast.config.model import ConfigError

MAX_SECONDS = 86400.0

_NAMES = {
    "SETTING": "a setting (resources, delay, wait, role-timeout, health, control, log)",
    "POOL": "'pool'",
    "SERVICE": "'service'",
    "EXPORT": "'export'",
    "HOOK": "'hook'",
    "KEY": "a setting of the block",
    "EXPORT_KIND": "'nbd' or 'iscsi'",
    "HOOK_TIME": "'before-master', 'after-master', 'before-slave', 'after-slave' or 'failure'",
    "WORD": "a word",
    "QUOTED": "text in double quotes",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "$END": "the end of the file",
}
_POOL_KEYS = {
    PoolKind.ZFS: ("type", "resource", "options", "force", "kill", "timeout"),
    PoolKind.LVM: ("type", "resource", "kill", "timeout"),
    PoolKind.BTRFS: ("type", "resource", "mount", "options", "fsck", "kill", "timeout"),
    PoolKind.FILESYSTEM: ("type", "resource", "mount", "fstype", "options", "device", "fsck", "kill", "timeout"),
}
_SERVICE_KEYS = ("start", "stop", "status", "timeout")
_EXPORT_KEYS = {
    "nbd": ("listen", "allow", "tls-certificates", "tls-psk", "verify-peer", "clients", "timeout"),
    "iscsi": ("lun", "initiator", "chap", "control-port", "timeout"),
}

Values = Sequence[Token]
Settings = Mapping[str, tuple[Token, Values]]


def load(path: str) -> FailoverConfiguration:
    """Read and check the file. Raises ConfigError (exit code 72: cannot be opened, 78: cannot be used)."""
    raw = syntax.read_bytes(path)
    try:
        return parse(raw.decode(), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8 text.") from error


def parse(text: str, path: str) -> FailoverConfiguration:
    """Read a configuration from `text`; `path` is for error texts. Raises ConfigError."""
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise ConfigError(f"{path}:{_syntax_error(error, text)}") from None
    return replace(_Reader(path).read(tree), text=text)


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("failover.lark").read_text()
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False)


def _syntax_error(error: UnexpectedInput, text: str) -> str:
    names = sorted(_NAMES.get(name, name) for name in getattr(error, "accepts", None) or _expected(error))
    wanted = f"; expected {' or '.join(names)}" if names else ""
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        return f"{error.line}:{error.column}: found '{error.token}'{wanted}."
    if isinstance(error, UnexpectedCharacters):
        return f"{error.line}:{error.column}: found {error.char!r}{wanted}."
    lines = text.rstrip().splitlines() or [""]
    return f"{len(lines)}:{len(lines[-1]) + 1}: the file ends too early{wanted}."


def _expected(error: UnexpectedInput) -> set[str]:
    return set(getattr(error, "expected", None) or getattr(error, "allowed", None) or ())


def _text(token: Token) -> str:
    if token.type != "QUOTED":
        return str(token)
    out, escaped = [], False
    for character in token[1:-1]:
        if escaped or character != "\\":
            out.append(character)
            escaped = False
        else:
            escaped = True
    return "".join(out)


class _Reader:
    """Turns the parse tree into the model, with the place of every mistake."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, tree: Tree[Token]) -> FailoverConfiguration:
        result = FailoverConfiguration(self._path)
        pools: list[Pool] = []
        services: list[Service] = []
        exports: list[NbdExport | IscsiExport] = []
        hooks: list[Hook] = []
        for item in tree.children:
            assert isinstance(item, Tree)
            match item.data:
                case "setting":
                    result = replace(result, **self._setting(item))
                case "pool":
                    self._unique(item, self._pool(item), pools, lambda pool: pool.name)
                case "service":
                    self._unique(item, self._service(item), services, lambda service: service.name)
                case "export":
                    self._unique(item, self._export(item), exports, _export_key)
                case "hook":
                    hooks.append(self._hook(item))
        result = replace(
            result, pools=tuple(pools), services=tuple(services), exports=tuple(exports), hooks=tuple(hooks)
        )
        self._check_resources(result)
        return result

    def _unique(self, item: Tree[Token], made: Any, others: list[Any], key: Callable[[Any], str]) -> None:
        if key(made) in map(key, others):
            raise self._error(item, f"{item.data} '{key(made)}' stands here twice; remove one.")
        others.append(made)

    def _setting(self, item: Tree[Token]) -> dict[str, Any]:
        key, values = _split(item)
        match str(key):
            case "resources":
                names = [_text(value) for value in values]
                if len(set(names)) != len(names):
                    raise self._error(key, "the same resource stands here twice; remove one.")
                return {"resources": tuple(names)}
            case "delay" | "wait" | "role-timeout" | "health":
                return {str(key).replace("-", "_") + "_s": self._seconds(key, values)}
            case _:
                return {str(key): self._one(key, values)}

    def _pool(self, item: Tree[Token]) -> Pool:
        name, settings = self._block(item)
        kind = PoolKind.ZFS
        if "type" in settings:
            kind = self._choice(settings["type"], PoolKind)
        self._only(settings, _POOL_KEYS[kind], f"a pool of type {kind}")
        fields: dict[str, Any] = {"name": name, "kind": kind}
        for key, (token, values) in settings.items():
            match key:
                case "type":
                    pass
                case "resource":
                    fields["resources"] = tuple(map(_text, values))
                case "fsck" | "force":
                    fields[key] = self._switch(token, values)
                case "kill":
                    fields["kill_after_s"] = self._seconds(token, values)
                case "timeout":
                    fields["timeout_s"] = self._seconds(token, values, least=1)
                case "mount" | "device":
                    fields[key] = self._absolute(token, values)
                case "fstype":
                    fields["fs_type"] = self._one(token, values)
                case "options":
                    fields["options"] = self._one(token, values)
        if kind in (PoolKind.BTRFS, PoolKind.FILESYSTEM) and "mount" not in fields:
            raise self._error(item, f"pool '{name}' of type {kind} needs `mount DIRECTORY`.")
        return Pool(**fields)

    def _service(self, item: Tree[Token]) -> Service:
        name, settings = self._block(item)
        self._only(settings, _SERVICE_KEYS, "a service")
        fields: dict[str, Any] = {"name": name}
        for key, (token, values) in settings.items():
            if key == "timeout":
                fields["timeout_s"] = self._seconds(token, values, least=1)
            else:
                fields[key] = self._one(token, values)
        if not {"start", "stop", "status"} & set(fields):
            return Service(**fields, unit=name)
        if "start" not in fields or "stop" not in fields:
            raise self._error(item, f"service '{name}' needs both `start` and `stop` commands, or neither for a unit.")
        return Service(**fields)

    def _export(self, item: Tree[Token]) -> NbdExport | IscsiExport:
        kind, *rest = item.children
        name, settings = self._block(Tree(item.data, rest, item.meta))
        self._only(settings, _EXPORT_KEYS[str(kind)], f"an export of type {kind}")
        timeout_s = EXPORT_TIMEOUT_S
        if "timeout" in settings:
            timeout_s = self._seconds(*settings["timeout"], least=1)
        if kind == "nbd":
            return self._nbd(item, name, settings, timeout_s)
        return self._iscsi(item, name, settings, timeout_s)

    def _iscsi(self, item: Tree[Token], name: str, settings: Settings, timeout_s: float) -> IscsiExport:
        if "lun" not in settings:
            raise self._error(item, f"export '{name}' needs at least one `lun NUMBER PATH`.")
        luns = self._luns(item, *settings["lun"])
        extra: dict[str, Any] = {"initiators": (EVERYBODY,)}
        if "initiator" in settings:
            extra["initiators"] = tuple(map(_text, settings["initiator"][1]))
        elif "chap" not in settings:
            raise self._error(item, f"export '{name}' is for nobody: it needs `initiator ADDRESS ...` or `chap FILE`.")
        if "chap" in settings:
            extra["chap"] = self._absolute(*settings["chap"])
        if "control-port" in settings:
            extra["control_port"] = self._integer(*settings["control-port"], 0, 65535)
        return IscsiExport(name, luns, timeout_s=timeout_s, **extra)

    def _nbd(self, item: Tree[Token], name: str, settings: Settings, timeout_s: float) -> NbdExport:
        tls = self._tls(item, name, settings)
        extra: dict[str, Any] = {"tls": tls, "allow": (EVERYBODY,)}
        if "listen" in settings:
            extra["listen"] = tuple(map(_text, settings["listen"][1]))
        if "allow" in settings:
            extra["allow"] = tuple(self._clients(value) for value in settings["allow"][1])
        elif tls is None or not (tls.verify_peer or tls.psk):
            raise self._error(item, f"export '{name}' is for nobody: it needs `allow ADDRESS ...` or keys of clients.")
        if "clients" in settings:
            extra["max_clients"] = self._integer(*settings["clients"], 1, 1000)
        return NbdExport(name, timeout_s=timeout_s, **extra)

    def _tls(self, item: Tree[Token], name: str, settings: Settings) -> NbdTls | None:
        given = [key for key in ("tls-certificates", "tls-psk") if key in settings]
        if len(given) == 2:
            raise self._error(item, f"export '{name}' has both `tls-certificates` and `tls-psk`; remove one.")
        if "verify-peer" in settings and given != ["tls-certificates"]:
            raise self._error(settings["verify-peer"][0], "`verify-peer` belongs to `tls-certificates`.")
        if not given:
            return None
        path = self._absolute(*settings[given[0]])
        if given == ["tls-psk"]:
            return NbdTls(psk=path)
        verify = self._switch(*settings["verify-peer"]) if "verify-peer" in settings else True
        return NbdTls(certificates=path, verify_peer=verify)

    def _clients(self, value: Token) -> str:
        text = _text(value)
        try:
            return text if text == EVERYBODY else str(ip_network(text))
        except ValueError:
            wanted = "an address, a network such as 192.168.100.0/24, or ALL"
            raise self._error(value, f"found '{text}'; expected {wanted}.") from None

    def _luns(self, item: Tree[Token], token: Token, values: Values) -> tuple[Lun, ...]:
        if len(values) % 2:
            raise self._error(token, "found an odd number of words; expected `lun NUMBER PATH`.")
        luns = []
        for number, path in zip(values[::2], values[1::2], strict=True):
            luns.append(Lun(self._integer(token, [number], 1, 16383), self._absolute(path, [path])))
        if len({lun.number for lun in luns}) != len(luns):
            raise self._error(token, "the same unit number stands here twice; unit numbers must differ.")
        return tuple(luns)

    def _hook(self, item: Tree[Token]) -> Hook:
        when, command, *rest = item.children
        assert isinstance(when, Token)
        assert isinstance(command, Tree)
        assert isinstance(command.children[0], Token)
        hook = Hook(HookTime(str(when)), _text(command.children[0]))
        if not rest:
            return hook
        key, values = _split(Tree("hook", rest))
        if key != "timeout":
            raise self._error(key, f"found '{key}'; expected 'timeout' or the next statement.")
        return replace(hook, timeout_s=self._seconds(key, values, least=1))

    def _only(self, settings: Settings, allowed: Sequence[str], where: str) -> None:
        for key, (token, _) in settings.items():
            if key not in allowed:
                raise self._error(token, f"'{key}' does not belong into {where}; expected {', '.join(allowed)}.")

    def _block(self, item: Tree[Token]) -> tuple[str, Settings]:
        head, *rest = item.children
        assert isinstance(head, Tree)
        assert isinstance(head.children[0], Token)
        settings: dict[str, tuple[Token, list[Token]]] = {}
        for child in rest:
            assert isinstance(child, Tree)
            key, values = _split(child)
            if str(key) in settings and str(key) not in ("resource", "lun", "listen", "initiator", "allow"):
                raise self._error(key, f"'{key}' stands twice in this block; remove one.")
            _first, known = settings.setdefault(str(key), (key, []))
            known.extend(values)
        return _text(head.children[0]), settings

    def _check_resources(self, result: FailoverConfiguration) -> None:
        if result.resources == ("all",):
            return
        known = set(result.resources)
        used = [(f"pool {pool.name}", name) for pool in result.pools for name in pool.resources]
        used += [(f"export nbd {e.resource}", e.resource) for e in result.exports if isinstance(e, NbdExport)]
        for user, name in used:
            if name not in known:
                raise ConfigError(f"{self._path}: {user} uses resource '{name}', which `resources` does not list.")

    def _one(self, key: Token, values: Values) -> str:
        if len(values) != 1:
            raise self._error(key, f"found {len(values)} words after '{key}'; expected one (use double quotes).")
        return _text(values[0])

    def _absolute(self, key: Token, values: Values) -> str:
        path = self._one(key, values)
        if not path.startswith("/"):
            raise self._error(values[0], f"found '{path}'; expected a path that begins with '/'.")
        return path

    def _switch(self, key: Token, values: Values) -> bool:
        word = self._one(key, values)
        if word not in ("on", "off", "yes", "no"):
            raise self._error(values[0], f"found '{word}'; expected 'on' or 'off'.")
        return word in ("on", "yes")

    def _choice(self, setting: tuple[Token, Values], kinds: type[PoolKind]) -> PoolKind:
        word = self._one(*setting)
        try:
            return kinds(word)
        except ValueError:
            raise self._error(setting[1][0], f"found '{word}'; expected one of {', '.join(kinds)}.") from None

    def _seconds(self, key: Token, values: Values, least: float = 0) -> float:
        word = self._one(key, values)
        try:
            seconds = float(word)
        except ValueError:
            seconds = -1.0
        if not least <= seconds <= MAX_SECONDS:
            raise self._error(values[0], f"found '{word}'; expected {least:g} to {MAX_SECONDS:g} seconds.")
        return seconds

    def _integer(self, key: Token, values: Values, least: int, most: int) -> int:
        word = self._one(key, values)
        if not word.isdecimal() or not least <= int(word) <= most:
            raise self._error(values[0], f"found '{word}'; expected a number from {least} to {most}.")
        return int(word)

    def _error(self, place: Token | Tree[Token], text: str) -> ConfigError:
        line, column = (place.line, place.column) if isinstance(place, Token) else (place.meta.line, place.meta.column)
        return ConfigError(f"{self._path}:{line}:{column}: {text}")


def _split(item: Tree[Token]) -> tuple[Token, list[Token]]:
    key, *values = item.children
    assert isinstance(key, Token)
    tokens = [value.children[0] for value in values if isinstance(value, Tree)]
    return key, [token for token in tokens if isinstance(token, Token)]


def _export_key(export: NbdExport | IscsiExport) -> str:
    return export.resource if isinstance(export, NbdExport) else export.iqn
