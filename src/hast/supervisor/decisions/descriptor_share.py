"""How many of the descriptors that hastd may have open its listeners may use, so that the others never run short."""

from __future__ import annotations

OWN = 64
"""Sockets, logs, pipes and look-ups of hastd itself."""
OF_A_RESOURCE = 16
"""Talk with its worker, a standby for it, its device, a hook, a link that is handed over."""
FEWEST_HALF_OPEN = 8


def needed(resources: int, control_clients: int, half_open: int, listeners: int) -> int:
    """Enough for everybody at once."""
    return OWN + OF_A_RESOURCE * resources + control_clients + half_open * max(listeners, 1)


def half_open_of_one(limit: int, resources: int, control_clients: int, most: int, listeners: int) -> int:
    """How many connections whose message has not come one listener may have, where hastd may have `limit`
    descriptors: what control and workers need is kept back. Never none, or nobody could connect."""
    left = limit - needed(resources, control_clients, 0, listeners)
    return max(FEWEST_HALF_OPEN, min(most, left // max(listeners, 1)))
