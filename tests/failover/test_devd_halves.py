"""hast-devd in two processes: what reads events has no rights, what runs actions takes no orders but the rules' own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hast.config.devd_model import Rule
from hast.config.devdconf import parse
from hast.daemon.notify import Notifier
from hast.daemon.privileges import seccomp
from hast.failover.devd.action_server import ActionServer
from hast.failover.devd.channel import rules_from_json, rules_to_json
from hast.failover.devd.events import Event
from hast.failover.devd.remote_actions import RemoteActions
from hast.failover.devd.runner import Newer
from hast.failover.devd.settings import Settings
from hast.worker import messages

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
PROGRAM = (sys.executable, "-m", "hast.cli.hast_devd")
USER = "daemon"
EVENT = b'{"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP"}\n'
RULES = """
notify 10 { match "system" "IFNET"; match "type" "LINK_UP"; action "%s"; };
"""


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


class FakeCarpd:
    """Tells one event to whoever asks for events."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        path.chmod(0o600)
        self._sock.listen()
        self._sock.settimeout(20)

    def accept(self) -> socket.socket:
        asking, _address = self._sock.accept()
        asking.settimeout(20)
        assert b"events" in asking.recv(1000)
        asking.sendall(b'{"error": null}\n')
        return asking

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def carpd(tmp_path: Path) -> Iterator[FakeCarpd]:
    made = FakeCarpd(tmp_path / "carpd.sock")
    yield made
    made.close()


def start(tmp_path: Path, action: str, *more: str) -> subprocess.Popen[bytes]:
    if "--actions" not in more:
        (tmp_path / "devd.conf").write_text(RULES % action)
    where = ["--carpd", tmp_path / "carpd.sock", "--hastd", tmp_path / "none", "--failover", ""]
    command = [*PROGRAM, "-F", "-c", tmp_path / "devd.conf", "-P", tmp_path / f"pid{len(more)}", *where, *more]
    return subprocess.Popen([str(each) for each in command], env={**os.environ, "HAST_DEVD_USER": USER})


