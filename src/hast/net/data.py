"""What hastd says of the copies on this host, for the demotion of vhids that serve them.

Asks hastd's control socket once a second, with a deadline, and reads the status objects (docs/control.md). Decides
nothing: election/demotion.py weighs the states.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from hast.election.demotion import CopyState
from hast.format import control, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES
from hast.node.conversation import ConversationError, receive_frame, send_frame

POLL_S = 1.0
DEADLINE_S = 2.0
GRACE_S = 5.0
"""How long hastd may be silent (a restart) before its copies count as unknown."""

_log = logging.getLogger("hast.carpd")


async def ask_hastd(control_path: str, names: list[str]) -> list[dict[str, Any]]:
    """The status objects of these resources. Raises OSError, ConversationError, ValueError, TimeoutError."""
    request = control.json_request(json.dumps({"command": "status", "resources": names}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_connect(sock, control_path)
            await send_frame(sock, request, DEADLINE_S)
            reply, _body = await receive_frame(sock, MAX_CONTROL_BODY_BYTES, DEADLINE_S)
    answer = json.loads(reply.nv.get("json", nv.NvType.STRING) or "{}")
    if not isinstance(answer, dict) or not isinstance(answer.get("resources"), list):
        raise ValueError(f"hastd answered {str(answer)[:100]}")
    return [each for each in answer["resources"] if isinstance(each, dict)]


def copy_state(status: dict[str, Any] | None) -> CopyState:
    """What one status object means; None for a resource that was not in the answer."""
    if status is None or status.get("error"):
        return CopyState.NOT_CONFIGURED
    problems = {str(each.get("kind")) for each in status.get("problems") or () if isinstance(each, dict)}
    role = str(status.get("role"))
    connected = status.get("status") == "complete" or bool(status.get("sync"))
    for problem, state in _PROBLEMS.items():
        if problem in problems or status.get(problem):
            return state
    if status.get("stale") or "disk" in problems:
        return CopyState.STALE if connected else CopyState.STALE_ALONE
    if role == "primary":
        return CopyState.LEADING
    if "split-brain" in problems:
        return CopyState.SPLIT_BRAIN
    if role == "secondary":
        return CopyState.COMPLETE if connected else CopyState.DISCONNECTED
    ahead = int(status.get("localcnt") or 0) > int(status.get("remotecnt") or 0)
    return CopyState.LAST_PRIMARY if ahead else CopyState.IDLE


_PROBLEMS = {
    "provider": CopyState.NO_PROVIDER,
    "inconsistent": CopyState.INCONSISTENT,
    "outdated": CopyState.OUTDATED,
    "frozen": CopyState.FROZEN,
}
"""Problems that decide whatever the role; also flags of the status object by the same name."""


class DataWatcher:
    """Polls hastd for all resources of all vhids and hands {name: CopyState} to `report` after every answer.

    While hastd is silent nothing is reported; after GRACE_S without an answer every copy that was known is UNKNOWN.
    """

    def __init__(self, control_path: str, names: Iterable[str], report: Callable[[dict[str, CopyState]], None]) -> None:
        self._control_path = control_path
        self._names = sorted(set(names))
        self._report = report
        self.error: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        if not self._names:
            return
        loop = asyncio.get_running_loop()
        answered_s: float | None = None
        while True:
            try:
                answer = await ask_hastd(self._control_path, self._names)
            except (OSError, ConversationError, ValueError) as error:
                self._failed(error)
                if answered_s is not None and loop.time() - answered_s > GRACE_S:
                    self._report(dict.fromkeys(self._names, CopyState.UNKNOWN))
            else:
                if self.error is not None:
                    _log.info("hastd answers on %s.", self._control_path)
                self.error = None
                answered_s = loop.time()
                found = {str(each.get("name")): each for each in answer}
                self._report({name: copy_state(found.get(name)) for name in self._names})
            await asyncio.sleep(POLL_S)

    def _failed(self, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "no answer in time"
        if self.error is None:
            _log.warning("hastd does not answer on %s: %s.", self._control_path, text)
        self.error = text
