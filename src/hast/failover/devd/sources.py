"""Where events come from: carpd's and hastd's streams and the kernel's network links.

Each source is a task that ends only when cancelled. A daemon that is away is asked for again every RETRY_S, with one
line in the log when it goes and one when it is back. Events missed meanwhile are made good: carpd tells the present
state, hastd those since the last one seen, links are looked at.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from hast.failover.devd.events import Event, EventError, from_hastd, from_object, link

Take = Callable[[Event], None]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[int | None], Awaitable[Stream]]
"""Opens a stream of events, those after this number first."""

RETRY_S = 0.5
CARPD_GRACE_S = 2.5
"""How long carpd may be away before its addresses count as lost; other hosts take them after 3 s."""
CONNECT_S = 5.0
MAX_LINE_BYTES = 128 * 1024
_log = logging.getLogger("hast.devd")


class StreamError(Exception):
    """A stream that cannot be used; `str()` is one line."""


async def open_carpd(path: str, since: int | None = None) -> Stream:
    """carpd's events, the present state first. Raises OSError, TimeoutError."""
    del since
    return await _opened(path, json.dumps({"command": "events", "current": True}).encode() + b"\n")


async def open_hastd(path: str, since: int | None = None) -> Stream:
    """hastd's events, those after number `since` first. Raises OSError, TimeoutError."""
    from hast.failover.hastd import encode_request

    request: dict[str, Any] = {"command": "events"} | ({} if since is None else {"since": since})
    return await _opened(path, encode_request(request))


async def _opened(path: str, request: bytes) -> Stream:
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
        writer.write(request)
        await writer.drain()
    return reader, writer


async def follow_carpd(
    path: str, take: Take, gone: Callable[[], None] = lambda: None, open_by: Open | None = None
) -> None:
    """Events of carpd (docs/carpd.8.md). `current` events come first, after every connect.

    `gone()` is called when carpd has been away for CARPD_GRACE_S. `open_by` opens the stream in place of `path`.
    """
    opened = open_by or partial(open_carpd, path)

    async def once(connected: Callable[[], None]) -> None:
        async for value in _lines(opened(None)):
            if "system" in value:
                _hand_over("carpd", from_object, value, take)
            elif value.get("error"):
                raise StreamError(f"refused: {value['error']}")
            else:
                connected()

    await _for_ever(f"carpd ({path})", once, gone, CARPD_GRACE_S)


async def follow_hastd(
    path: str, take: Take, restarted: Callable[[], None] = lambda: None, open_by: Open | None = None
) -> None:
    """Events of hastd (docs/control.md). Those missed while away are fetched; nothing from before the first connect.

    `restarted()` is called when a new hastd answers, which has given all its roles up.
    """
    opened = open_by or partial(open_hastd, path)
    seen: int | None = None
    pid: Any = None

    async def once(connected: Callable[[], None]) -> None:
        nonlocal seen, pid
        async for value in _lines(opened(seen)):
            if "event" in value:
                seen = value["seq"] if isinstance(value.get("seq"), int) else seen
                _hand_over("hastd", from_hastd, value, take)
            elif value.get("error"):
                raise StreamError(f"refused: {value['error']}")
            else:
                newest = value.get("seq")
                before, pid = pid, value.get("pid", pid)
                if seen is not None and isinstance(newest, int) and (newest < seen or before != pid):
                    seen = 0
                    restarted()
                    raise StreamError("was restarted")
                seen = newest if seen is None and isinstance(newest, int) else seen
                connected()

    await _for_ever(f"hastd ({path})", once)


async def follow_links(take: Take) -> None:
    """LINK_UP and LINK_DOWN of every interface, and ATTACH and DETACH as they come and go."""
    from hast.net.netlink import Netlink, NetworkError

    changed = asyncio.Event()
    changed.set()
    known: dict[str, bool] | None = None
    netlink = Netlink()
    await netlink.open(changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            try:
                links = {name: view.up for name, view in (await netlink.look()).items()}
            except NetworkError as error:
                _log.warning("network links: %s", error)
                await asyncio.sleep(RETRY_S)
                changed.set()
                continue
            for event in link_changes(known, links):
                take(event)
            known = links
    finally:
        await netlink.close()


def link_changes(known: dict[str, bool] | None, links: dict[str, bool]) -> list[Event]:
    """The events between two looks at the interfaces (name → up with carrier); none at the first look."""
    if known is None:
        return []
    events = [link(name, "DETACH") for name in known if name not in links]
    for name, up in links.items():
        if name not in known:
            events.append(link(name, "ATTACH"))
        if up is not known.get(name, False):
            events.append(link(name, "LINK_UP" if up else "LINK_DOWN"))
    return events


async def _for_ever(
    name: str,
    once: Callable[[Callable[[], None]], Any],
    gone: Callable[[], None] = lambda: None,
    grace_s: float = 0.0,
) -> None:
    """`gone()` is called once each time that the other side was lost and is not back within `grace_s`."""
    away = False
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    told_never = False

    def connected() -> None:
        nonlocal away
        if timer is not None:
            timer.cancel()
        if away or not told_never:
            _log.info("connected to %s", name)
        away = False

    while True:
        try:
            await once(connected)
            reason = "it closed the stream"
        except (OSError, StreamError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
        if not away:
            away = told_never = True
            timer = loop.call_later(grace_s, gone)
            _log.info("%s is away: %s; trying again", name, reason)
        await asyncio.sleep(RETRY_S)


async def _lines(opened: Awaitable[Stream]) -> AsyncIterator[dict[str, Any]]:
    reader, writer = await opened
    try:
        while line := await _line(reader):
            try:
                value = json.loads(line)
            except ValueError:
                raise StreamError(f"sent what is no JSON: {line[:60]!r}") from None
            if not isinstance(value, dict):
                raise StreamError(f"sent what is no object: {line[:60]!r}")
            yield value
    finally:
        writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise StreamError(f"sent a line of more than {MAX_LINE_BYTES} bytes") from None


def _hand_over(source: str, convert: Callable[[Any], Event], value: dict[str, Any], take: Take) -> None:
    try:
        event = convert(value)
    except EventError as error:
        _log.warning("%s sent an event that cannot be used: %s", source, error)
        return
    take(event)
