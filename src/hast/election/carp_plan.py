"""What `carpctl state` would bring about, in order, for people (`--plan`). Pure; carp.py carries it out."""

from __future__ import annotations

from hast.election.carp_types import State

FOLLOWS_MASTER = "hast-devd runs its rules for MASTER here: failover master"
FOLLOWS_BACKUP = "hast-devd runs its rules for BACKUP here: failover slave"


def by_hand_steps(state: State, order: State | None, master: str | None, preempt: bool) -> list[str]:
    """`master`: the address of the host that is heard as master."""
    if order is State.MASTER:
        return _seize(state, master)
    if order is State.BACKUP:
        return _hand_over(state)
    stays = "what was ordered by hand ends; hosts are compared by advbase and advskew again"
    changes = "a better host takes over, where it has `preempt`" if state is State.MASTER else "this host stays BACKUP"
    if state is State.BACKUP and preempt:
        changes = "this host takes over if it is better than the master (`preempt`)"
    return [stays, changes]


def _seize(state: State, master: str | None) -> list[str]:
    kept = "stay MASTER against a better host until `auto`, the loss of the link, or `state ... master` elsewhere"
    if state is State.MASTER:
        return [kept]
    loser = f"the master at {master}" if master is not None else "any master that hears it"
    return [
        "advertise as better than any other host",
        "add the virtual addresses here and announce them",
        f"{loser} becomes BACKUP, and its hast-devd runs failover slave",
        FOLLOWS_MASTER,
        kept,
    ]


def _hand_over(state: State) -> list[str]:
    kept = "no `preempt` here until `auto`"
    if state is State.BACKUP:
        return [f"stay BACKUP; {kept}"]
    return [
        "tell the other hosts that this master leaves",
        "take the virtual addresses away here",
        "a backup becomes MASTER at once, and its hast-devd runs failover master",
        FOLLOWS_BACKUP,
        f"{kept}; if nobody takes over, this host becomes MASTER again",
    ]
