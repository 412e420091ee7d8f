"""What hastd says of the copies on this host, for the demotion of vhids that serve them.

Asks hastd's control socket when one of its events comes, and now and then, with a deadline. Reads the status objects of
docs/control.md. Decides nothing: election/demotion.py weighs the states.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hast.daemon import asking
from hast.daemon.conversation import ConversationError
from hast.election.adoption import Service
from hast.election.demotion import CopyState, unheard

POLL_S = 1.0
"""How often hastd is asked while its event stream is not there."""
QUIET_POLL_S = 5.0
"""How often when it is: a status of a resource without worker costs hastd a process that reads its metadata."""
PASSING = frozenset({CopyState.INCONSISTENT})
"""States that end by themselves without an event of a hastd of an older kind: asked for every POLL_S."""
GATHER_S = 0.05
"""Events come in bursts."""
DEADLINE_S = 2.0
GRACE_S = 5.0
"""How long hastd may be silent (a restart) before its copies count as unknown."""

_log = logging.getLogger("hast.carpd")


async def ask_hastd(control_path: str, names: list[str]) -> list[dict[str, Any]]:
    """The status objects of these resources. Raises OSError, ConversationError, ValueError, TimeoutError."""
    async with asyncio.timeout(DEADLINE_S):
        answer = await asking.ask(control_path, {"command": "status", "resources": names}, DEADLINE_S, DEADLINE_S)
    if not isinstance(answer, dict) or not isinstance(answer.get("resources"), list):
        raise ValueError(f"hastd answered {str(answer)[:100]}")
    return [each for each in answer["resources"] if isinstance(each, dict)]


class Copy(NamedTuple):
    """One resource of this host: what its copy is good for, and who serves it."""

    state: CopyState
    service: Service = Service.NOT_KNOWN
    alone: bool = False
    """Primary, also one that is letting go, without a connection: the other node lacks what was written."""


def copy_of(status: dict[str, Any] | None) -> Copy:
    """What one status object means; None for a resource that was not in the answer."""
    state = copy_state(status)
    if status is None or state is CopyState.FROZEN:
        return Copy(state)
    return Copy(state, _service(status), status.get("role") == "primary" and not _is_connected(status))


def _service(status: dict[str, Any]) -> Service:
    if status.get("transition"):
        return Service.NOT_KNOWN
    match str(status.get("role")), _is_connected(status):
        case "primary", connected:
            return Service.HERE if connected else Service.HERE_ALONE
        case "secondary", True:
            return Service.THERE
    return Service.NOT_KNOWN


def _is_connected(status: dict[str, Any]) -> bool:
    return bool(status.get("connected"))


def copy_state(status: dict[str, Any] | None) -> CopyState:
    """What a copy is good for by its status object; None for a resource that was not in the answer."""
    if status is None or status.get("error"):
        return CopyState.NOT_CONFIGURED
    problems = {str(each.get("kind")) for each in status.get("problems") or () if isinstance(each, dict)}
    role = str(status.get("role"))
    connected = _is_connected(status)
    if role == "primary" and connected and status.get("inconsistent"):
        return CopyState.STALE
    for problem, state in _PROBLEMS.items():
        if problem in problems or status.get(problem):
            return state
    if status.get("stale") or "disk" in problems:
        return CopyState.STALE if connected else CopyState.STALE_ALONE
    if role == "primary":
        return CopyState.LEADING
    if "split-brain" in problems:
        return CopyState.SPLIT_BRAIN
    if role == "secondary" and connected:
        return CopyState.COMPLETE
    if problems & {"last-error", "refused"}:
        return CopyState.REFUSED
    if status.get("prevrole") == "primary":
        return CopyState.LAST_PRIMARY
    return CopyState.DISCONNECTED if role == "secondary" else CopyState.IDLE


_PROBLEMS = {
    "provider": CopyState.NO_PROVIDER,
    "inconsistent": CopyState.INCONSISTENT,
    "outdated": CopyState.OUTDATED,
    "frozen": CopyState.FROZEN,
}
"""Problems that decide whatever the role; also flags of the status object by the same name."""


class DataWatcher:
    """Asks hastd for all resources of all vhids and hands {name: Copy} to `report` after every answer.

    While hastd is silent nothing is reported; after GRACE_S without an answer every copy that was known is unknown.
    """

    def __init__(self, control_path: str, names: Iterable[str], report: Callable[[dict[str, Copy]], None]) -> None:
        self._control_path = control_path
        self._names = sorted(set(names))
        self._report = report
        self._wake = asyncio.Event()
        self._listening = False
        self._last: dict[str, Copy] = {}
        self._passing = False
        self._failing_since_s: float | None = None
        self.error: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        if not self._names:
            return
        listener = asyncio.get_running_loop().create_task(self._listen(), name="hastd-events")
        try:
            while True:
                self._wake.clear()
                await self._poll()
                with contextlib.suppress(TimeoutError):
                    quiet = self._listening and self.error is None and not self._passing
                    async with asyncio.timeout(QUIET_POLL_S if quiet else POLL_S):
                        await self._wake.wait()
                    await asyncio.sleep(GATHER_S)
        finally:
            listener.cancel()

    async def _poll(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            answer = await ask_hastd(self._control_path, self._names)
        except (OSError, ConversationError, ValueError) as error:
            self._failed(error)
            if self._failing_since_s is None:
                self._failing_since_s = now
            if self._last and now - self._failing_since_s >= GRACE_S:
                self._report({name: Copy(unheard(copy.state, copy.alone)) for name, copy in self._last.items()})
            return
        if self.error is not None:
            _log.info("hastd answers on %s.", self._control_path)
        self.error = self._failing_since_s = None
        found = {str(each.get("name")): each for each in answer}
        copies = self._last = {name: copy_of(found.get(name)) for name in self._names}
        self._passing = any(copy.state in PASSING for copy in copies.values())
        self._report(copies)

    async def _listen(self) -> None:
        """Wake up for every event of hastd, and when its stream ends."""
        while True:
            try:
                async for _line in asking.stream(self._control_path, {"command": "events"}, DEADLINE_S):
                    self._listening = True
                    self._wake.set()
            except (OSError, ConversationError, ValueError):
                pass
            self._listening = False
            self._wake.set()
            await asyncio.sleep(POLL_S)

    def _failed(self, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "no answer in time"
        if self.error is None:
            _log.warning("hastd does not answer on %s: %s.", self._control_path, text)
        self.error = text
