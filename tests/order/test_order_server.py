"""The service as hast-monitor meets it: a real socket, real programs, and a socket of hastd that answers reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sights import SIGHTS, Sight

from daemon import DIES_WITH_THE_TESTS, wait_for
from hast.daemon import activation, asking
from hast.daemon.conversation import receive_frame, send_frame
from hast.daemon.sockets import bind_unix
from hast.format import control, frame
from hast.format.constants import PROTOCOL_VERSION
from hast.order import secret
from hast.order import server as server_module
from hast.order.diary import MESSAGE_ID, Diary
from hast.order.server import OrderServer, Settings
from hast.watch.picture import read
from hast.watch.source import Source
from hast.watch.web.plans import plans_of

JSON = ("{", "[" * 60_000, "1e999", "null", '{"command": "order", "targets": [[]]}', '"\\ud800"')
Act = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A service, the hastd that it asks, the journal that it writes to; `ran` is what was started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sight = "healthy"
        self.ran: list[list[str]] = []
        self.script = "echo moved; exit 0"
        self.plan_script = "echo 1. give it away"
        self.token = secret.make(directory / "token")
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.bind(str(directory / "journal"))
        self.journal.setblocking(False)

    def command(self, words: Sequence[str]) -> list[str]:
        self.ran.append(list(words))
        return [*DIES_WITH_THE_TESTS, "/bin/sh", "-c", self.plan_script if words[-1] == "--plan" else self.script]

    def report(self) -> dict[str, Any]:
        now_s = time.time()
        return Sight(now_s, SIGHTS[self.sight]).report(now_s)

    def order(self, action: str = "leave", **other: Any) -> dict[str, Any]:
        plan = next(each for each in plans_of(read(self.report())) if (each["order"] or {}).get("action") == action)
        told = {"targets": plan["order"]["targets"], "seen": plan["fingerprint"], "typed": plan["order"]["type"]}
        return {"command": "order", "action": action, "token": self.token, "origin": "192.0.2.7", **told, **other}

    async def ask(self, order: Any) -> list[dict[str, Any]]:
        async with asyncio.timeout(20):
            return [json.loads(each) async for each in asking.stream(str(self.directory / "order"), order, 2.0)]

    async def refused(self, order: Any, words: str) -> None:
        told = await self.ask(order)
        assert told[-1]["result"] == "refused", told
        assert words in told[-1]["text"]

    def noted(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                lines = self.journal.recv(65536).decode().splitlines()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in lines))


async def answer_reports(bench: Bench, sock: socket.socket) -> None:
    """As observe.sock does."""
    loop = asyncio.get_running_loop()
    while True:
        client, _address = await loop.sock_accept(sock)
        with client:
            await receive_frame(client, 1 << 20, 5.0)
            await send_frame(client, control.json_reply(json.dumps(bench.report())), 5.0)


def run(directory: Path, act: Act, idle_s: float | None = None) -> Bench:
    bench = Bench(directory)

    async def all_of_it() -> None:
        hastd, listening = (bind_unix(str(directory / name), 0o600) for name in ("hastd", "order"))
        settings = Settings(
            directory / "token",
            Source(str(directory / "hastd"), keep_s=0.0),
            bench.command,
            Diary(str(directory / "journal")),
            wrong_token_s=0.0,
        )
        stop = asyncio.Event()
        answering = asyncio.create_task(answer_reports(bench, hastd))
        serving = asyncio.create_task(OrderServer(settings).serve(listening, stop, idle_s))
        try:
            async with asyncio.timeout(30):
                await act(bench)
                stop.set()
                await serving
        finally:
            answering.cancel()
            for each in (hastd, listening, bench.journal):
                each.close()

    asyncio.run(all_of_it())
    return bench


def test_an_order_is_planned_carried_out_told_line_by_line_and_noted(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        assert await bench.ask(bench.order()) == [
            {"line": "1. give it away", "of": "plan"},
            {"line": "failover leave", "of": "command"},
            {"line": "moved", "of": "output"},
            {"result": "done", "text": "handed over, or nothing was here to hand over"},
        ]
        assert bench.ran == [["failover", "leave", "--plan"], ["failover", "leave"]]
        begun, done = bench.noted()
        assert (begun["HAST_RESULT"], done["HAST_RESULT"], done["HAST_EXIT_CODE"]) == ("begun", "done", "0")
        assert (begun["HAST_ACTION"], begun["HAST_ORIGIN"], begun["MESSAGE_ID"]) == ("leave", "192.0.2.7", MESSAGE_ID)
        assert (begun["HAST_CLIENT_UID"], begun["HAST_CLIENT_PID"]) == (str(os.geteuid()), str(os.getpid()))
        assert bench.token not in str(begun) + str(done)

    run(tmp_path, act)


def test_a_wrong_token_is_refused_and_noted_and_soon_none_is_looked_at(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        for given in ("", "wrong", bench.token[:-1], bench.token + "x", "\ud800"):
            await bench.refused(bench.order(token=given), "The token is wrong.")
        await bench.refused(bench.order(), "Too many wrong tokens")
        for _ in range(5):
            await bench.refused(bench.order(), "Too many wrong tokens")
        noted = [(each["HAST_RESULT"], each["HAST_TEXT"].partition(":")[0]) for each in bench.noted()]
        assert noted == [("refused", "The token is wrong."), ("refused", "Too many wrong tokens")], "none fills the log"
        assert bench.ran == []

    run(tmp_path, act)


def test_without_a_token_file_or_with_one_that_others_may_read_nothing_can_be_ordered(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        path = bench.directory / "token"
        path.chmod(0o640)
        await bench.refused(bench.order(), "is not a file of root's alone")
        path.write_text("a token as it is\n")
        path.chmod(0o600)
        await bench.refused(bench.order(token="a token as it is"), "holds no token")
        path.unlink()
        await bench.refused(bench.order(), "No such file")
        path.symlink_to(bench.directory / "elsewhere")
        await bench.refused(bench.order(), "symbolic links")
        assert bench.ran == []

    run(tmp_path, act)


def test_a_new_token_ends_the_former_one_at_once(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        former, bench.token = bench.token, secret.make(bench.directory / "token")
        await bench.refused(bench.order(token=former), "The token is wrong.")
        assert (await bench.ask(bench.order()))[-1]["result"] == "done"
        assert (bench.directory / "token").stat().st_mode & 0o777 == 0o600
        assert bench.token not in (bench.directory / "token").read_text()

    run(tmp_path, act)


def test_a_stale_plan_a_foreign_action_and_what_is_no_order_are_refused(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        shown = bench.order()
        bench.sight = "degraded"
        await bench.refused(shown, "has changed since the plan was shown")
        await bench.refused({**shown, "action": "wipe"}, "cannot be ordered")
        await bench.refused({**shown, "action": "detach", "targets": ["--force"]}, "No name")
        for nothing in (7, None, [], {"command": "role", "role": "primary", "resources": ["all"]}):
            await bench.refused(nothing, "This is no order.")
        bench.sight = "resync"
        await bench.refused(bench.order(), "hastb has no whole copy")
        bench.sight = "split-brain"
        await bench.refused(bench.order("let-go", typed="disk2"), "disk1 has to be typed")
        assert bench.ran == []

    run(tmp_path, act)


def test_what_the_command_itself_would_refuse_is_not_begun(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.plan_script = "echo no successor; exit 2"
        told = await bench.ask(bench.order())
        assert told[0] == {"line": "no successor", "of": "plan"}
        assert told[-1]["text"] == "Nothing was done: it would be refused, as its plan above says."
        assert bench.ran == [["failover", "leave", "--plan"]]

    run(tmp_path, act)


def test_a_command_that_failed_is_told_as_failed(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.script = "echo pool is busy >&2; exit 1"
        told = await bench.ask(bench.order())
        assert told[-2:] == [
            {"line": "pool is busy", "of": "output"},
            {"result": "failed", "text": "something could not be taken down"},
        ]
        assert bench.noted()[-1]["PRIORITY"] == "3"

    run(tmp_path, act)


def test_one_order_at_a_time_and_it_goes_on_when_who_gave_it_is_gone(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.script = f"read line <{bench.directory}/gate; echo through > {bench.directory}/trace"
        os.mkfifo(bench.directory / "gate")
        lines = asking.stream(str(bench.directory / "order"), bench.order(), 2.0)
        while json.loads(await anext(lines)).get("of") != "command":
            pass
        await bench.refused(bench.order(), "Another order is under way: leave.")
        await lines.aclose()
        (bench.directory / "gate").write_text("now\n")
        while "done" not in [each["HAST_RESULT"] for each in bench.noted()]:
            await asyncio.sleep(0.01)
        assert (bench.directory / "trace").read_text() == "through\n"

    run(tmp_path, act)


def test_a_command_that_does_not_end_in_time_is_said_to_go_on_and_keeps_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = server_module.judge

    def hasty(*told: Any) -> Any:
        order = judged(*told)
        object.__setattr__(order, "limit_s", 0.05)
        return order

    monkeypatch.setattr(server_module, "judge", hasty)

    async def act(bench: Bench) -> None:
        os.mkfifo(bench.directory / "gate")
        bench.script = f"read line <{bench.directory}/gate"
        told = await bench.ask(bench.order())
        assert (told[-1]["result"], "it goes on" in told[-1]["text"]) == ("unfinished", True)
        await bench.refused(bench.order(), "Another order is under way")
        (bench.directory / "gate").write_text("now\n")
        noted: list[dict[str, str]] = []
        while not any("after its time" in each["HAST_TEXT"] for each in noted):
            await asyncio.sleep(0.01)
            noted += bench.noted()

    run(tmp_path, act)


def test_a_flood_of_words_is_cut_and_the_command_is_not_held_up_by_it(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.script = "head -c 3000000 /dev/zero | tr '\\0' x; seq 100000; printf '\\033[2Jlast'"
        told = await bench.ask(bench.order())
        assert told[-1]["result"] == "done"
        assert len(told) < 210
        assert max(len(each.get("line", "")) for each in told) <= 400
        assert all(each.get("line", "").isprintable() for each in told)

    run(tmp_path, act)


def test_bytes_that_are_no_request_end_their_connection_and_nothing_else(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        framed = [b"".join(map(bytes, frame.encode(PROTOCOL_VERSION, control.json_request(text)))) for text in JSON]
        for raw in (b"", b"\xff" * 64, b"\2\xff\xff\xff\xff", *framed):
            reader, writer = await asyncio.open_unix_connection(str(bench.directory / "order"))
            writer.write(raw)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                assert b"done" not in await reader.read()
            writer.close()
        assert bench.ran == []
        assert (await bench.ask(bench.order()))[-1]["result"] == "done"

    run(tmp_path, act)


def test_it_ends_when_idle_but_not_while_wrong_tokens_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "POLL_S", 0.02)
    settings = Settings(tmp_path / "token", Source(str(tmp_path / "none")), list, Diary(str(tmp_path / "none")), 0.0)
    token = secret.make(tmp_path / "token")

    async def act(given: str) -> bool:
        server = OrderServer(settings)
        with bind_unix(str(tmp_path / "order"), 0o600) as listening:
            serving = asyncio.create_task(server.serve(listening, asyncio.Event(), 0.1))
            order = {"command": "order", "token": given, "action": "leave", "targets": [], "seen": "", "typed": ""}
            async with asyncio.timeout(10):
                async for _line in asking.stream(str(tmp_path / "order"), order | {"origin": ""}, 2.0):
                    pass
            await asyncio.wait((serving,), timeout=0.6)
            is_over = serving.done()
            serving.cancel()
            return is_over

    assert asyncio.run(act(token))
    assert not asyncio.run(act("wrong"))


def test_sockets_that_systemd_hands_over_are_for_this_process_alone() -> None:
    assert activation.handed_over({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert activation.handed_over({}) == []


ACTIVATE = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1] + ".new")
sock.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "HAST_RUN": os.path.dirname(sys.argv[1])}
os.execv(sys.executable, [sys.executable, "-m", "hast.cli.hast_order", "--token-file", sys.argv[2]])
"""


def test_as_a_process_it_takes_the_socket_of_systemd_and_ends_in_order(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "hast.cli.hast_order", "--make-token", "--token-file", str(tmp_path / "token")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    command = [*DIES_WITH_THE_TESTS, sys.executable, "-c", ACTIVATE, str(tmp_path / "order"), str(tmp_path / "token")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_for((tmp_path / "order").exists, "the socket")
    order = {"command": "order", "token": made.stdout.strip(), "action": "leave", "targets": []}
    order |= {"seen": "", "typed": ""}

    async def ask() -> list[dict[str, Any]]:
        path = str(tmp_path / "order")
        async with asyncio.timeout(30):
            return [json.loads(each) async for each in asking.stream(path, order | {"origin": "here"}, 5.0)]

    (told,) = asyncio.run(ask())
    assert told["result"] == "refused"
    assert "hastd does not answer" in told["text"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
