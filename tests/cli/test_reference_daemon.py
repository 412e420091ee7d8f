"""hastctl of ours against the control socket of a FreeBSD hastd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon
from reference_hastd import ReferenceHastd, resource

from daemon import Daemon


class Node:
    """A configuration of ours and, behind its control socket, a FreeBSD hastd."""

    def __init__(self, daemon: Daemon, hastd: ReferenceHastd) -> None:
        self.daemon, self.hastd = daemon, hastd

    def hastctl(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.daemon.hastctl(command, *arguments)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def node(make_daemon: MakeDaemon) -> Iterator[Node]:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"})
    with ReferenceHastd(daemon.directory / "ctl", [resource("disk1"), resource("disk2", workerpid=0)]) as hastd:
        yield Node(daemon, hastd)


def test_status_of_a_reference_daemon_is_shown(node: Node) -> None:
    done = node.hastctl("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "disk1:\n  role: primary\n  provname: disk1\n  localpath: /dev/da0\n" in done.stdout
    assert "  replication: memsync\n  status: complete\n  dirty: 4194304 (4.0MB)\n" in done.stdout
    assert "disk2:\n" in done.stdout


def test_table_json_and_names_work_with_a_reference_daemon(node: Node) -> None:
    assert node.hastctl("status", "--table", "disk1").stdout.splitlines() == [
        "Name\tStatus\t Role\t\tComponents",
        "disk1\tcomplete primary        /dev/da0\ttcp4://10.0.0.2",
    ]
    parsed = json.loads(node.hastctl("status", "--json", "disk2").stdout)
    assert [(entry["name"], entry["role"]) for entry in parsed["resources"]] == [("disk2", "primary")]


def test_list_of_a_recorded_answer_is_bit_exact(make_daemon: MakeDaemon, shared_compat: Path) -> None:
    daemon = make_daemon()
    recorded = bytes.fromhex((shared_compat / "vectors" / "35-ctl-status-reply-primary.hex").read_text())
    with ReferenceHastd(daemon.directory / "ctl", [], recorded):
        assert daemon.hastctl("list").stdout == (shared_compat / "vectors" / "out-list.txt").read_text()
        table = (shared_compat / "vectors" / "out-status.txt").read_text()
        assert daemon.hastctl("status", "--table").stdout == table


def test_role_of_a_reference_daemon_is_changed(node: Node) -> None:
    done = node.hastctl("role", "secondary", "disk1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [entry["role"] for entry in node.hastd.resources.values()] == ["secondary", "primary"]
    assert node.hastctl("role", "init", "all").returncode == 0
    assert [entry["role"] for entry in node.hastd.resources.values()] == ["init", "init"]


def test_resource_that_a_reference_daemon_does_not_know_is_exit_1(node: Node) -> None:
    done = node.hastctl("role", "secondary", "nope")
    assert (done.returncode, done.stderr) == (
        1,
        "[nope] Received error 1 from hastd: Resource nope is not configured.\n",
    )
    done = node.hastctl("status", "nope")
    assert (done.returncode, done.stdout) == (1, "nope:\n  error: 1 (Resource nope is not configured)\n")


def test_role_without_waiting_is_what_a_reference_daemon_does_anyway(node: Node) -> None:
    assert node.hastctl("role", "secondary", "--no-wait", "disk1").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("events",),
        ("reload",),
        ("resolve", "--discard-local", "disk1"),
        ("sync-rate", "1M", "disk1"),
        ("role", "primary", "--force", "disk1"),
    ],
)
@pytest.mark.parametrize("number", [2, 4])
def test_what_a_reference_daemon_cannot_do_is_one_line_and_exit_69(
    node: Node, command: tuple[str, ...], number: int
) -> None:
    node.hastd.unknown_command = number
    done = node.hastctl(*command)
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"hastd via {node.daemon.directory}/ctl" in done.stderr
    assert "status, list and role" in done.stderr
    assert "--force" in done.stderr or command[0] in done.stderr
    assert node.hastd.resources["disk1"]["role"] == "primary"


def test_reference_daemon_that_refuses_a_whole_request_is_exit_70(node: Node) -> None:
    node.hastd.global_error = 5
    for command in (("status",), ("list",), ("role", "init", "disk1")):
        done = node.hastctl(*command)
        assert (done.returncode, done.stderr) == (70, "Error 5 received from hastd.\n")


def test_create_asks_a_reference_daemon_whether_the_provider_is_in_use(node: Node) -> None:
    image = str(node.daemon.directory / "disk1.img")
    node.hastd.resources["disk1"]["localpath"] = image
    done = node.hastctl("create", "disk1")
    assert done.returncode == 66
    assert "hastctl role init disk1" in done.stderr
