"""The routes of the page in a thread of their own, with a source that a test has in its hands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from hast.watch.monitor.server import listen, make_application
from hast.watch.picture import Picture, read


class Scripted:
    """Answers with the report that `reply` makes."""

    def __init__(self, reply: Callable[[], dict[str, Any]]) -> None:
        self.reply = reply

    async def picture(self) -> Picture:
        return read(self.reply())

    async def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}


class PageServer:
    """As hast-monitor serves it; `stop` and `start` again on the same port."""

    def __init__(self, reply: Callable[[], dict[str, Any]], port: int = 0) -> None:
        self._reply, self.port = reply, port

    def start(self) -> PageServer:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20)
        return self

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        application = make_application(Scripted(self._reply))  # type: ignore[arg-type]
        runner, self.port = await listen(application, "127.0.0.1", self.port)
        ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"
