"""How the page is served: who is answered, what each browser is sent, and what a look costs. No browser, no hastd."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
from sights import SIGHTS, Sight

from daemon import DIES_WITH_THE_TESTS, free_port, wait_for
from hast.cli.hast_monitor import main
from hast.daemon.node_key import generate
from hast.watch.monitor.server import listen, make_application
from hast.watch.picture import Picture, unknown
from hast.watch.web import hub as hub_module
from hast.watch.web.guard import Guard, TokenError, read_token
from hast.watch.web.hub import MAX_VIEWERS, MAX_WAITING, Hub, TooManyViewers
from hast.watch.web.view import document

TOKEN = "a token of sixteen and more"


class Source:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_up = True
        self.fails = False
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def picture(self) -> Picture:
        self.asked += 1
        if self.fails:
            raise ValueError("not as it should be")
        now_s = time.time()
        return Sight(now_s).at(now_s) if self.is_up else unknown("hasta", "hastd does not answer")

    async def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.heard.get()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_S", 0.05), ("CALM_LOOK_S", 0.05), ("AFTER_EVENT_S", 0.0), ("LINGER_S", 0.1)):
        monkeypatch.setattr(hub_module, name, value)


def run(act: Callable[[Hub, Source], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        source = Source()
        hub = Hub(source)
        try:
            async with asyncio.timeout(10):
                await act(hub, source)
        finally:
            await hub.close()

    asyncio.run(all_of_it())


def test_one_look_serves_everybody_and_begins_and_ends_with_them() -> None:
    async def act(hub: Hub, source: Source) -> None:
        assert source.asked == 0
        async with hub.viewer() as first, hub.viewer() as second:
            for messages in (first, second):
                assert [(await anext(messages))[0] for _ in range(3)] == ["hello", "tick", "tick"]
            assert source.asked <= 5
        while hub.is_looking:
            await asyncio.sleep(0.01)
        asked = source.asked
        await asyncio.sleep(0.15)
        assert source.asked == asked

    run(act)


def test_who_comes_later_is_told_what_was_kept() -> None:
    async def act(hub: Hub, source: Source) -> None:
        async with hub.viewer() as first:
            for _ in range(4):
                await anext(first)
            async with hub.viewer() as second:
                kind, data = await anext(second)
        assert kind == "hello"
        assert len(json.loads(data)["history"]["points"]) >= 2

    run(act)


def test_a_browser_that_takes_nothing_is_let_go_and_the_others_stay() -> None:
    async def act(hub: Hub, source: Source) -> None:
        async with hub.viewer() as slow, hub.viewer() as quick:
            for _ in range(MAX_WAITING + 4):
                await anext(quick)
            assert [each async for each in slow] == []
            assert (await anext(quick))[0] == "tick"

    run(act)


def test_there_is_an_end_to_how_many_may_look() -> None:
    async def act(hub: Hub, source: Source) -> None:
        async with asyncio.TaskGroup() as group:

            async def look() -> None:
                async with hub.viewer():
                    await asyncio.sleep(0.2)

            for _ in range(MAX_VIEWERS):
                group.create_task(look())
            await asyncio.sleep(0.05)
            with pytest.raises(TooManyViewers):
                async with hub.viewer():
                    pass

    run(act)


def test_an_event_makes_the_next_look_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CALM_LOOK_S", 60.0)

    async def act(hub: Hub, source: Source) -> None:
        async with hub.viewer() as messages:
            await anext(messages)
            event = {"seq": 9, "time": time.time(), "event": "role", "resource": "disk1", "text": "new words"}
            source.heard.put_nowait(event)
            _kind, data = await anext(messages)
        assert json.loads(data)["timeline"][0]["text"] == "new words"

    run(act)


@pytest.mark.parametrize("name", [name for name in SIGHTS if name != "healthy"])
def test_a_pair_that_is_well_is_looked_at_less_often(name: str) -> None:
    calm, moving = (document(Sight(9e8, SIGHTS[each]).at(9e8), 9e8) for each in ("healthy", name))
    assert hub_module.until_next_look_s(moving) <= hub_module.LOOK_S
    assert hub_module.until_next_look_s(calm) == hub_module.CALM_LOOK_S


def test_without_hastd_the_last_picture_goes_on_as_stale() -> None:
    async def act(hub: Hub, source: Source) -> None:
        async with hub.viewer() as messages:
            await anext(messages)
            source.is_up = False
            stale: dict[str, Any] = {}
            while not stale.get("stale_since_s"):
                stale = json.loads((await anext(messages))[1])["view"]
            assert len(stale["resources"]) == 3

    run(act)


def test_an_answer_that_cannot_be_shown_does_not_end_the_looking() -> None:
    async def act(hub: Hub, source: Source) -> None:
        async with hub.viewer() as messages:
            source.fails = True
            while source.asked < 3:
                await asyncio.sleep(0.01)
            source.fails = False
            assert (await anext(messages))[0] == "hello"

    run(act)


# ---- who is answered ----


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:9457", True),
        ("[::1]:9457", True),
        ("localhost", True),
        ("HASTA.example:9457", True),
        ("192.168.1.10:9457", True),
        ("evil.example:9457", False),
        ("127.0.0.1.evil.example", False),
        ("hasta.evil.example", False),
        ("", False),
    ],
)
def test_only_our_own_names_are_answered(host: str, known: bool) -> None:
    assert Guard(("hasta", "hasta.example")).knows_name(host) is known


def test_the_token_is_admitted_as_bearer_and_as_cookie_and_nothing_else_is() -> None:
    guard = Guard((), TOKEN)
    response = aiohttp.web.Response()
    guard.admit(response, secure=True)
    cookie = response.cookies["hast-monitor"]
    assert guard.admits(f"Bearer {TOKEN}", "")
    assert guard.admits("", cookie.value)
    assert TOKEN not in cookie.value
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Strict", True)
    for authorization, value in (
        ("", ""),
        ("Bearer ", ""),
        (f"Basic {TOKEN}", ""),
        ("", TOKEN),
        ("", "é"),
        ("Bearer \udcff", "\udcff"),
    ):
        assert not guard.admits(authorization, value)
    assert not Guard((), TOKEN + "x").admits("", cookie.value)
    assert Guard().admits("", "")


def test_a_token_file_that_is_of_no_use_is_said(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(TokenError, match="No such file"):
        read_token(path)
    for content, words in ((b"short\n", "less than 16"), (b"\xff" * 20, "not ASCII")):
        path.write_bytes(content)
        with pytest.raises(TokenError, match=words):
            read_token(path)
    path.write_text(TOKEN + "\nmore\n")
    assert read_token(path) == TOKEN


async def served(guard: Guard, act: Callable[[Any, str], Awaitable[None]]) -> None:
    runner, port = await listen(make_application(Source(), guard), "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(20):
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                await act(session, f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    async def act(session: Any, url: str) -> None:
        for path in ("/", "/page.js", "/view", "/nowhere", "/metrics"):
            async with session.get(url + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"

    asyncio.run(served(Guard(), act))


def test_a_name_that_somebody_made_point_here_gets_no_answer() -> None:
    async def act(session: Any, url: str) -> None:
        for path in ("/", "/view", "/live", "/metrics"):
            async with session.get(url + path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 421
                assert "disk1" not in await answer.text()

    asyncio.run(served(Guard(), act))


def test_nothing_can_be_ordered() -> None:
    async def act(session: Any, url: str) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            for path in ("/", "/view", "/live", "/login", "/metrics"):
                async with session.request(method, url + path) as answer:
                    assert answer.status in (404, 405)

    asyncio.run(served(Guard(), act))


def test_with_a_token_nothing_is_told_before_it_is_given() -> None:
    async def act(session: Any, url: str) -> None:
        for path in ("/view", "/live", "/page.js", "/metrics"):
            async with session.get(url + path) as answer:
                assert answer.status == 401
        async with session.get(url + "/") as answer:
            assert answer.url.path == "/login"
        async with session.post(url + "/login", data={"token": "wrong"}) as answer:
            assert str(answer.url).endswith("/login?wrong")
        async with session.get(url + "/view", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert (await answer.json())["resources"][0]["name"] == "disk1"
        async with session.post(url + "/login", data={"token": TOKEN}) as answer:
            assert answer.url.path == "/"
        async with session.get(url + "/view") as answer:
            assert answer.status == 200

    asyncio.run(served(Guard((), TOKEN), act))


# ---- as a process ----


def test_it_serves_by_tls_with_a_token_and_stops_at_once_while_somebody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAST_STATE", str(tmp_path))
    monkeypatch.setenv("HAST_RUN", str(tmp_path))
    generate()
    (tmp_path / "token").write_text(TOKEN)
    port = free_port()
    options = ["-l", f"127.0.0.1:{port}", "--token-file", str(tmp_path / "token")]
    options += ["--certificate", str(tmp_path / "node.crt"), "--key", str(tmp_path / "node.key")]
    command = [*DIES_WITH_THE_TESTS, sys.executable, "-m", "hast.cli.hast_monitor", *options]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_for(lambda: "Serving on" in (tmp_path / "log").read_text(), "the monitor", 30)
    context = ssl.create_default_context(cafile=str(tmp_path / "node.crt"))
    context.check_hostname = False
    request = urllib.request.Request(f"https://127.0.0.1:{port}/live", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=15, context=context) as answer:
        lines = [answer.readline().decode() for _ in range(4)]
        process.terminate()
        assert process.wait(10) == 0
    assert lines[2] == "event: hello\n"
    assert "does not answer" in lines[3]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--certificate", "/nowhere"], "certificate /nowhere: No such file or directory"),
        (["--certificate", "/etc/passwd"], "certificate /etc/passwd:"),
        (["--key", "/etc/passwd"], "--key is of no use without --certificate"),
        (["--token-file", "/nowhere"], "token file /nowhere: No such file or directory"),
    ],
)
def test_a_file_that_is_of_no_use_is_said_in_one_line(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n")) == (78, 1)
    assert words in told
