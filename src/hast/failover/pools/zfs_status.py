"""Reads what `zpool status` and `zdb -l` print, of OpenZFS and of zfs-fuse. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

EXPORTED = "1"
_SUSPENDED = re.compile(r"faulted in response to|ZFS-8000-(?:HC|JQ)\b")
_STATE = re.compile(r"^\s*state: *(\w+)", re.MULTILINE)
_CONFIG = re.compile(r"^config:\s*$(.*?)^(?:errors:|\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\s*(?P<name>\S+)\s+(?P<state>[A-Z]+)(?:\s|$)", re.MULTILINE)
_FIELD = re.compile(r"^\s*(hostname|state)[:=]\s*'?([^'\n]*)'?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool. `vdevs` are (name as printed, state), the pool and its groups among them."""

    state: str
    suspended: bool
    """No I/O until the devices are there and `zpool clear` was run. zfs-fuse tells it in words only."""
    vdevs: tuple[tuple[str, str], ...]


def parse_status(text: str) -> PoolStatus:
    """Read `zpool status POOL`. Raises ValueError for what is none."""
    state = _STATE.search(text)
    if state is None:
        raise ValueError("zpool status names no state")
    config = _CONFIG.search(text)
    rows = [(row["name"], row["state"]) for row in _ROW.finditer(config[1] if config else "")]
    suspended = state[1] == "SUSPENDED" or bool(_SUSPENDED.search(text))
    return PoolStatus(state[1], suspended, tuple(row for row in rows if row != ("NAME", "STATE")))


@dataclass(frozen=True, slots=True)
class Label:
    """What a device's label says of the last host that imported the pool."""

    host: str
    exported: bool


def parse_label(text: str) -> Label | None:
    """Read the first label of `zdb -l DEVICE`; None when there is none that can be read."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        found.setdefault(name, value.strip())
    if "hostname" not in found or "state" not in found:
        return None
    return Label(found["hostname"], found["state"] == EXPORTED)
