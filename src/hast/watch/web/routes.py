"""The page and what it listens to, as routes of hast-monitor(8). None of them orders anything itself.

/            the page                /page.css, /page.js, /order.js, /icon.svg
/view        what it shows, as JSON, once
/live        the same again and again, by server-sent events
/login       where a token is wanted
/order       hands an order on to hast-order(8) (orders.py)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from hast.watch.web.guard import Guard
from hast.watch.web.hub import Hub, Message, Observed, TooManyViewers
from hast.watch.web.known_names import KnownNames
from hast.watch.web.orders import add_order_routes
from hast.watch.web.view import document

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/order.js": ("order.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
SEND_S = 10.0
"""A browser that takes nothing for so long is let go."""
RETRY_MS = 1500
WRONG_TOKEN_S = 1.0
MAX_LOGIN_BYTES = 8192

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(application: web.Application, source: Observed, guard: Guard | None = None) -> Hub:
    """The hub ends with the application."""
    hub = Hub(source)

    async def close(_application: web.Application) -> None:
        await hub.close()

    application.on_shutdown.append(close)
    for path, (name, kind) in FILES.items():
        application.router.add_get(path, _file(STATIC / name, kind))
    application.router.add_get("/view", _view(source))
    application.router.add_get("/live", _live(hub))
    add_order_routes(application)
    if guard is not None and guard.has_token:
        application.router.add_get("/login", _file(STATIC / "login.html", "text/html"))
        application.router.add_post("/login", _login(guard))
    return hub


def _file(path: Path, kind: str) -> Answer:
    body = path.read_bytes()

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return serve


def _view(source: Observed) -> Answer:
    names = KnownNames()

    async def serve(_request: web.Request) -> web.Response:
        return web.json_response(document(names.put_into(await source.picture()), time.time()))

    return serve


def _live(hub: Hub) -> Answer:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            async with hub.viewer() as messages:
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
                await response.prepare(request)
                await response.write(f"retry: {RETRY_MS}\n\n".encode())
                async for message in messages:
                    async with asyncio.timeout(SEND_S):
                        await response.write(_worded(message))
        except TooManyViewers:
            raise web.HTTPServiceUnavailable(text="Too many look already.\n") from None
        except (ConnectionError, TimeoutError):
            pass
        return response

    return serve


def _worded(message: Message) -> bytes:
    """JSON has no line ends in it."""
    kind, data = message
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _login(guard: Guard) -> Answer:
    wrong_ones = asyncio.Semaphore(4)

    async def serve(request: web.Request) -> web.StreamResponse:
        if (request.content_length or MAX_LOGIN_BYTES + 1) > MAX_LOGIN_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_LOGIN_BYTES, request.content_length or 0)
        async with asyncio.timeout(SEND_S):
            given = str((await request.post()).get("token", ""))
        if not guard.is_token(given.strip()):
            async with wrong_ones:
                await asyncio.sleep(WRONG_TOKEN_S)
            raise web.HTTPSeeOther("/login?wrong")
        response = web.Response(status=303, headers={"Location": "/"})
        guard.admit(response, secure=request.secure)
        return response

    return serve
