"""The README's recipe for systems without our package: a virtual environment and hast-setup, typed as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import booted
import pytest
from booted import System

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("system")]
ROOT = Path(__file__).resolve().parents[2]
OFFLINE = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; "
"""The booted system has no network: pip finds in /wheels what it would get from the index."""


def recipe() -> list[str]:
    found = re.search(r"^        python3 -m venv .*\n(?:        .*\n)+", (ROOT / "README.md").read_text(), re.M)
    assert found is not None
    return [line.strip() for line in found[0].splitlines()]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    if reason := booted.missing():
        pytest.skip(reason)
    wheels = booted.cache() / "wheels"
    download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(wheels), str(ROOT), "setuptools>=66"]
    subprocess.run([*download, "markdown-it-py>=2.1", "click>=8.1"], check=True, timeout=300, capture_output=True)
    for built in wheels.glob("hast-*"):
        built.unlink()
    with System("bookworm", "hast1", [f"{wheels}:/wheels", f"{ROOT}:/tree"]) as running:
        yield running


def test_the_recipe_brings_commands_units_and_pages_and_goes_without_a_trace(system: System) -> None:
    files = "find /usr /etc /opt /var/lib -xdev -not -path '/opt/hast/*' -not -path '*/__pycache__*' | sort"
    system.run("cp -r /tree /root/hast && rm -rf /root/hast/.venv /root/hast/build")
    before = set(system.run(files).stdout.splitlines())
    for line in recipe():
        system.run(f"{OFFLINE} cd /root/hast && {line}")
    for command in ("hastctl", "carpd", "failover", "hast-setup"):
        assert system.run(f"{command} --version").stdout.startswith(f"{command} 0.")
        assert "NAME" in system.run(f"man {command}").stdout
    system.tell("/etc/hast.conf", "resource disk1 { on hast1 { local /srv/disk1 remote none } }")
    system.run("truncate -s 64M /srv/disk1 && hastctl create disk1 && systemctl enable --now hast.target hast-witness")
    for unit in ("hastd", "hast-witness"):
        assert system.run(f"systemctl is-active {unit}").stdout == "active\n"
    assert "is active: systemctl stop" in system.run("hast-setup remove", check=False).stderr
    system.run("systemctl stop hast.target hastd hast-witness && hast-setup remove")
    left = set(system.run(files).stdout.splitlines()) - before
    system.run("systemctl daemon-reload; ! systemctl cat hastd")
    configuration_and_state = r"/opt/hast$|/etc/hast\.conf$|/var/lib/hast|/etc/(passwd|group|shadow|gshadow)-?$"
    assert {path for path in left if not re.match(configuration_and_state, path)} == set()
