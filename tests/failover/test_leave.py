"""`failover leave` against the sockets of a hastd and a carpd: exit codes, who is told what, how long it takes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hastd import FakeHastd

from hast.cli.failover import main
from hast.election.leaving import Job, Program
from hast.failover import console, jobs, leave

WHOLE = {"connected": True, "peer_whole": True}


class FakeCarpd:
    """Answers status with one vhid, and remembers what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = "MASTER"
        self.master: dict[str, Any] | None = None
        self.told: list[dict[str, Any]] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def commands(self) -> list[str]:
        return [request["command"] for request in self.told if request["command"] != "status"]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                request = json.loads(stream.readline())
                self.told.append(request)
                if request["command"] == "leave":
                    self.state = "BACKUP"
                stream.write(json.dumps(self._status()).encode() + b"\n")

    def _status(self) -> dict[str, Any]:
        vhid = {"vhid": 1, "interface": "pub", "state": self.state, "resources": ["disk1", "disk2", "disk3"]}
        return {"error": None, "vhids": [{**vhid, "master": self.master}]}


@pytest.fixture
def carpd(tmp_path: Path, hastd: FakeHastd) -> Iterator[FakeCarpd]:
    (tmp_path / "run").mkdir()
    fake = FakeCarpd(tmp_path / "run" / "carpd.sock")
    yield fake
    fake.close()


@pytest.fixture
def conf(tmp_path: Path, hastd: FakeHastd) -> Path:
    path = tmp_path / "failover.conf"
    pool = (
        f'service pool {{ start "touch {tmp_path}/pool" stop "rm {tmp_path}/pool" status "test -e {tmp_path}/pool" }}'
    )
    path.write_text(f"resources disk1 disk2 disk3\ncontrol {hastd.path}\nrole-timeout 3\n{pool}\n")
    return path


@pytest.fixture
def shouted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(leave, "shout", texts.append)
    return texts


@pytest.fixture
def master(hastd: FakeHastd, carpd: FakeCarpd, tmp_path: Path) -> FakeHastd:
    hastd.roles = dict.fromkeys(hastd.roles, "primary")
    hastd.told = dict(WHOLE)
    (tmp_path / "pool").touch()
    return hastd


def run(conf: Path, *options: str) -> int:
    return main(["leave", "-c", str(conf), *options])


def test_where_nothing_is_served_it_is_over_at_once(
    conf: Path, hastd: FakeHastd, carpd: FakeCarpd, capfd: pytest.CaptureFixture[str]
) -> None:
    carpd.state = "BACKUP"
    started = time.monotonic()
    assert run(conf, "--stopping", "hastd") == 0
    assert time.monotonic() - started < 1.0
    assert (carpd.commands(), capfd.readouterr().err) == ([], "")
    assert {request["command"] for request in hastd.requests} == {"status"}


def test_without_any_daemon_or_file_it_is_over_too(tmp_path: Path, hastd: FakeHastd) -> None:
    conf = tmp_path / "nothing.conf"
    conf.write_text(f"control {tmp_path}/nobody\n")
    assert run(conf) == 0


