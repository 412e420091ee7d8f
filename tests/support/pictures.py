"""Answers to `report` as two hastd give them, to be bent by a test."""

from __future__ import annotations

import copy
from typing import Any

STATUS: dict[str, Any] = {
    "name": "disk1",
    "error": None,
    "role": "primary",
    "status": "complete",
    "connected": True,
    "not_connected": None,
    "split_brain": None,
    "transition": None,
    "dirty": 0,
    "sync": None,
    "problems": [],
}


def vhid(state: str) -> dict[str, Any]:
    return {"name": "carp0", "vhid": 1, "state": state, "resources": ["disk1"]}


def node(host: str, role: str, state: str) -> dict[str, Any]:
    carp = {"vhids": [vhid(state)], "error": None}
    return {
        "host": host,
        "time": 1000.0,
        "since": 900.0,
        "release": "0.1.0+abc",
        "pid": 1,
        "resources": [copy.deepcopy(STATUS) | {"role": role}],
        "carp": carp,
        "failover": {"verb": "master", "phase": "done"},
    }


def healthy() -> dict[str, Any]:
    """hasta serves, hastb stands by."""
    other = {"resources": ["disk1"], "address": "10.0.0.2", "asked": True, "error": None}
    return {
        "error": None,
        "node": node("hasta", "primary", "MASTER"),
        "peers": [other | {"node": node("hastb", "secondary", "BACKUP")}],
    }
