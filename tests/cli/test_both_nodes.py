"""hastctl on both nodes at once: status --both and --check, wait. Two real hastd with keys. No root."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import Pair, io, needs_qemu_io

from daemon import Daemon, wait_for
from hast.cli.hastctl import run

pytestmark = needs_qemu_io


def begin(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hast.cli.hastctl", *arguments]
    return subprocess.Popen(command, env=daemon.environment, stdout=-1, stderr=-1, text=True, stdin=-3)


def test_the_state_of_both_nodes_is_shown_checked_and_waited_for_while_one_goes_and_comes_back(secure: Pair) -> None:
    one, two = secure.both
    shown = one.hastctl("status", "--both")
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert (rows["role"], rows["status"]) == (["primary", "secondary"], ["complete", "complete"])
    assert "problem" not in shown.stdout
    told = json.loads(one.hastctl("status", "--both", "--json", "disk1").stdout)
    assert (told["peers"][0]["node"]["resources"][0]["role"], told["problems"]) == ("secondary", [])

    good = two.hastctl("status", "--check")
    assert (good.returncode, good.stdout.startswith("HAST OK - 1 resource: complete | ")) == (0, True), good.stdout
    assert one.hastctl("wait", "synced", "connected", "role=primary", "disk1").returncode == 0

    two.stop()
    wait_for(lambda: one.status()["status"] == "degraded", "the end of the connection")
    warned = one.hastctl("status", "--check")
    assert warned.returncode == 1
    assert "degraded" in warned.stdout
    assert one.hastctl("status", "--check", "--degraded-critical", "0s").returncode == 2
    assert two.hastctl("status", "--check").returncode == 3
    late = one.hastctl("wait", "synced", "disk1", "--timeout", "0.3")
    assert late.returncode == 75
    assert "disk1 is not synced (primary, degraded, not connected since" in late.stderr
    assert len(late.stderr.splitlines()) == 1

    io(one, "write 0 1M")
    waiting = begin(one, "wait", "synced", "--timeout", "60")
    try:
        time.sleep(0.5)
        assert waiting.poll() is None
        two.start()
        assert two.role("secondary")["error"] is None
        assert waiting.wait(60) == 0
        assert secure.words() == ["complete", "complete"]
    finally:
        waiting.kill()
        waiting.communicate()


def test_a_setting_that_both_nodes_must_have_alike_is_named_when_it_differs_and_not_when_it_is_mended(
    secure: Pair,
) -> None:
    one, two = secure.both
    for daemon, others in ((one, True), (two, False)):
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("device none", "device none\n split-brain discard-zero-changes"))
        assert daemon.hastctl("reload").returncode == 0
        wait_for(lambda others=others: ("differs" in one.hastctl("status", "--both").stdout) == others, "the problem")
        if others:
            assert "hast.conf differs in: split-brain." in one.hastctl("status", "--both").stdout
            assert two.hastctl("status", "--check").returncode == 1
    assert two.hastctl("status", "--check").returncode == 0


@pytest.mark.slow
def test_who_waits_is_not_disturbed_by_a_hastd_that_begins_anew(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    waiting = begin(daemon, "wait", "role=primary", "disk1", "--timeout", "60")
    try:
        time.sleep(0.5)
        daemon.stop()
        daemon.start()
        assert daemon.role("primary")["error"] is None
        assert waiting.wait(30) == 0
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.mark.parametrize(
    "arguments",
    [
        ("wait",),
        ("wait", "disk1"),
        ("wait", "role=king"),
        ("status", "--check", "--degraded-critical", "soon"),
        ("explain", "x"),
    ],
)
def test_wrong_words_are_exit_64_in_one_line_or_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err


def test_a_problem_is_explained_without_hastd(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 0
    assert "split-brain" in capsys.readouterr().out
    assert run(["explain", "split-brain"]) == 0
    assert "hastctl resolve --discard-local NAME" in capsys.readouterr().out
    assert run(["explain", "degrade"]) == 64
    assert "did you mean degraded?" in capsys.readouterr().err
