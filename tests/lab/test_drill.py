"""`hastctl drill` on real hosts of the lab: the article's site, mistakes planted in it, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from drill_sites import ARTICLE, changed, write

import hast
from hast.lab import Lab, loops

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

Done = subprocess.CompletedProcess[str]
HASTCTL = str(Path(sys.executable).with_name("hastctl"))
LIMIT_S = 1500.0


def drill(folder: Path, files: Mapping[str, str], *options: str) -> Done:
    argv = [HASTCTL, "drill", "-c", str(write(folder, files)), "--node", "hast1", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S)


def failed_steps(done: Done) -> list[str]:
    return [line for line in done.stdout.splitlines() if re.match(r"\d+/\d+ .* FAILED", line)]


def left_behind(pid: int) -> list[str]:
    places = [str(path) for path in Path(tempfile.gettempdir()).glob(f"hast-lab-{pid}-*")]
    return places + [backing for _, backing in loops.attached() if f"/hast-lab-{pid}-" in backing]


def test_a_sealed_host_can_write_to_nothing_of_the_machine_and_sees_none_of_its_disks(tmp_path: Path) -> None:
    (Path("/tmp") / tmp_path.name).write_text("")
    try:
        with Lab(("hast1",), sealed=True) as lab:
            host = lab.hast1
            for folder in ("/usr", "/machine/etc", str(Path(hast.__file__).parent)):
                done = host.run(["touch", f"{folder}/hast-drill-was-here"])
                assert "Read-only file system" in done.stderr, folder
            blocks = host.run(["find", "/dev", "-type", "b"]).stdout.split()
            assert sorted(blocks) == ["/dev/ad1", "/dev/ad2", "/dev/ad3"]
            assert tmp_path.name not in host.run("ls /tmp").stdout
            routes = host.run("ip route").stdout
            assert set(re.findall(r"dev (\S+)", routes)) == {"pub", "repl"}
            assert set(re.findall(r"^\d+: (\w+)", host.run("ip -o link").stdout, re.M)) == {"lo", "pub", "repl"}
    finally:
        (Path("/tmp") / tmp_path.name).unlink()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_articles_site_is_drilled_and_one_failure_loses_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = drill(tmp_path, ARTICLE, "--seeds", "200", "--report", str(report))
    assert (done.returncode, failed_steps(done)) == (0, []), done.stdout + done.stderr
    assert "no rule broken" in done.stdout
    assert "acknowledged records are LOST" in done.stdout, "an old copy serves, as docs/failures.md says"
    assert report.read_text().count("<svg") == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "old", "new", "step", "suspect"),
    [
        ("carp.conf", "mypassword advskew 100", "other advskew 100", "both hosts boot", "carp.conf, vhid 1, pass"),
        ("failover.conf", "disk2 disk3", "disk2", "both hosts boot", "failover.conf, resources: both nodes: disk3"),
        ("devd.conf", "carp0", "carp1", "both hosts boot", "devd.conf, carp0 LINK_UP"),
        ("hast.conf", "remote hast2", "remote hast2:9999", "both hosts boot", "remote hast2:9999"),
        ("hast.conf", "resource disk1", "timeout 1 resource disk1", "silent for", "hast.conf, timeout 1: too short"),
    ],
)  # fmt: skip
def test_a_planted_mistake_fails_a_step_and_is_suspected(
    tmp_path: Path, name: str, old: str, new: str, step: str, suspect: str
) -> None:
    done = drill(tmp_path, changed(ARTICLE, name, old, new), "--short", "--seeds", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(step in line for line in failed_steps(done)), done.stdout
    assert re.search(rf"suspected: .*{re.escape(suspect)}", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_mistake_in_the_other_nodes_own_file_is_found(tmp_path: Path) -> None:
    peer = write(tmp_path / "peer", changed(ARTICLE, "carp.conf", "mypassword", "another")).parent
    done = drill(tmp_path / "own", ARTICLE, "--short", "--seeds", "0", "--peer", str(peer))
    assert done.returncode == 1
    assert "suspected: carp.conf, vhid 1, pass" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_site_with_keys_and_a_witness_is_drilled(tmp_path: Path) -> None:
    head = "timeout 5 arbiter witness 172.16.0.1 tls required\n"
    keys = f"on hast1 {{ fingerprint {'a' * 64} }}\non hast2 {{ fingerprint {'b' * 64} }}\n"
    files = {**ARTICLE, "hast.conf": head + keys + ARTICLE["hast.conf"]}
    done = drill(tmp_path, files, "--short", "--seeds", "0")
    assert (done.returncode, failed_steps(done)) == (0, []), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    argv = [HASTCTL, "drill", "-c", str(write(tmp_path, ARTICLE)), "--node", "hast1", "--seeds", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("2/"):
                break
        assert left_behind(running.pid)
        os.kill(running.pid, number)
        running.wait(60)
    until_s = time.monotonic() + 30
    while left_behind(running.pid) and time.monotonic() < until_s:
        time.sleep(0.2)
    assert left_behind(running.pid) == []
    if number != signal.SIGKILL:
        assert running.returncode == 130
