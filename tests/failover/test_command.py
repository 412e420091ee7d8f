"""The failover command against a control socket: log lines, exit codes, killed and overruled runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_hastd import FakeHastd

from hast.cli.failover import main
from hast.config.failover_model import Service
from hast.failover.build import Stages
from hast.failover.report import verdict
from hast.failover.services import UnitService

PROGRAM = (sys.executable, "-m", "hast.cli.failover")


class Node:
    """One node's configuration with a shell-made pool and service, and its log."""

    def __init__(self, tmp_path: Path, hastd: FakeHastd) -> None:
        self.directory = tmp_path
        self.conf = tmp_path / "failover.conf"
        self.hastd = hastd
        self.write(
            f'service pool {{ start "touch {tmp_path}/pool" stop "rm {tmp_path}/pool"',
            f'status "test -e {tmp_path}/pool" }}',
        )

    def write(self, *lines: str) -> None:
        head = f"resources disk1 disk2 disk3\ncontrol {self.hastd.path}\nwait 1\nrole-timeout 5\n"
        self.conf.write_text(head + "\n".join(lines) + "\n")

    def run(self, verb: str, *options: str) -> int:
        return main([verb, "-c", str(self.conf), *options])

    def spawn(self, verb: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*PROGRAM, verb, "-c", str(self.conf)], stderr=subprocess.PIPE)

    def log(self) -> list[str]:
        """Log lines from the tag on."""
        text = (self.directory / "debug.log").read_text()
        return [" ".join(line.split()[4:]) for line in text.splitlines()]

    def state(self) -> dict[str, object]:
        state = json.loads((self.directory / "run/failover.state").read_text())
        assert isinstance(state, dict)
        return state


@pytest.fixture
def node(tmp_path: Path, hastd: FakeHastd) -> Node:
    return Node(tmp_path, hastd)


def wait_for(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.01)


def test_master_then_slave_with_the_log_lines_of_the_article(node: Node) -> None:
    assert node.run("master") == 0
    assert set(node.hastd.roles.values()) == {"primary"}
    assert (node.directory / "pool").exists()
    assert node.log() == [
        "failover: Switching to primary provider for disk1 disk2 disk3.",
        "failover: Role for HAST resources disk1 disk2 disk3 switched to primary.",
        "failover: Service pool started.",
    ]
    assert node.run("slave") == 0
    assert set(node.hastd.roles.values()) == {"secondary"}
    assert not (node.directory / "pool").exists()
    assert node.log()[3:5] == [
        "failover: Switching to secondary provider for disk1 disk2 disk3.",
        "failover: Service pool stopped.",
    ]
    roles = [f"failover: Role switched to secondary for resource disk{n}." for n in (1, 2, 3)]
    assert sorted(node.log()[5:]) == roles


def test_a_second_master_changes_nothing(node: Node) -> None:
    assert node.run("master") == 0
    before = [request for request in node.hastd.requests if request["command"] == "role"]
    assert node.run("master") == 0
    assert [request for request in node.hastd.requests if request["command"] == "role"] == before


def test_a_refused_role_is_asked_again_while_the_peer_is_still_primary(node: Node) -> None:
    node.hastd.refusals = {"disk2": ["the peer is primary", "the peer is primary"]}
    assert node.run("master") == 0
    assert node.hastd.roles["disk2"] == "primary"


def test_an_outdated_copy_ends_master_at_once_with_the_articles_line(node: Node) -> None:
    node.hastd.refusals = {"disk2": ["this copy is outdated; the peer has newer data"] * 100}
    node.conf.write_text(node.conf.read_text().replace("role-timeout 5", "role-timeout 60"))
    started = time.monotonic()
    assert node.run("master") == 1
    assert time.monotonic() - started < 30
    assert "failover: Unable to change role to primary for resource disk2." in node.log()
    assert any("this copy is outdated" in line for line in node.log())
    assert not (node.directory / "pool").exists()
    assert node.run("slave") == 0


