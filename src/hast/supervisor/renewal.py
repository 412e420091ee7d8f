"""After an upgrade: workers of the old code give way to new ones, one resource after the other, while they serve.

The next is not begun before the last one's copies are connected and in step again as they were before, or the time for
that is over: an upgrade that goes wrong stops at its first resource, with the others untouched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from hast.supervisor.resource_state import ResourceState

log = logging.getLogger("hast.supervisor")

STEP_LIMIT_S = 60.0
_POLL_S = 0.1


class Renewal:
    """`state` is for clients: `running disk1`, `done`, or why it stopped; empty before there was one.

    `generation`: how often this hastd has replaced itself.
    """

    def __init__(self, states: Mapping[str, ResourceState], generation: int) -> None:
        self.generation = generation
        self._states = states
        self.state = ""

    async def run(self, names: Collection[str]) -> None:
        """Replace the workers of these resources. Raises nothing."""
        for name in names:
            state = self._states.get(name)
            if state is None or state.worker is None:
                continue
            self.state = f"running {name}"
            was_whole = await _is_whole(state)
            log.info("The worker gives way to one of the installed release.", extra=state.log_prefix())
            if not await state.renew_worker():
                self.state = f"stopped at {name}: its new worker does not serve; see the log"
                log.error("Upgrade of the workers %s.", self.state)
                return
            if was_whole and not await _within(STEP_LIMIT_S, state):
                self.state = f"stopped at {name}: the copies were not in step again within {STEP_LIMIT_S:g} s"
                log.error("Upgrade of the workers %s.", self.state)
                return
        self.state = "done"


async def _is_whole(state: ResourceState) -> bool:
    told = await state.worker_status() or {}
    return told.get("status") == "complete" and not told.get("sync") and told.get("in_step", True) is not False


async def _within(limit_s: float, state: ResourceState) -> bool:
    until_s = asyncio.get_running_loop().time() + limit_s
    while not await _is_whole(state):
        if asyncio.get_running_loop().time() >= until_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True
