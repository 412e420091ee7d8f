"""Orders over HTTP: by which way one is handed on to hast-order, what of it, and what never gets there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hast.daemon.conversation import receive_frame
from hast.daemon.sockets import bind_unix
from hast.format import nv
from hast.watch.monitor.server import listen, make_application
from hast.watch.picture import Picture, unknown
from hast.watch.web.decisions.admission import FOREIGN, FORM, PLAIN, Way, refused, refused_way
from hast.watch.web.guard import Guard

TOKEN = "a token of sixteen and more"
ORDER: dict[str, Any] = {"token": "t", "action": "leave", "targets": [], "seen": "0" * 64, "typed": ""}
LINES = b'{"line": "1. give it away", "of": "plan"}\n{"result": "done", "text": "handed over"}\n'
LOCAL = Way(False, "127.0.0.1", "127.0.0.1:9457", "http://127.0.0.1:9457", "same-origin", "application/json")
AFAR = Way(True, "192.0.2.9", "hasta:9457", "https://hasta:9457", "same-origin", "application/json")


def way(of: Way, **other: Any) -> Way:
    return Way(**{name: getattr(of, name) for name in Way.__dataclass_fields__} | other)


@pytest.mark.parametrize(
    "good",
    [
        LOCAL,
        AFAR,
        way(LOCAL, peer="::1", host="[::1]:9457", origin="http://[::1]:9457"),
        way(LOCAL, peer="::ffff:127.0.0.1", host="localhost:9457", origin="http://localhost:9457"),
        way(AFAR, fetch_site=""),
        way(AFAR, host="HASTA:9457", origin="https://hasta:9457"),
    ],
)
def test_an_order_from_our_own_page_over_a_way_that_nobody_reads_is_handed_on(good: Way) -> None:
    assert refused(good) == ""


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (way(AFAR, is_tls=False, origin="http://hasta:9457"), PLAIN),
        (way(LOCAL, peer="192.0.2.9"), PLAIN),
        (way(LOCAL, host="hasta:9457", origin="http://hasta:9457"), PLAIN),
        (way(LOCAL, host="127.0.0.1.evil.example", origin="http://127.0.0.1.evil.example"), PLAIN),
        (way(LOCAL, peer=""), PLAIN),
        (way(LOCAL, origin=""), FOREIGN),
        (way(LOCAL, origin="null"), FOREIGN),
        (way(LOCAL, origin="https://evil.example"), FOREIGN),
        (way(LOCAL, origin="http://127.0.0.1:8000"), FOREIGN),
        (way(LOCAL, origin="http://localhost:9457"), FOREIGN),
        (way(AFAR, origin="http://hasta:9457"), FOREIGN),
        (way(AFAR, host="", origin="https://"), FOREIGN),
        (way(LOCAL, fetch_site="cross-site"), FOREIGN),
        (way(LOCAL, fetch_site="same-site"), FOREIGN),
        (way(LOCAL, content_type="text/plain"), FORM),
        (way(LOCAL, content_type="application/x-www-form-urlencoded"), FORM),
    ],
)
def test_any_other_order_is_not(bad: Way, why: str) -> None:
    assert refused(bad) == why
    assert (refused_way(bad) == PLAIN) is (why == PLAIN)


class Source:
    async def picture(self) -> Picture:
        return unknown("hasta", "hastd does not answer")

    async def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}


class Service:
    """In the place of hast-order: keeps what came, answers with lines."""

    def __init__(self, path: Path) -> None:
        self.came: list[dict[str, Any]] = []
        self.lines = LINES
        self.is_hanging = False
        self._sock = bind_unix(str(path), 0o600)
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _address = await loop.sock_accept(self._sock)
            with client:
                message, _body = await receive_frame(client, 1 << 20, 5.0)
                self.came.append(json.loads(message.nv.get("json", nv.NvType.STRING) or ""))
                await loop.sock_sendall(client, self.lines)
                while self.is_hanging:
                    await asyncio.sleep(0.05)

    def close(self) -> None:
        """Only after what was answered has been read: an accepted connection would be lost."""
        self._task.cancel()
        self._sock.close()


Act = Callable[[Any, str, Path], Awaitable[None]]


def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act, token: str = "") -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))

    async def all_of_it() -> None:
        guard = Guard(("hasta",), token)
        runner, port = await listen(make_application(Source(), guard), "127.0.0.1", 0)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(20), aiohttp.ClientSession() as session:
                await act(session, f"http://127.0.0.1:{port}", tmp_path / "order.sock")
        finally:
            await runner.cleanup()

    asyncio.run(all_of_it())


def test_an_order_is_handed_on_with_its_own_keys_and_where_it_came_from_and_the_answer_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(session: Any, url: str, path: Path) -> None:
        service = Service(path)
        async with session.get(url + "/order") as answer:
            assert await answer.json() == {"there": True, "refused": ""}
        told = ORDER | {"command": "role", "origin": "made up", "role": "primary"}
        async with session.post(url + "/order", json=told, headers={"Origin": url}) as answer:
            assert (answer.status, await answer.read()) == (200, LINES)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert "Set-Cookie" not in answer.headers
        assert service.came == [ORDER | {"command": "order", "origin": "127.0.0.1"}]
        service.close()

    served(tmp_path, monkeypatch, act)


def test_what_does_not_come_from_the_page_never_gets_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(session: Any, url: str, path: Path) -> None:
        service = Service(path)
        port = url.rpartition(":")[2]
        for headers, status in (
            ({}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": url, "Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": f"http://hasta:{port}", "Host": f"hasta:{port}"}, 403),
            ({"Origin": "http://evil.example", "Host": "evil.example"}, 421),
        ):
            async with session.post(url + "/order", json=ORDER, headers=headers) as answer:
                assert answer.status == status, headers
        for body, status in ((b"{", 400), (b"[]", 400), (b"[" * 60_000, 400), (b"x" * 70_000, 413)):
            headers = {"Origin": url, "Content-Type": "application/json"}
            async with session.post(url + "/order", data=body, headers=headers) as answer:
                assert answer.status == status, body[:9]
        async with session.post(url + "/order", data=ORDER | {"targets": ""}, headers={"Origin": url}) as answer:
            assert answer.status == 403, "a form"
        async with session.get(url + "/order", headers={"Host": f"hasta:{port}"}) as answer:
            assert (await answer.json())["refused"] == PLAIN
        assert service.came == []
        service.close()

    served(tmp_path, monkeypatch, act)


def test_without_the_session_of_the_page_the_order_token_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(session: Any, url: str, path: Path) -> None:
        service = Service(path)
        for method in ("GET", "POST"):
            async with session.request(method, url + "/order", json=ORDER, headers={"Origin": url}) as answer:
                assert answer.status == 401
        assert service.came == []
        headers = {"Origin": url, "Authorization": f"Bearer {TOKEN}"}
        async with session.post(url + "/order", json=ORDER, headers=headers) as answer:
            assert (answer.status, await answer.read()) == (200, LINES)
        service.close()

    served(tmp_path, monkeypatch, act, TOKEN)


def test_the_monitor_ends_at_once_while_an_order_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))

    async def all_of_it() -> None:
        runner, port = await listen(make_application(Source()), "127.0.0.1", 0)  # type: ignore[arg-type]
        url = f"http://127.0.0.1:{port}"
        service = Service(tmp_path / "order.sock")
        service.is_hanging = True
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            async with session.post(url + "/order", json=ORDER, headers={"Origin": url}) as answer:
                assert await answer.content.readline()
                await runner.cleanup()
        service.close()

    asyncio.run(all_of_it())


def test_where_the_service_is_not_there_or_dies_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(session: Any, url: str, path: Path) -> None:
        async with session.get(url + "/order") as answer:
            assert await answer.json() == {"there": False, "refused": ""}
        async with session.post(url + "/order", json=ORDER, headers={"Origin": url}) as answer:
            assert answer.status == 404
        path.write_text("no socket")
        async with session.get(url + "/order") as answer:
            assert (await answer.json())["there"] is False
        path.unlink()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(path))
        async with session.post(url + "/order", json=ORDER, headers={"Origin": url}) as answer:
            told = json.loads(await answer.read())
        assert (told["result"], "Connection refused" in told["text"]) == ("unknown", True)

    served(tmp_path, monkeypatch, act)
