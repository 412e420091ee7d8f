"""A master that lost its clients' network gives its role up: what it then writes without its peer is worth nothing.

Taking a pool down writes to it. When the peer is cut off as well, those writes stay on this node alone while the peer
takes over: a split brain, made of nothing that anybody was promised. So when a run of `slave` was caused by a lost
link, and a resource was in step with its peer when it began, and went on alone before it was secondary, this copy's
changes are ordered to be discarded (hastctl(8), resolve). The order saves a map of them, and is void when the copies
turn out not to be in split brain, or when this node becomes primary again.
"""

from __future__ import annotations

from hast.failover.hastd import Hastd, HastdError
from hast.failover.log import Log

LOST_LINK = ("link down", "interface gone")
"""Reasons in carpd's events that mean that no client can reach this node."""
REASON = "written after this host had lost its clients and its peer"
ASK_S = 5.0
ORDER_S = 25.0


class Isolation:
    """What was so when the run began. Never raises: without it a person resolves the split brain."""

    def __init__(self, hastd: Hastd, log: Log) -> None:
        self._hastd = hastd
        self._log = log
        self._counters: dict[str, int] = {}

    def begin(self) -> None:
        """Before anything is taken down: which resources are in step with their peer, and their counters."""
        try:
            entries = self._hastd.roles(ASK_S)
        except HastdError:
            return
        for name, entry in entries.items():
            counter = entry.get("localcnt")
            if entry.get("role") == "primary" and entry.get("status") == "complete" and isinstance(counter, int):
                self._counters[name] = counter

    def settle(self, resource: str) -> None:
        """After the role was given up: order what was written alone since `begin` to be discarded."""
        before = self._counters.get(resource)
        if before is None:
            return
        try:
            reply = self._hastd.ask({"command": "status", "resources": [resource], "fresh": True}, ASK_S)
            counter = reply["resources"][0].get("localcnt")
            if not isinstance(counter, int) or counter <= before:
                return
            request = {
                "command": "resolve",
                "resources": [resource],
                "order": "discard",
                "force": True,
                "reason": REASON,
            }
            answer = self._hastd.ask(request, ORDER_S)["resources"][0]
        except (HastdError, KeyError, IndexError, AttributeError) as error:
            self._log.error(f"Resource {resource}: what was written alone cannot be marked: {error}.")
            return
        if answer.get("error"):
            self._log.error(f"Resource {resource}: what was written alone cannot be marked: {answer['error']}")
            return
        self._log.debug(
            f"Resource {resource}: cut off from clients and peer; what was written since is discarded if the peer took"
            f" over. Map: {answer.get('map')}."
        )
