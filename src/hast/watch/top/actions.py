"""The few safe actions of the live view: which key means which command now, or why none. Pure.

An action is a command line as an operator would type it; its plan is the same with `--plan`, and comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from hast.watch.picture import Picture

SWITCH, DETACH, ATTACH = "s", "d", "a"


@dataclass(frozen=True, slots=True)
class Action:
    """`words`: the command line, the program first."""

    title: str
    words: tuple[str, ...]

    @property
    def plan(self) -> tuple[str, ...]:
        return (*self.words, "--plan")


def action(key: str, picture: Picture, resource: str) -> Action | str | None:
    """What the key does for the selected resource; a text where it can do nothing now, None for another key."""
    if key == SWITCH:
        return _switch(picture, resource)
    if key == DETACH:
        return Action(f"take the local disk of {resource} out of service", ("hastctl", "detach", resource))
    if key == ATTACH:
        return Action(f"take the local disk of {resource} into service", ("hastctl", "attach", resource))
    return None


def _switch(picture: Picture, resource: str) -> Action | str:
    """By the address that carp.conf ties to the resource, else by `failover leave` on the host that serves."""
    for vhid in picture.here.vhids:
        if resource in (vhid.get("resources") or ()) and vhid.get("state") in ("MASTER", "BACKUP"):
            order = "backup" if vhid["state"] == "MASTER" else "master"
            words = ("carpctl", "state", f"{vhid.get('vhid')}@{vhid.get('interface')}", order)
            return Action("hand the service over" if order == "backup" else "take the service over", words)
    served = picture.here.resources.get(resource, {}).get("role") == "primary"
    if served:
        return Action("hand the service over", ("failover", "leave"))
    return f"{resource} is not served here, and carpd has no address for it: run failover leave on the other host."
