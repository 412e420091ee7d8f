"""What hastctl shows of both nodes in one go: `status --both`, `status --check`, `wait`.

Asks the socket that only answers, so that no right is needed but to open it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from hast.cli.session import Failure
from hast.config.host import this_host
from hast.watch import both, check, waiting
from hast.watch.catalogue import Level
from hast.watch.picture import Picture, read, unknown
from hast.watch.problems import USUAL, Limits, find
from hast.watch.source import NoAnswer, Source

EX_NOENTRY = 1
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
LOOK_AGAIN_S = 5.0
"""Without an event: what became true without one is not missed for longer."""
RETRY_S = 0.5
"""Until a hastd that is away is asked again."""
SETTLE_S = 0.05
"""An event may be told a moment before the status says the same."""


def status_of_both(names: Sequence[str], as_json: bool) -> list[str]:
    """The lines. Raises Failure."""
    try:
        reply = asyncio.run(Source().ask({"command": "report", "peer": True}))
    except NoAnswer as error:
        raise Failure(str(error), EX_UNAVAILABLE) from None
    picture = read(reply)
    wanted = _wanted(picture, names)
    problems = find(picture, time.time(), USUAL)
    if not as_json:
        return both.lines(picture, problems, wanted)
    import json

    return [json.dumps(both.as_json(reply, problems, wanted), indent=2)]


def _wanted(picture: Picture, names: Sequence[str]) -> list[str]:
    """The names; none for all. Raises Failure."""
    if not names or names[0] == "all":
        return []
    known = {pair.name for pair in picture.pairs}
    for name in names:
        if name not in known:
            raise Failure(f"Resource {name} is not configured.", EX_NOENTRY)
    return list(names)


def checked(names: Sequence[str], degraded_critical: str, at_risk_critical: str | None) -> tuple[int, str]:
    """Exit code and line for Nagios and its like. Raises ValueError for a threshold that is none."""
    from hast.format.geometry import parse_size

    never = degraded_critical == "never"
    degraded_s = None if never else check.parse_duration(degraded_critical)
    limits = Limits(degraded_s, None if at_risk_critical is None else parse_size(at_risk_critical))
    try:
        picture = read(asyncio.run(Source().ask({"command": "report", "peer": True})))
    except NoAnswer as error:
        picture = unknown(this_host().name, str(error))
    try:
        wanted = [] if picture.here.error else _wanted(picture, names)
    except Failure as error:
        return Level.UNKNOWN, check.line("HAST", Level.UNKNOWN, str(error))
    now_s = time.time()
    level, line = check.of_picture(picture, find(picture, now_s, limits), now_s, limits, wanted)
    return int(level), line


def wait(words: Sequence[str], timeout_s: float) -> None:
    """Return when it is so. Raises Failure."""
    try:
        conditions, names = waiting.split(words)
    except waiting.NoCondition as error:
        raise Failure(str(error), 64) from None
    waiter = _Waiter(conditions, names)
    try:
        asyncio.run(waiter.run(timeout_s))
    except TimeoutError:
        raise Failure(f"Not so after {timeout_s:g} s: {waiter.missing}.", EX_TEMPFAIL) from None


class _Waiter:
    """Looks after every event, whoever ends and begins again meanwhile."""

    def __init__(self, conditions: Sequence[str], names: Sequence[str]) -> None:
        self._conditions = conditions
        self._names = list(names) or ["all"]
        self._source = Source()
        self._happened = asyncio.Event()
        self.missing = "hastd has not answered"

    async def run(self, timeout_s: float) -> None:
        """Raises TimeoutError, Failure."""
        listening = asyncio.ensure_future(self._listen())
        try:
            async with asyncio.timeout(timeout_s):
                while await self._look():
                    await self._await_event()
        finally:
            listening.cancel()

    async def _look(self) -> str:
        """What is not as wanted, all of it in one line."""
        try:
            reply = await self._source.ask({"command": "status", "resources": self._names})
        except NoAnswer as error:
            self.missing = str(error).rstrip(".?")
            await asyncio.sleep(RETRY_S)
            return self.missing
        entries: list[dict[str, Any]] = reply.get("resources") or []
        for entry in entries:
            if entry.get("error"):
                raise Failure(str(entry["error"]), int(entry.get("code") or EX_NOENTRY))
        if not entries:
            raise Failure("hastd has no resource.", EX_NOENTRY)
        self.missing = "; ".join(text for each in entries if (text := waiting.missing(self._conditions, each)))
        return self.missing

    async def _await_event(self) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._happened.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE_S)
        self._happened.clear()

    async def _listen(self) -> None:
        """Note each event; after the end of a hastd, ask the next one."""
        while True:
            try:
                async for _event in self._source.events():
                    self._happened.set()
            except NoAnswer:
                self._happened.set()
                await asyncio.sleep(RETRY_S)
