"""hast-witness with keys, and two real hastd whose hast.conf names them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, free_port, wait_for
from hast.cli import hast_witness

pytestmark = pytest.mark.timeout(180)


class KeyedWitness:
    """In the foreground, with a file of nodes."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.port = free_port()
        self._command = [sys.executable, "-m", "hast.cli.hast_witness", "-f", str(directory / "witness.json")]

    def fingerprint(self) -> str:
        done = subprocess.run([*self._command, "--show-key"], capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    def start(self, nodes: str) -> subprocess.Popen[bytes]:
        path = self.directory / "nodes"
        path.write_text(nodes)
        path.chmod(0o644)
        more = ["-F", "-l", f"127.0.0.1:{self.port}", "-P", str(self.directory / "pid"), "--nodes", str(path)]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen([*self._command, *more], stdout=log, stderr=log)

    def state(self) -> str:
        path = self.directory / "witness.json"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def trio(make_daemon: MakeDaemon, tmp_path: Path) -> Iterator[tuple[Daemon, Daemon, KeyedWitness]]:
    """Both hastd run on one host, by one name: their keys tell them apart."""
    one, two = make_daemon(fake=False), make_daemon(fake=False)
    witness = KeyedWitness(tmp_path / "keyed-witness")
    known = witness.fingerprint()
    keys = [daemon.hastctl("keygen").stdout.split()[1] for daemon in (one, two)]
    process = witness.start(f"pair one={keys[0]} two={keys[1]}\n")
    for daemon, peer in ((one, two), (two, one)):
        inside = f"timeout 5 wait-for-peer 1 arbiter witness tcp4://127.0.0.1:{witness.port} fingerprint {known}"
        daemon.write_config({"disk1": f"remote tcp4://127.0.0.1:{peer.port}"}, inside=inside)
        assert daemon.hastctl("create", "disk1").returncode == 0
        daemon.start()
    assert two.role("secondary")["error"] is None
    yield one, two, witness
    process.terminate()
    process.wait(10)


def test_a_pair_asks_its_witness_by_key_and_changes_roles(trio: tuple[Daemon, Daemon, KeyedWitness]) -> None:
    one, two, witness = trio
    assert one.role("primary")["error"] is None
    assert '"pair%disk1": {"epoch": 1, "holder": "one"' in witness.state()
    wait_for(lambda: one.status()["status"] == "complete", "connection", 20)
    assert one.role("secondary")["error"] is None
    assert two.role("primary")["error"] is None
    wait_for(lambda: '"epoch": 2, "holder": "two"' in witness.state(), "the lease of the other", 10)


def test_s11_a_node_whose_key_the_witness_does_not_know_is_not_made_primary(
    trio: tuple[Daemon, Daemon, KeyedWitness],
) -> None:
    """And the reason says what to do."""
    one, _two, witness = trio
    assert one.hastctl("keygen", "--next").returncode == 0
    assert one.hastctl("keygen", "--switch").returncode == 0
    done = one.hastctl("role", "primary", "disk1")
    assert done.returncode != 0
    assert "its file of nodes needs the fingerprint that hastctl keygen --show prints here" in done.stderr
    assert "disk1" not in witness.state()


def test_a_directory_that_a_witness_may_not_look_into_keeps_it_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """/var/lib/hast of a node on the same host is closed to it; a name that is too long cannot be asked for either."""
    monkeypatch.setattr(hast_witness, "FORMER_STATE", f"/{'x' * 300}/witness.json")
    found = hast_witness._state_path(argparse.Namespace(state=hast_witness.DEFAULT_STATE))
    assert str(found) == hast_witness.DEFAULT_STATE
