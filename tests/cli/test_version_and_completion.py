"""--version and the answers to a shell that asks, for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from hast.cli import completion

BIN = Path(sys.executable).parent


def run(command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


def complete(command: str, line: str) -> list[str]:
    """What bash would offer for the last word of the line."""
    asked = {completion.variable(command): "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return [answer.split(",")[1] for answer in run(command, **asked).stdout.split()]


@pytest.mark.parametrize("command", completion.COMMANDS)
def test_a_command_tells_its_version(command: str) -> None:
    told = run(command, "--version")
    assert (told.returncode, told.stdout) == (0, f"{command} {version('hast')}\n")


@pytest.mark.parametrize(
    ("command", "line", "offered"),
    [
        ("hastctl", "hastctl sy", ["sync-rate"]),
        ("hastctl", "hastctl key", ["keygen"]),
        ("hastctl", "hastctl keygen --s", ["--show", "--switch"]),
        ("hastctl", "hastctl tru", ["trust"]),
        ("hastctl", "hastctl expl", ["explain"]),
        ("hastctl", "hastctl wait sy", ["synced"]),
        ("hastctl", "hastctl role se", ["secondary"]),
        ("carpctl", "carpctl stat", ["state", "status"]),
        ("carpctl", "carpctl state 1 ba", ["backup"]),
        ("failover", "failover m", ["master"]),
        ("hast-devd", "hast-devd --rep", ["--replay"]),
        ("hast-setup", "hast-setup r", ["remove"]),
        ("carpd", "carpd --v", ["--version"]),
        ("hast-witness", "hast-witness --v", ["--version"]),
        ("hastd", "hastd --v", ["--version"]),
    ],
)
def test_a_shell_is_offered_what_fits(command: str, line: str, offered: list[str]) -> None:
    assert sorted(complete(command, line)) == offered


def test_resource_names_are_completed_from_the_configuration(tmp_path: Path) -> None:
    name = os.uname().nodename.split(".")[0]
    config = tmp_path / "hast.conf"
    for resource in ("disk1", "other"):
        with config.open("a") as file:
            file.write(f"resource {resource} {{ on {name} {{ local {tmp_path}/{resource} remote none }} }}\n")
    assert complete("hastctl", f"hastctl -c {config} status di") == ["disk1"]