def test_a_device_that_does_not_appear_is_named(node: Node) -> None:
    node.hastd.with_devices = False
    assert node.run("master") == 1
    assert f"failover: GEOM provider {node.hastd.devices}/disk1 did not appear." in node.log()


def test_without_hastd_slave_still_stops_services_and_says_why_it_failed(node: Node) -> None:
    assert node.run("master") == 0
    node.hastd.close()
    assert node.run("slave") == 1
    assert not (node.directory / "pool").exists()
    assert "failover: Unable to switch role to secondary for resource disk1." in node.log()
    assert any("hastd does not run here" in line for line in node.log())


def test_plan_prints_and_does_nothing(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run("master", "--plan") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "1. role primary for resource disk1, at most 5 s"
    assert out[3].startswith("2. wait for ")
    assert [line.count("at most") for line in out] == [1] * len(out)
    assert set(node.hastd.roles.values()) == {"secondary"}
    assert node.run("slave", "--plan") == 0
    assert "role secondary for resource disk1, at most 5 s (already so)" in capsys.readouterr().out


def test_a_delay_is_planned_without_a_limit(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.write("delay 3")
    node.run("master", "--plan")
    assert "1. wait 3 s (delay)" in capsys.readouterr().out.splitlines()


def test_status_tells_the_last_run_and_the_truth(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run("status") == 0
    assert "No failover has run" in capsys.readouterr().out
    node.run("master")
    node.hastd.roles["disk3"] = "secondary"
    assert node.run("status", "--json") == 1
    status = json.loads(capsys.readouterr().out)
    assert status["last"]["verb"] == "master"
    assert status["last"]["phase"] == "done"
    assert status["parts"]["role disk1"] is True
    assert status["parts"]["role disk3"] is False
    assert (status["good"], status["wanted"], status["wrong"]) == (False, "master", ["role disk3"])
    assert node.run("status") == 1
    out = capsys.readouterr().out
    assert "State: master, not up: role disk3.\n" in out
    assert "role disk3: down" in out


def test_status_is_for_monitoring(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 when all is as the last run wanted it, or as the roles say where there was none."""
    node.hastd.roles["disk1"] = "primary"
    assert node.run("status") == 1
    assert "State: master, not up: role disk2, role disk3, " in capsys.readouterr().out
    node.hastd.roles["disk1"] = "secondary"
    for verb, other in (("master", "secondary"), ("slave", "primary")):
        assert node.run(verb) == 0
        assert node.run("status") == 0
        assert f"State: {verb}, as it should be." in capsys.readouterr().out
        node.hastd.roles["disk2"] = other
        assert node.run("status") == 1
        node.hastd.roles["disk2"] = "init"
        assert node.run("status") == 1
        assert "role disk2: neither up nor down" in capsys.readouterr().out
    node.write('service bad { start "exit 3" stop "true" }')
    assert node.run("master") == 1
    assert node.run("status") == 1
    assert "State: master, the last run failed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("phase", "text"), [("killed", "was killed"), ("gave way", "gave way"), ("failed", "failed"), (3, "has not ended")]
)
def test_a_last_run_that_was_not_done_is_no_good_state(phase: object, text: str) -> None:
    found = verdict({"verb": "slave", "phase": phase}, 0, Stages([]), {})
    assert not found.good
    assert str(found) == f"slave, the last run {text}"


@pytest.mark.parametrize(("state", "good"), [(False, True), (None, False), (True, False)])
def test_what_a_slave_could_not_take_down_is_no_trouble_once_it_is_down(state: bool | None, good: bool) -> None:
    last = {"verb": "slave", "phase": "failed", "failures": {"service web": "did not end within 60.0 s"}}
    assert verdict(last, 0, Stages([]), {}).good is False
    stages = Stages([])
    stages.add((UnitService(Service("web", unit="web.service")), frozenset()))
    assert verdict(last, 0, stages, {"service web": state}).good is good
    assert not verdict({**last, "verb": "master"}, 0, stages, {"service web": True}).good


def test_status_of_a_run_in_progress_is_75(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    started = node.directory / "started"
    node.write(f'service slow {{ start "touch {started}; sleep 3" stop "true" }}')
    running = node.spawn("master")
    wait_for(started.exists)
    assert node.run("status") == 75
    assert "State: master, a run is in progress." in capsys.readouterr().out
    assert running.wait(20) == 0
    assert node.run("status") == 0


def test_a_check_is_one_line_and_the_exit_codes_of_nagios(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run("master") == 0
    assert node.run("status", "--check") == 0
    good = capsys.readouterr().out
    assert good.startswith("FAILOVER OK - master, as it should be | parts=")
    node.hastd.roles["disk2"] = "secondary"
    assert node.run("status", "--check") == 2
    bad = capsys.readouterr().out
    assert bad.startswith("FAILOVER CRITICAL - master, not up: role disk2")
    assert bad.endswith(" wrong=1;;0;0\n")
    node.write("nonsense")
    assert node.run("status", "--check") == 3
    assert capsys.readouterr().out.startswith("FAILOVER UNKNOWN - ")


def test_a_failure_hook_learns_what_failed(node: Node) -> None:
    told = node.directory / "told"
    node.write(
        'service bad { start "exit 3" stop "true" }',
        f'hook failure "echo $HAST_FAILOVER_VERB: $HAST_FAILOVER_FAILURES > {told}"',
    )
    assert node.run("master") == 1
    assert told.read_text() == "master: service bad: sh: exit code 3\n"


def test_hooks_run_at_their_times(node: Node) -> None:
    times = ("before-master", "after-master", "before-slave", "after-slave")
    node.write(*(f'hook {when} "echo {when} >> {node.directory}/hooks"' for when in times))
    assert node.run("master") == 0
    assert node.run("slave") == 0
    assert tuple((node.directory / "hooks").read_text().split()) == times


def test_services_start_in_file_order_and_stop_in_reverse(node: Node) -> None:
    out = node.directory / "order"
    node.write(*(f'service {n} {{ start "echo +{n} >> {out}" stop "echo -{n} >> {out}" }}' for n in "abc"))
    assert node.run("master") == 0
    assert node.run("slave") == 0
    assert out.read_text().split() == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_a_master_in_progress_gives_way_to_a_later_slave(node: Node) -> None:
    node.hastd.with_devices = False
    node.conf.write_text(node.conf.read_text().replace("wait 1", "wait 60"))
    master = node.spawn("master")
    wait_for(lambda: "primary" in node.hastd.roles.values())
    started = time.monotonic()
    assert node.run("slave") == 0
    assert time.monotonic() - started < 30
    assert master.wait(15) == 75
    assert set(node.hastd.roles.values()) == {"secondary"}


def test_a_master_that_waits_for_hastd_gives_way_too(node: Node) -> None:
    node.hastd.delay_s = 30.0
    master = node.spawn("master")
    wait_for(lambda: any(request["command"] == "role" for request in node.hastd.requests))
    node.hastd.delay_s = 0.0
    assert node.run("slave") == 0
    assert master.wait(15) == 75


def test_a_slave_in_progress_gives_way_to_a_later_master(node: Node) -> None:
    started = node.directory / "stopping"
    node.write(f'service slow {{ start "true" stop "touch {started}; sleep 1" }}')
    assert node.run("master") == 0
    slave = node.spawn("slave")
    wait_for(started.exists)
    assert node.run("master") == 0
    assert slave.wait(15) == 75
    assert set(node.hastd.roles.values()) == {"primary"}


def test_a_master_beside_a_master_waits_and_finds_nothing_to_do(node: Node) -> None:
    ran = node.directory / "ran"
    node.write(f'service once {{ start "echo x >> {ran}; sleep 0.5" stop "true" status "test -e {ran}" }}')
    first = node.spawn("master")
    wait_for(ran.exists)
    assert node.run("master") == 0
    assert first.wait(15) == 0
    assert ran.read_text() == "x\n"


def test_a_run_killed_in_a_step_is_continued_by_the_next(node: Node) -> None:
    started = node.directory / "started"
    node.write(f'service slow {{ start "touch {started}; sleep 30" stop "true" timeout 60 }}')
    master = node.spawn("master")
    wait_for(started.exists)
    master.kill()
    master.wait()
    assert node.state()["phase"] == "running"
    assert node.run("slave") == 0
    assert set(node.hastd.roles.values()) == {"secondary"}


def test_a_run_stopped_with_sigstop_is_killed_when_it_does_not_give_way(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hast.failover.run.MARGIN_S", 0.1)
    node.hastd.with_devices = False
    node.write("")  # no part with a long timeout: so long the other run is waited for
    master = node.spawn("master")
    wait_for(lambda: "primary" in node.hastd.roles.values())
    master.send_signal(signal.SIGSTOP)
    assert node.run("slave") == 0
    assert master.wait(15) == -signal.SIGKILL
    assert set(node.hastd.roles.values()) == {"secondary"}


def test_sigterm_ends_a_run_at_the_next_safe_point(node: Node) -> None:
    node.hastd.with_devices = False
    node.conf.write_text(node.conf.read_text().replace("wait 1", "wait 60"))
    master = node.spawn("master")
    wait_for(lambda: "primary" in node.hastd.roles.values())
    master.terminate()
    assert master.wait(15) == 75
    assert node.state()["phase"] == "gave way"


def test_a_newer_event_of_hast_devd_makes_a_run_give_way(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setenv("HAST_DEVD_NEWER_FD", str(reader))
    os.write(writer, b"x")
    try:
        assert node.run("master") == 75
    finally:
        os.close(reader)
        os.close(writer)
    assert set(node.hastd.roles.values()) == {"secondary"}


@pytest.mark.parametrize("argv", [[], ["both"], ["master", "--what"]])
def test_wrong_usage_is_exit_64(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 64


def test_bad_files_have_their_exit_codes(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["master", "-c", str(node.directory / "none")]) == 72
    node.conf.write_text("pool {")
    assert node.run("master") == 78
    assert "failover.conf:1:6" in capsys.readouterr().err
    node.write()
    assert node.run("check") == 0


def test_a_mistake_in_the_file_does_not_keep_a_node_from_failing_over(
    node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    assert node.run("master") == 0
    node.conf.write_text("pool {")
    assert node.run("status") == 78
    capfd.readouterr()
    assert node.run("slave") == 0
    assert not (node.directory / "pool").exists()
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "failover.conf:1:6: found '{'; expected" in error
    assert error.endswith("What the last run read counts.\n")
    assert set(node.hastd.roles.values()) == {"secondary"}


def test_what_a_former_file_brought_up_is_shown_and_taken_down(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    made = node.directory / "other"
    other = f'service other {{ start "touch {made}" stop "rm {made}" status "test -e {made}" }}'
    node.write(other)
    assert node.run("master") == 0
    node.write()
    assert node.run("master") == 0
    assert made.exists()
    assert node.run("status") == 0
    assert "service other (former configuration): up" in capsys.readouterr().out
    assert node.run("slave", "--plan") == 0
    assert "service other (former configuration)" in capsys.readouterr().out
    assert node.run("slave") == 0
    assert not made.exists()
    assert node.run("status") == 0
    assert "former" not in capsys.readouterr().out


def test_a_resource_that_is_listed_no_longer_becomes_secondary_all_the_same(node: Node) -> None:
    assert node.run("master") == 0
    node.conf.write_text(node.conf.read_text().replace("disk1 disk2 disk3", "disk1 disk2"))
    del node.hastd.roles["disk2"]
    assert node.run("slave") == 1
    assert node.hastd.roles == {"disk1": "secondary", "disk3": "secondary"}
    node.conf.write_text(node.conf.read_text().replace("disk1 disk2", "disk1"))
    assert node.run("slave") == 0


def test_a_former_part_counts_as_wrong_on_a_slave_only(node: Node) -> None:
    made = node.directory / "other"
    node.write(f'service other {{ start "touch {made}" stop "exit 1" status "test -e {made}" }}')
    assert node.run("master") == 0
    node.write()
    assert node.run("status") == 0
    assert node.run("slave") == 1
    assert node.run("status") == 1
    made.unlink()
    assert node.run("slave") == 0
    assert node.run("status") == 0


def test_a_repair_does_nothing_when_something_else_was_asked(node: Node) -> None:
    assert node.run("slave", "--repair") == 75
    assert node.run("master") == 0
    assert node.run("slave", "--repair") == 75
    assert set(node.hastd.roles.values()) == {"primary"}
    (node.directory / "pool").unlink()
    assert node.run("master", "--repair") == 0
    assert (node.directory / "pool").exists()


def test_resources_all_are_asked_of_hastd_and_remembered(node: Node) -> None:
    text = node.conf.read_text().replace("resources disk1 disk2 disk3", "resources all")
    node.conf.write_text(text)
    assert node.run("master") == 0
    assert set(node.hastd.roles.values()) == {"primary"}
    node.hastd.close()
    assert node.run("slave") == 1
    assert not (node.directory / "pool").exists()
    (node.directory / "run/failover.state").unlink()
    assert node.run("slave") == 69


@pytest.mark.parametrize("first", ["master", "slave"])
@pytest.mark.parametrize("second", ["master", "slave"])
def test_a_run_that_dies_between_any_two_steps_is_made_good_by_the_next(node: Node, first: str, second: str) -> None:
    code = (
        "import os, sys\nfrom hast.cli.failover import main\nfrom hast.failover.state import RunFiles\n"
        "save, left = RunFiles.save, int(sys.argv[1])\n"
        "def dying(self, state):\n    global left\n    left -= 1\n    save(self, state)\n"
        "    if not left:\n        os.kill(os.getpid(), 9)\n"
        "RunFiles.save = dying\nmain(sys.argv[2:])\n"
    )
    for number in range(1, 6):
        assert node.run("slave" if first == "master" else "master") == 0
        died = subprocess.run([sys.executable, "-c", code, str(number), first, "-c", str(node.conf)], check=False)
        assert died.returncode in (0, -signal.SIGKILL)
        assert node.run(second) == 0
        up = second == "master"
        assert set(node.hastd.roles.values()) == {"primary" if up else "secondary"}
        assert (node.directory / "pool").exists() is up


def test_files_full_of_garbage_disturb_nothing(node: Node) -> None:
    assert node.run("master") == 0
    for name in ("failover.lock", "failover.wanted", "failover.state"):
        (node.directory / "run" / name).write_bytes(b"\xff{" * 100)
    assert node.run("slave") == 0
    assert node.run("status") == 0
    (node.directory / "run/failover.wanted").write_text('{"request": "many"}')
    (node.directory / "run/failover.state").write_text('{"started_s": "x", "failures": 3, "resources": 4}')
    assert node.run("status") == 0
    assert node.run("master") == 0


def test_a_run_directory_that_cannot_be_made_is_exit_71(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAST_RUN", "/proc/none")
    assert node.run("master") == 71
    assert "/proc/none cannot be made" in capsys.readouterr().err


def test_a_reader_that_is_gone_does_not_stop_a_run(node: Node) -> None:
    node.write('service bad { start "exit 3" stop "true" }')
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.Popen([*PROGRAM, "master", "-c", str(node.conf)], stderr=writer)
    os.close(writer)
    assert run.wait(30) == 1
    assert node.state()["phase"] == "failed"


def test_a_run_does_not_keep_its_own_directory_busy(node: Node) -> None:
    cwd = node.directory / "cwd"
    node.write(f'service look {{ start "pwd > {cwd}" stop "true" }}')
    done = subprocess.run([*PROGRAM, "master", "-c", "failover.conf"], cwd=node.directory, check=False)
    assert done.returncode == 0
    assert cwd.read_text() == "/\n"


def test_a_start_costs_little(node: Node) -> None:
    node.run("master")
    process = node.spawn("master")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_utime + used.ru_stime < 0.8
