"""The events that carpd publishes, in both forms of FreeBSD (docs/carpd.8.md, "Events"; carp.md, "Events")."""

from __future__ import annotations

from typing import Any

from hast.config.carp_model import VirtualHost
from hast.election.carp_types import State


def events_of(
    config: VirtualHost, state: State, previous: State | None, reason: str, time_s: float, current: bool = False
) -> list[dict[str, Any]]:
    """The events of a change from `previous` to `state`; `previous` None for a present state or the first one."""
    common = {
        "time": time_s,
        "reason": reason,
        "vhid": config.vhid,
        "interface": config.interface,
        "name": config.name,
        "current": current,
    }
    out = [{"system": "CARP", "subsystem": f"{config.vhid}@{config.interface}", "type": str(state), **common}]
    link_type = _link_type(state, previous, current)
    if link_type:
        out.append({"system": "IFNET", "subsystem": config.name, "type": link_type, **common})
    return out


def _link_type(state: State, previous: State | None, current: bool) -> str | None:
    if state is State.MASTER:
        return "LINK_UP"
    if current or previous in (State.MASTER, None):
        return "LINK_DOWN"
    return None