def assert_without_rights(pid: int) -> None:
    found = status_of(pid)
    assert set(found["Uid"].split()) == {str(identity().uid)}
    assert {found[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"
    assert found["Groups"] == ""
    assert found["Seccomp"] == "2" or seccomp() is None


def identity() -> Any:
    from hast.daemon.privileges import identity

    found = identity(USER)
    assert found is not None
    return found


def test_what_reads_events_has_no_rights_and_actions_run_as_root(tmp_path: Path, carpd: FakeCarpd) -> None:
    out = tmp_path / "out"
    process = start(tmp_path, f"id -u > {out}; echo $subsystem >> {out}")
    try:
        with carpd.accept() as asking:
            assert_without_rights(process.pid)
            asking.sendall(EVENT)
            wait_for(lambda: out.exists() and out.read_text() == "0\ncarp0\n", "the action")
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "pid0").exists()


def test_an_action_goes_on_to_its_end_when_what_reads_events_is_killed(tmp_path: Path, carpd: FakeCarpd) -> None:
    out = tmp_path / "out"
    process = start(tmp_path, f"touch {out}.began; sleep 1; touch {out}")
    try:
        with carpd.accept() as asking:
            asking.sendall(EVENT)
            wait_for(Path(f"{out}.began").exists, "the action's begin")
    finally:
        process.kill()
        process.wait()
    wait_for(out.exists, "the action's end")


def test_two_services_with_a_socket_between(tmp_path: Path, carpd: FakeCarpd) -> None:
    """As systemd starts them; that it starts the one that reads events as another user is tried on a booted system."""
    out, door = tmp_path / "out", tmp_path / "actions.sock"
    behind = start(tmp_path, f"id -u > {out}", "--run-actions", str(door))
    try:
        wait_for(door.exists, "the socket of the service")
        process = start(tmp_path, "never read", "--actions", str(door), "-d")
        try:
            with carpd.accept() as asking:
                asking.sendall(EVENT)
                wait_for(lambda: out.exists() and out.read_text() == "0\n", "the action")
            behind.terminate()
            assert behind.wait(20) == 0
            assert process.wait(20) == 75, "without anybody to run actions it is of no use"
        finally:
            process.kill()
            process.wait()
    finally:
        behind.kill()
        behind.wait()
    assert not door.exists()


def test_a_stranger_is_not_served(tmp_path: Path) -> None:
    door = tmp_path / "actions.sock"
    behind = start(tmp_path, "true", "--run-actions", str(door))
    try:
        wait_for(door.exists, "the socket of the service")
        assert (door.stat().st_uid, door.stat().st_mode & 0o777) == (identity().uid, 0o600)
    finally:
        behind.send_signal(signal.SIGTERM)
        assert behind.wait(20) == 0


class Halves:
    """The half that runs actions in this process, and the test in the place of the other one."""

    def __init__(self, text: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = Settings(lambda: parse(text, "devd.conf"), "/none", "/none", 10.0, Notifier({}))
        self.server = ActionServer(theirs, settings)
        self.sock = ours
        self.task = asyncio.create_task(self.server.run())
        self._settings = settings

    async def ask(self, *sent: dict[str, Any], limit_s: float = 5.0) -> list[dict[str, Any]]:
        """What comes after the rules, until it ends the conversation or says nothing more for a moment."""
        for message in sent:
            messages.send(self.sock, message)
        self.sock.setblocking(False)
        heard: list[dict[str, Any]] = []
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s and len(heard) <= len(sent):
            try:
                message, _descriptors = messages.receive(self.sock)
            except BlockingIOError:
                await asyncio.sleep(0.02)
                continue
            if message is None:
                break
            heard.append(message)
        return heard

    async def close(self) -> None:
        self.sock.close()
        await asyncio.wait_for(self.task, 5)
        await self.server.drain(5)


def request(place: list[int], **variables: str) -> dict[str, Any]:
    return {"run": place, "id": 1, "event": {"system": "IFNET", "subsystem": "x", "type": "LINK_UP", **variables}}


def test_no_text_of_the_other_half_becomes_a_command(tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def scenario() -> None:
        halves = Halves(RULES % f"printf %s $subsystem > {out}")
        try:
            heard = await halves.ask(request([1, 0, 0], subsystem=f"$(touch {tmp_path}/bad); touch {tmp_path}/bad"))
            assert heard[-1] == {"done": 1, "code": 0}
        finally:
            await halves.close()

    asyncio.run(scenario())
    assert out.read_text().startswith("$(touch")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    "message",
    [
        request([1, 7, 0]),
        request([1, 0, 3]),
        request([1, 0, -1]),
        request([9, 0, 0]),
        {"run": "sh", "id": 1, "event": {}},
        {"command": "sh"},
        {"open": ["x"]},
    ],
)
def test_what_no_rule_says_ends_the_conversation(tmp_path: Path, message: dict[str, Any]) -> None:
    async def scenario() -> None:
        halves = Halves(RULES % f"touch {tmp_path}/ran")
        try:
            heard = await halves.ask(message)
            assert [next(iter(each)) for each in heard] == ["rules"]
            await asyncio.wait_for(halves.task, 5)
        finally:
            await halves.close()

    asyncio.run(scenario())
    assert not (tmp_path / "ran").exists()


def test_a_rule_is_not_run_for_an_event_that_it_does_not_accept(tmp_path: Path) -> None:
    async def scenario() -> None:
        halves = Halves(RULES % f"touch {tmp_path}/ran")
        try:
            assert (await halves.ask(request([1, 0, 0], type="LINK_DOWN")))[-1] == {"done": 1, "code": 127}
        finally:
            await halves.close()

    asyncio.run(scenario())
    assert not (tmp_path / "ran").exists()


def test_an_action_hears_that_something_newer_waits(tmp_path: Path) -> None:
    waiting = tmp_path / "waiting"
    waiting.write_text("import os\nassert len(os.read(int(os.environ['HAST_DEVD_NEWER_FD']), 8)) == 8\n")

    async def scenario() -> None:
        halves = Halves(RULES % f"{sys.executable} {waiting}")
        actions = RemoteActions(halves.sock)
        rules = (await actions.configuration()).rules
        newer = Newer()
        event = Event({"system": "IFNET", "subsystem": "x", "type": "LINK_UP"})
        running = asyncio.create_task(actions.execute(rules[0], 0, event, newer))
        await asyncio.sleep(0.2)
        assert not running.done()
        newer.say()
        assert await asyncio.wait_for(running, 10) == 0
        halves.sock.close()
        halves.task.cancel()

    asyncio.run(scenario())


def test_rules_arrive_as_they_were_read() -> None:
    rules: tuple[Rule, ...] = parse(
        RULES % "true" + 'attach 3 { device-name "x"; action "a"; action "b"; };', "f"
    ).rules
    assert rules_from_json(rules_to_json(rules)) == rules