def test_a_master_hands_over_and_a_second_request_finds_nothing_to_do(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(conf) == 0
    assert "handed over" in capfd.readouterr().err
    assert set(master.roles.values()) == {"secondary"}
    assert not (tmp_path / "pool").exists()
    assert carpd.commands() == ["leave", "leave"]
    assert run(conf) == 0
    assert carpd.commands() == ["leave", "leave"]


def test_the_address_goes_before_the_services(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(leave, "SILENCE_S", 0.2)
    monkeypatch.setattr(leave.Leaving, "_take_down", lambda _self: seen.extend(carpd.commands()) or True)
    run(conf)
    assert seen == ["leave"]


def test_a_plan_tells_the_hand_over_in_order_and_moves_nothing(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(conf, "--plan") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "handed over:"
    assert out[1] == "1. give the virtual addresses to the other host, which begins at once"
    assert out[2].startswith("2. service pool: rm ")
    assert "role secondary for resource disk1" in out[3]
    assert out[-1].endswith("wait until the other host serves, at most 15 s")
    assert (carpd.commands(), set(master.roles.values())) == ([], {"primary"})
    assert (tmp_path / "pool").exists()
    carpd.path.unlink()
    assert run(conf, "--plan") == 2
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        "ended without a successor:",
        "1. say aloud: carpd does not answer: no other host is told to take over",
    ]


def test_without_a_whole_copy_it_stops_in_order_says_so_aloud_and_keeps_the_address(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, shouted: list[str]
) -> None:
    master.told = {"connected": False, "status": "degraded", "not_connected": {"since": 0, "reason": "refused"}}
    assert run(conf, "--stopping", "hastd") == 2
    assert set(master.roles.values()) == {"secondary"}
    assert carpd.commands() == []
    assert "hastd ends without a successor" in shouted[0]
    assert "disk1: the other node is not connected since" in shouted[0]


def test_a_role_that_cannot_be_given_up_is_named(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, capfd: pytest.CaptureFixture[str]
) -> None:
    master.refusals["disk2"] = ["device is busy"] * 9
    assert run(conf) == 1
    told = capfd.readouterr().err
    assert "role disk2: device is busy" in told
    assert "not everything could be taken down" in told


def test_nobody_took_over(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, shouted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave, "SILENCE_S", 0.2)
    monkeypatch.setattr(leave.Leaving, "_is_served_there", lambda *_: False)
    assert run(conf, "--stopping", "carpd") == 2
    assert "no other host has taken over yet" in shouted[0]


@pytest.mark.parametrize(
    "failed", [{"stale": True}, {"problems": [{"kind": "disk", "text": "The local disk failed."}]}]
)
@pytest.mark.parametrize("heard", [True, False])
def test_a_host_whose_own_disk_failed_is_told_of_its_successor_by_carpd(
    conf: Path,
    master: FakeHastd,
    carpd: FakeCarpd,
    monkeypatch: pytest.MonkeyPatch,
    heard: bool,
    failed: dict[str, Any],
) -> None:
    """As a secondary it has no copy to connect."""
    monkeypatch.setattr(leave, "SILENCE_S", 0.5)
    master.told = WHOLE | failed
    take_down = leave.Leaving._take_down

    def take_down_and_lose(leaving: leave.Leaving) -> bool:
        done = take_down(leaving)
        master.told = {"connected": False}
        carpd.master = {"address": "10.10.10.182", "ago_s": 0.1} if heard else None
        return done

    monkeypatch.setattr(leave.Leaving, "_take_down", take_down_and_lose)
    assert run(conf) == (0 if heard else 2)


def test_a_restart_of_carpd_keeps_everything_and_tells_carpd(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave, "jobs", lambda: {Program.CARPD: Job.RESTART})
    assert run(conf, "--stopping", "carpd") == 0
    assert carpd.commands() == ["keep"]
    assert set(master.roles.values()) == {"primary"}


def test_without_failover_conf_the_rules_of_hast_devd_are_waited_for(
    conf: Path, master: FakeHastd, carpd: FakeCarpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave, "DEFAULT_CONTROL", str(master.path))
    conf.unlink()

    def rules() -> None:
        while not carpd.commands():
            time.sleep(0.01)
        master.roles = dict.fromkeys(master.roles, "secondary")

    thread = threading.Thread(target=rules, daemon=True)
    thread.start()
    assert run(conf) == 0
    thread.join(5)


def test_nothing_takes_longer_than_the_deadline(conf: Path, master: FakeHastd, carpd: FakeCarpd) -> None:
    conf.write_text(conf.read_text() + 'service slow { stop "sleep 30" status "true" }\n')
    started = time.monotonic()
    assert run(conf, "--deadline", "1") in (0, 1, 2)
    assert time.monotonic() - started < 10


def test_jobs_of_systemd_tell_a_restart_from_a_stop() -> None:
    lines = [
        "701 hastd.service        stop        waiting",
        " 702 carpd.service try-restart running",
        "703 hast-devd.service start waiting",
        "704 ssh.service restart waiting",
        "No jobs running.",
        "",
    ]
    assert jobs.parse(lines) == {Program.HASTD: Job.STOP, Program.CARPD: Job.RESTART}


def test_nothing_is_shouted_where_systemd_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "RUNNING", tmp_path / "no")
    monkeypatch.setattr(console.subprocess, "run", lambda *_a, **_k: pytest.fail("wall was called"))
    console.shout("text")
