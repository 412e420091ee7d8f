"""The HTTP side of hast-monitor(8): routes over one picture of both nodes, in one asyncio process (aiohttp).

A route belongs here when it answers from a picture; what the answer holds is made elsewhere (metrics.py).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from hast.watch.monitor.metrics import Exporter
from hast.watch.source import Source
from hast.watch.web.guard import Guard, middleware, put_headers
from hast.watch.web.routes import add_routes

MAX_REQUESTS = 64
"""Under way at once; who comes beyond that is told so."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_application(source: Source, guard: Guard | None = None) -> web.Application:
    """Everything that is served: metrics, and the page."""
    guard = guard or Guard()
    under_way = 0

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal under_way
        if under_way >= MAX_REQUESTS:
            raise web.HTTPServiceUnavailable(text="Too many requests are under way.\n")
        under_way += 1
        try:
            return await handler(request)
        finally:
            under_way -= 1

    application = web.Application(middlewares=[limit, middleware(guard)])
    application.on_response_prepare.append(put_headers)
    application.router.add_get("/metrics", _metrics(source))
    add_routes(application, source, guard)
    return application


async def listen(
    application: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, int]:
    """Serve until the runner is cleaned up; also returns the port. Raises OSError."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, host or None, port, ssl_context=tls).start()
    return runner, int(runner.addresses[0][1])


def _metrics(source: Source) -> Handler:
    """The page for Prometheus, which is answered whether hastd is or not."""
    exporter = Exporter()
    itself = CollectorRegistry()
    ProcessCollector(registry=itself)

    async def serve(request: web.Request) -> web.Response:
        page = exporter.page(await source.picture(), time.time())
        registry = CollectorRegistry(auto_describe=False)
        registry.register(page)
        registry.register(itself)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return serve
