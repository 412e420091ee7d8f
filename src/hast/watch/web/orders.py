"""Hands what was ordered from the page on to hast-order(8), and tells what comes back. Orders nothing itself.

hast-monitor has no right to order: it reaches a socket behind which the token is wanted. That socket is there while an
administrator wants orders from the page; looking for the file of it wakes nobody.
"""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from hast.daemon import asking
from hast.daemon.conversation import ConversationError
from hast.daemon.logs import in_words
from hast.daemon.paths import order_socket
from hast.watch.web.decisions.admission import Way, refused, refused_way

CONNECT_S = 10.0
"""systemd may have to start it first."""
QUIET_S = 420.0
"""Between two lines: longer than any command may take."""
SEND_S = 10.0
READ_S = 10.0
MAX_ORDER_BYTES = 64 * 1024
MAX_ORDERS = 4
KEYS = ("token", "action", "targets", "seen", "typed")


def add_order_routes(application: web.Application, path: Path | None = None) -> None:
    """`path`: the socket of hast-order."""
    orders = _Orders(path or order_socket())
    application.on_shutdown.append(orders.close)
    application.router.add_get("/order", orders.tell)
    application.router.add_post("/order", orders.take)


class _Orders:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._under_way: set[asyncio.Task[Any]] = set()

    async def close(self, _application: web.Application) -> None:
        """Listen to none any more; what was ordered goes on."""
        for task in self._under_way:
            task.cancel()

    async def tell(self, request: web.Request) -> web.Response:
        """Whether whoever asks could order something, and why not."""
        return web.json_response({"there": self._is_there(), "refused": refused_way(_way(request))})

    async def take(self, request: web.Request) -> web.StreamResponse:
        if why := refused(_way(request)):
            raise web.HTTPForbidden(text=f"{why}\n")
        if not self._is_there():
            raise web.HTTPNotFound(text="Nothing can be ordered from this page: see hast-order(8).\n")
        if len(self._under_way) >= MAX_ORDERS:
            raise web.HTTPServiceUnavailable(text="Other orders are under way.\n")
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            order = await _read(request)
            return await self._hand_on(request, order | {"command": "order", "origin": str(request.remote or "")})
        finally:
            self._under_way.discard(task)

    def _is_there(self) -> bool:
        try:
            return stat.S_ISSOCK(self._path.stat().st_mode)
        except OSError:
            return False

    async def _hand_on(self, request: web.Request, order: dict[str, Any]) -> web.StreamResponse:
        """What comes back, as it comes. Whoever goes away meanwhile does not end what was begun."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson; charset=utf-8"})
        await response.prepare(request)
        try:
            async with aclosing(self._answers(order)) as lines:
                async for line in lines:
                    async with asyncio.timeout(SEND_S):
                        await response.write(line)
        except (ConnectionError, TimeoutError):
            pass
        return response

    async def _answers(self, order: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(asking.stream(str(self._path), order, CONNECT_S)) as lines:
                while True:
                    async with asyncio.timeout(QUIET_S):
                        line = await anext(lines, b"")
                    if not line:
                        return
                    yield line
        except (OSError, TimeoutError, ConversationError, ValueError) as error:
            text = f"hast-order does not answer: {in_words(error) or 'no answer in time'}; see its log"
            yield json.dumps({"result": "unknown", "text": text}).encode() + b"\n"


def _way(request: web.Request) -> Way:
    told = request.headers
    return Way(
        request.secure,
        str(request.remote or ""),
        told.get(hdrs.HOST, ""),
        told.get(hdrs.ORIGIN, ""),
        told.get("Sec-Fetch-Site", ""),
        request.content_type,
    )


async def _read(request: web.Request) -> dict[str, Any]:
    """The order, with nothing but its own keys."""
    if (request.content_length or MAX_ORDER_BYTES + 1) > MAX_ORDER_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_ORDER_BYTES, request.content_length or 0)
    try:
        async with asyncio.timeout(READ_S):
            found = json.loads(await request.read())
    except (ValueError, RecursionError):
        found = None
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="No whole order in time.\n") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(text="This is no order.\n")
    return {key: found.get(key) for key in KEYS}
