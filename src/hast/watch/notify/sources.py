"""What is read: hastd's events, over its restarts and ours, and what failover(8) wrote last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.daemon.record_file import read_object
from hast.watch.source import NoAnswer, Source

RETRY_S = 1.0
HEAD_S = 10.0
_log = logging.getLogger("hast.notify")


@dataclass(slots=True)
class Place:
    """How far the events of hastd were read; kept over restarts."""

    seq: int | None = None
    pid: int = 0
    time_s: float = 0.0


async def follow(
    source: Source, place: Place, take: Callable[[dict[str, Any]], None], lost: Callable[[int], None]
) -> None:
    """Hand every event to `take`, until cancelled. `lost(n)`: so many were forgotten before they were read."""
    away = ""
    while True:
        try:
            await _follow_once(source, place, take, lost)
            reason = "read anew"
        except (NoAnswer, TimeoutError) as error:
            reason = str(error) or "hastd does not answer in time."
            if reason != away:
                _log.info("%s Trying again.", reason)
            await asyncio.sleep(RETRY_S)
        away = reason


async def _follow_once(
    source: Source, place: Place, take: Callable[[dict[str, Any]], None], lost: Callable[[int], None]
) -> None:
    """One connection; raises NoAnswer at its end, and returns where events are to be asked for anew.

    After a restart of hastd all that it remembers is read, and what was read before is known by its time and left out:
    the numbers may have begun anew.
    """
    pid, newest = await _head(source.stream())
    since = newest if place.seq is None else place.seq
    if since and place.seq is not None and (pid != place.pid or newest < since):
        since = 0
    place.seq, place.pid = newest if place.seq is None else min(place.seq, newest), pid
    async with aclosing(source.stream(since)) as lines:
        if int((await anext(lines)).get("pid") or 0) != pid:
            return
        expected = since + 1 if since else None
        begins = since == 0
        async for event in lines:
            seq, time_s = event.get("seq"), event.get("time")
            if not isinstance(seq, int) or not isinstance(time_s, (int, float)):
                continue
            missing = seq - expected if expected is not None else 0
            expected = seq + 1
            if since == 0 and (time_s, seq) <= (place.time_s, place.seq or 0):
                begins = False
                continue
            if missing > 0 or (begins and seq > 1):
                lost(missing)
            begins = False
            place.seq, place.time_s = seq, float(time_s)
            take(event)


async def _head(lines: AsyncGenerator[dict[str, Any], None]) -> tuple[int, int]:
    """Process and last event of hastd. Raises NoAnswer."""
    async with aclosing(lines), asyncio.timeout(HEAD_S):
        head = await anext(lines)
    return int(head.get("pid") or 0), int(head.get("seq") or 0)


def last_run(path: Path) -> dict[str, Any]:
    """What failover(8) wrote last; empty where it never ran, or cannot be read."""
    return read_object(path) or {}
