"""contrib/ansible sets a pair up on two booted Debians, by ssh, and changes what was asked for, and nothing else."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import booted
import pytest
from ansible_pair import ROLE, Bare, Played

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.xdist_group("system")]
ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ("hast.conf", "carp.conf", "devd.conf", "failover.conf")
NOBODY = {"hast1": 0, "hast2": 0}


class Site:
    """The pair, and the inventory that it was made by."""

    def __init__(self, pair: Bare, packages: Path) -> None:
        self.pair = pair
        self.inventory = pair.inventory(packages)

    def with_variables(self, **variables: Any) -> dict[str, Any]:
        inventory = copy.deepcopy(self.inventory)
        inventory["hast"]["vars"].update(variables)
        return inventory

    def play(self, *options: str, inventory: dict[str, Any] | None = None) -> Played:
        return self.pair.play(inventory or self.inventory, *options)

    def files(self) -> list[str]:
        names = " ".join(f"/etc/{name}" for name in CONFIGURATION)
        return [machine.run(f"cat {names}", check=False).stdout for machine in self.pair.machines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    lacking = [name for name in ("ansible-playbook", "ssh", "ssh-keygen") if shutil.which(name) is None]
    if reason := booted.missing() or ", ".join(f"needs {name}" for name in lacking):
        pytest.skip(reason)
    packages = booted.packages("bookworm", ROOT, tmp_path_factory.mktemp("packages"))
    with Bare(packages) as pair:
        yield Site(pair, packages)


def test_the_role_is_as_its_linter_wants_it() -> None:
    if shutil.which("ansible-lint") is None:
        pytest.skip("needs ansible-lint")
    done = subprocess.run(
        ["ansible-lint", "--offline", "--nocolor"], cwd=ROLE, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


class TestRole:
    def test_a_look_ahead_on_bare_machines_changes_nothing(self, site: Site) -> None:
        played = site.play("--check", "--diff")
        assert not played.failed, played.said
        assert all(played.changed.values())
        assert site.files() == ["", ""]
        for machine in site.pair.machines:
            assert machine.run("command -v hastctl", check=False).stdout == ""

    def test_two_bare_machines_become_a_pair_with_a_pool(self, site: Site) -> None:
        played = site.play()
        assert not played.failed, played.said
        site.pair.settle()
        site.pair.learn_offset()
        for machine in site.pair.machines:
            assert "matches hast.conf" in machine.run("hastctl trust").stdout
            assert machine.run("stat -c %a /etc/carp.conf").stdout == "600\n"
            for unit in ("hast.target", "hast-action", "hastd", "hast-devd", "carpd"):
                assert machine.run(f"systemctl is-enabled {unit}").stdout == "enabled\n"
        assert "ONLINE" in site.pair.master.run("zpool status zhast").stdout

    @pytest.mark.parametrize("options", [(), ("--check",)], ids=["again", "look-ahead"])
    def test_what_is_as_it_should_be_is_left_alone(self, site: Site, options: tuple[str, ...]) -> None:
        played = site.play(*options)
        assert not played.failed, played.said
        assert played.changed == NOBODY, played.said

    def test_the_pair_fails_over(self, site: Site) -> None:
        with site.pair.story():
            site.pair.hand_over()
            site.pair.wait_written()
            site.pair.check()

    def test_a_changed_variable_is_reloaded_and_nobody_notices(self, site: Site) -> None:
        master = site.pair.master
        site.inventory = site.with_variables(hast_settings={"timeout": 6})
        with site.pair.story():
            played = site.play()
            site.pair.wait_written()
            assert not played.failed, played.said
            site.pair.check()
        assert site.pair.master is master
        assert played.changed == {"hast1": 2, "hast2": 2}, played.said  # the file, and its reload
        assert all("timeout 6\n" in text for text in site.files())

    def test_a_wrong_value_never_reaches_the_file(self, site: Site) -> None:
        before = site.files()
        played = site.play(inventory=site.with_variables(hast_settings={"timeout": "soon"}))
        assert played.failed
        assert "soon" in played.said  # with file, line and column
        assert site.files() == before

    def test_a_disk_that_holds_something_is_refused(self, site: Site) -> None:
        for machine in site.pair.machines:
            machine.run("truncate -s 64M /srv/disk4 && mkfs.ext4 -q /srv/disk4")
        sums = [machine.run("sha256sum /srv/disk4").stdout for machine in site.pair.machines]
        resources = [*site.inventory["hast"]["vars"]["hast_resources"], {"name": "disk4", "local": "/srv/disk4"}]
        for options in (("--check",), ()):
            assert site.play(*options, inventory=site.with_variables(hast_resources=resources)).failed
        assert [machine.run("sha256sum /srv/disk4").stdout for machine in site.pair.machines] == sums
        again = site.play()  # hast.conf without it
        assert not again.failed, again.said
        site.pair.settle()
