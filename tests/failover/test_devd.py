"""hast-devd as it runs: sources that come and go, actions in order with deadlines, the command itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from hast.cli.hast_devd import main
from hast.config.devdconf import parse
from hast.failover.commands import alive
from hast.failover.devd import sources
from hast.failover.devd.events import Event, link
from hast.failover.devd.runner import Runner, is_carpd, run_here
from hast.failover.devd.sources import follow_carpd, follow_hastd, link_changes

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
PROGRAM = (sys.executable, "-m", "hast.cli.hast_devd")


def runner_of(text: str, deadline_s: float = 10.0) -> Runner:
    return Runner(parse(text, "devd.conf").rules, partial(run_here, deadline_s))


def rule(action: str, conditions: str = "", priority: int = 10) -> str:
    return f'notify {priority} {{ {conditions} action "{action}"; }};\n'


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def test_events_of_one_subsystem_are_acted_on_in_order_and_others_beside_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = runner_of(
        rule(f"sleep 0.4; echo $type >> {out}", 'match "subsystem" "a";')
        + rule(f"echo $subsystem >> {out}", 'match "subsystem" "b";')
    )

    async def scenario() -> None:
        for kind in ("ONE", "TWO"):
            runner.take(link("a", kind))
        runner.take(link("b", "X"))
        await until(lambda: out.exists() and len(out.read_text().split()) == 3)

    asyncio.run(scenario())
    assert out.read_text().split() == ["b", "ONE", "TWO"]


def test_output_exit_codes_and_missing_commands_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hast")
    runner = runner_of(rule("echo one; echo two >&2; exit 3") + rule("/nowhere/x", 'match "type" "M";', 20))

    async def scenario() -> None:
        runner.take(link("a", "X"))
        runner.take(link("b", "M"))
        await until(lambda: sum(" after " in message for message in caplog.messages) == 2)

    asyncio.run(scenario())
    assert "echo: one" in caplog.messages
    assert "echo: two" in caplog.messages
    assert any("exit code 3" in message for message in caplog.messages)
    assert any("exit code 127" in message and "command not found" in message for message in caplog.messages)


def test_an_action_past_its_deadline_is_ended_with_its_children(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "hast")
    pid_file = tmp_path / "pid"
    runner = runner_of(rule(f"sleep 60 & echo $$! > {pid_file}; wait"), deadline_s=0.5)

    async def scenario() -> None:
        runner.take(link("a", "X"))
        await until(lambda: any("signal" in message for message in caplog.messages))

    asyncio.run(scenario())
    assert any("not done after" in message for message in caplog.messages)
    assert not alive(int(pid_file.read_text()))


def test_a_current_event_that_tells_nothing_new_is_passed_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = runner_of(rule(f"echo $type >> {out}"))

    async def scenario() -> None:
        runner.take(link("carp0", "LINK_UP"))
        runner.take(Event(link("carp0", "LINK_UP").variables, current=True))
        runner.take(Event(link("carp0", "LINK_DOWN").variables, current=True))
        await until(lambda: out.exists() and len(out.read_text().split()) == 2)
        await runner.drain(5)

    asyncio.run(scenario())
    assert out.read_text().split() == ["LINK_UP", "LINK_DOWN"]


def test_other_rules_change_nothing_of_what_was_acted_on_and_of_what_waits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = runner_of(rule(f"sleep 0.3; echo $type >> {out}"))

    async def scenario() -> None:
        for kind in ("ONE", "TWO"):
            runner.take(link("carp0", kind))
        runner.rules = runner_of(rule(f"echo new $type >> {out}")).rules
        runner.take(Event(link("carp0", "TWO").variables, current=True))
        runner.take(link("carp0", "THREE"))
        await until(lambda: out.exists() and len(out.read_text().splitlines()) == 3)
        await runner.drain(5)

    asyncio.run(scenario())
    assert out.read_text().splitlines() == ["ONE", "TWO", "new THREE"]


def test_what_carpd_said_last_is_acted_on_again_when_hastd_was_restarted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = runner_of(rule(f"echo $type >> {out}"))
    carp = Event({**link("carp0", "LINK_UP").variables, "vhid": "1"})

    async def scenario() -> None:
        runner.take(carp)
        runner.take(link("eth0", "LINK_DOWN"))
        await until(lambda: out.exists() and len(out.read_text().split()) == 2)
        runner.repeat(is_carpd)
        await until(lambda: len(out.read_text().split()) == 3)
        await runner.drain(5)

    asyncio.run(scenario())
    assert out.read_text().split()[2] == "LINK_UP"


def test_a_master_whose_carpd_is_gone_counts_as_down_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = runner_of(rule(f"echo $subsystem $type >> {out}"))

    async def scenario() -> None:
        runner.take(Event({**link("carp0", "LINK_UP").variables, "vhid": "1"}))
        runner.take(Event({**link("carp1", "LINK_DOWN").variables, "vhid": "2"}))
        await until(lambda: out.exists() and len(out.read_text().splitlines()) == 2)
        runner.carpd_gone()
        runner.carpd_gone()
        await until(lambda: len(out.read_text().splitlines()) == 3)
        await runner.drain(5)

    asyncio.run(scenario())
    assert out.read_text().splitlines()[2] == "carp0 LINK_DOWN"


def test_a_running_action_learns_of_a_newer_event_with_another_action(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "wait.py"
    script.write_text(
        "import os, select, sys\n"
        "fd = int(os.environ['HAST_DEVD_NEWER_FD'])\n"
        f"open({str(out)!r}, 'a').write('ready\\n')\n"
        f"open({str(out)!r}, 'a').write(str(bool(select.select([fd], [], [], 10)[0])) + '\\n')\n"
    )
    runner = runner_of(
        rule(f"{sys.executable} {script}", 'match "type" "LINK_UP";')
        + rule(f"echo slave >> {out}", 'match "type" "LINK_DOWN";')
    )

    async def scenario() -> None:
        runner.take(link("carp0", "LINK_UP"))
        await until(out.exists)
        runner.take(link("carp0", "LINK_UP"))
        await asyncio.sleep(0.2)
        assert out.read_text() == "ready\n"
        runner.take(link("carp0", "LINK_DOWN"))
        await until(lambda: "slave" in out.read_text(), 30)

    asyncio.run(scenario())


def test_a_flood_keeps_the_newest_events(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    runner = runner_of(rule(f"echo $type >> {out}"))

    async def scenario() -> None:
        for number in range(100):
            runner.take(link("a", f"T{number}"))
        await until(lambda: out.exists() and "T99" in out.read_text(), 30)

    asyncio.run(scenario())
    assert "the oldest is forgotten" in caplog.text
    assert out.read_text().split()[-1] == "T99"


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def followed(
    path: Path, follow: Callable[[str, Callable[[Event], None]], Awaitable[None]], serve: Serve, wanted: int
) -> list[Event]:
    """Follow a server that is started late; the first `wanted` events."""
    events: list[Event] = []
    task = asyncio.ensure_future(follow(str(path), events.append))
    await asyncio.sleep(0.05)
    server = await asyncio.start_unix_server(serve, path)
    await until(lambda: len(events) >= wanted)
    task.cancel()
    server.close()
    return events


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RETRY_S", 0.02)
    monkeypatch.setattr(sources, "CARPD_GRACE_S", 0.1)


def test_carpd_is_followed_across_restarts(tmp_path: Path) -> None:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(json.loads(await reader.readline()))
        writer.write(
            b'{"error": null}\n{"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP", "current": true}\n'
        )
        writer.write(b'{"system": 5}\n')
        await writer.drain()
        writer.close()

    events = asyncio.run(followed(tmp_path / "s", follow_carpd, serve, 3))
    assert all(event.current and event.variables["type"] == "LINK_UP" for event in events)
    assert requests[0] == {"command": "events", "current": True}


def test_bytes_that_are_no_stream_end_the_connection_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hast")
    answers = [b"garbage\n", b"[]\n", b"x" * 300_000, b'{"error": "no"}\n']

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answers.pop(0) if answers else b'{"system": "A", "subsystem": "b", "type": "C"}\n')
        writer.close()

    assert asyncio.run(followed(tmp_path / "s", follow_carpd, serve, 1))
    assert sum("is away" in message for message in caplog.messages) == 1


def test_hastd_is_asked_for_the_events_missed_and_for_all_after_its_restart(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []
    answers = [
        b'{"error": null, "seq": 5}\n{"seq": 6, "event": "connect", "resource": "disk1"}\n',
        b'{"error": null, "seq": 7}\n{"seq": 7, "event": "disconnect", "resource": "disk1"}\n',
        b'{"error": null, "seq": 2}\n',
        b'{"error": null, "seq": 2}\n{"seq": 2, "event": "split-brain", "resource": "disk1", "text": "t"}\n',
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(4096)
        asked.append(json.loads(request[request.index(b"{") : request.rindex(b"}") + 1]))
        if answers:
            writer.write(answers.pop(0))
        writer.close()

    events = asyncio.run(followed(tmp_path / "s", follow_hastd, serve, 3))
    assert [event.variables["type"] for event in events] == ["CONNECT", "DISCONNECT", "SPLIT_BRAIN"]
    assert [request.get("since") for request in asked[:4]] == [None, 6, 7, 0]


def test_a_new_hastd_is_noticed_by_its_process_and_a_lost_carpd_by_its_silence(tmp_path: Path) -> None:
    told: list[str] = []
    answers = [b'{"error": null, "seq": 5, "pid": 7}\n', b'{"error": null, "seq": 6, "pid": 8}\n']

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if answers:
            writer.write(answers.pop(0))
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "hastd")
        hastd = asyncio.create_task(
            follow_hastd(str(tmp_path / "hastd"), lambda _event: None, lambda: told.append("restarted"))
        )
        await until(lambda: told == ["restarted"])
        hastd.cancel()
        server.close()
        carpd = asyncio.create_task(
            follow_carpd(str(tmp_path / "carpd"), lambda _event: None, lambda: told.append("gone"))
        )
        await until(lambda: told == ["restarted", "gone"])
        carpd.cancel()

    asyncio.run(scenario())


def test_links_tell_changes_only() -> None:
    assert link_changes(None, {"eth0": True}) == []
    assert link_changes({"eth0": True}, {"eth0": True}) == []
    assert link_changes({"eth0": True, "eth1": False}, {"eth0": False, "eth2": True}) == [
        link("eth1", "DETACH"),
        link("eth0", "LINK_DOWN"),
        link("eth2", "ATTACH"),
        link("eth2", "LINK_UP"),
    ]


@pytest.mark.parametrize("user", ["", pytest.param("daemon", marks=as_root)])
def test_the_daemon_runs_actions_rereads_rules_and_ends(tmp_path: Path, user: str) -> None:
    conf, log, carpd, pid = (tmp_path / name for name in ("devd.conf", "log", "carpd.sock", "pid"))
    conf.write_text(rule(f"echo first $subsystem >> {tmp_path}/out", 'match "system" "IFNET";'))
    environment = {**os.environ, "HAST_SYSLOG": str(log), "HAST_DEVD_USER": user}
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"error": null}\n')
        writers.append(writer)
        await reader.read()

    async def scenario() -> None:
        server = await asyncio.start_unix_server(serve, carpd)
        command = [*PROGRAM, "-F", "-d", "-c", str(conf), "-P", str(pid), "--record", str(tmp_path / "events")]
        process = await asyncio.create_subprocess_exec(
            *command, "--carpd", str(carpd), "--hastd", str(tmp_path / "no"), env=environment
        )
        try:
            await until(lambda: bool(writers), 20)
            writers[0].write(b'{"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP"}\n')
            out = tmp_path / "out"
            await until(lambda: out.exists() and out.read_text() == "first carp0\n")
            conf.write_text("notify {")
            process.send_signal(signal.SIGHUP)
            await until(lambda: "rules not changed" in log.read_text())
            conf.write_text(rule(f"echo second >> {tmp_path}/out"))
            process.send_signal(signal.SIGHUP)
            await until(lambda: "read again" in log.read_text())
            writers[0].write(b'{"system": "IFNET", "subsystem": "carp0", "type": "LINK_DOWN"}\n')
            await until(lambda: out.read_text() == "first carp0\nsecond\n")
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            server.close()

    asyncio.run(scenario())
    assert not pid.exists()
    assert " hast-devd: " in log.read_text()
    assert [json.loads(line)["type"] for line in (tmp_path / "events").read_text().splitlines()] == [
        "LINK_UP",
        "LINK_DOWN",
    ]


def test_test_and_replay_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "devd.conf"
    conf.write_text(rule(f"touch {tmp_path}/ran"))
    assert main(["-t", "-c", str(conf)]) == 0
    recorded = tmp_path / "events"
    recorded.write_text("!system=IFNET subsystem=carp0 type=LINK_UP\n")
    assert main(["--replay", str(recorded), "-c", str(conf)]) == 0
    assert f"would run: touch {tmp_path}/ran" in capsys.readouterr().out
    assert not (tmp_path / "ran").exists()
    recorded.write_text("what?\n")
    assert main(["--replay", str(recorded), "-c", str(conf)]) == 65
    assert main(["--replay", str(tmp_path / "none"), "-c", str(conf)]) == 66
    conf.write_text("notify")
    assert main(["-t", "-c", str(conf)]) == 78
    assert main(["-t", "-c", str(tmp_path / "none")]) == 72
    for wrong in (["--what"], ["--deadline", "0"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 64


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    conf, pid = tmp_path / "devd.conf", tmp_path / "pid"
    conf.write_text("")
    sockets = ["--carpd", str(tmp_path / "a"), "--hastd", str(tmp_path / "b")]
    command = [*PROGRAM, "-F", "-c", str(conf), "-P", str(pid), *sockets]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not pid.exists() or not pid.read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = subprocess.run(command, capture_output=True, check=False, timeout=20)
        assert second.returncode == 75
        assert b"hast-devd is already running" in second.stderr
    finally:
        first.terminate()
        first.wait(20)
