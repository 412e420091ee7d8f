"""hast-setup: what it puts in place, it takes away, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hast.cli import hast_setup
from hast.cli.hast_setup import MANIFEST, PLACES, PREFIX, SetupError

COMMANDS = Path("/opt/hast/bin")
UNIT = PREFIX / "lib/systemd/system/hastd.service"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    made = tmp_path / "share"
    for folder in PLACES:
        (made / folder).mkdir(parents=True)
        (made / folder / f"a-{folder.replace('/', '-')}").write_text("text\n")
    (made / "systemd/hastd.service").write_text("ExecStart=/usr/sbin/hastd -F\nExecReload=/bin/kill -HUP\n")
    (made / "systemd/backoff.conf").write_text("[Service]\n")
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "usr/local/bin").mkdir(parents=True)
    (made / "usr/local/bin/theirs").write_text("theirs")
    return made


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_what_was_installed_is_removed_without_a_trace(root: Path, share: Path) -> None:
    before = everything(root)
    hast_setup.install(root, share, COMMANDS)
    assert (root / PREFIX / "bin/hastctl").readlink() == COMMANDS / "hastctl"
    assert (root / PREFIX / "share/man/man8/a-man-man8").exists()
    hast_setup.remove(root)
    assert everything(root) == before


def test_units_start_the_programs_of_the_environment(root: Path, share: Path) -> None:
    hast_setup.install(root, share, COMMANDS)
    assert (root / UNIT).read_text() == "ExecStart=/opt/hast/bin/hastd -F\nExecReload=/bin/kill -HUP\n"


def test_a_second_install_replaces_the_first(root: Path, share: Path) -> None:
    before = everything(root)
    hast_setup.install(root, share, COMMANDS)
    (share / "examples/a-examples").rename(share / "examples/renamed")
    hast_setup.install(root, share, Path("/opt/newer/bin"))
    assert "/opt/newer/bin/hastd" in (root / UNIT).read_text()
    assert not (root / PREFIX / "share/doc/hast/examples/a-examples").exists()
    hast_setup.remove(root)
    assert everything(root) == before


def test_a_file_that_is_not_ours_is_not_replaced(root: Path, share: Path) -> None:
    (root / PREFIX / "bin/failover").write_text("#!/bin/sh\n")
    before = everything(root)
    with pytest.raises(SetupError, match="/usr/local/bin/failover is there and not ours"):
        hast_setup.install(root, share, COMMANDS)
    assert everything(root) == before


def test_an_environment_that_services_cannot_see_is_refused(root: Path, share: Path) -> None:
    with pytest.raises(SetupError, match="cannot see"):
        hast_setup.install(root, share, Path("/home/me/venv/bin"))


def test_beside_the_debian_package_nothing_is_installed(root: Path, share: Path) -> None:
    packaged = root / hast_setup.PACKAGED_UNIT
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    with pytest.raises(SetupError, match="Debian package"):
        hast_setup.install(root, share, COMMANDS)


def test_remove_says_when_there_is_nothing(root: Path) -> None:
    with pytest.raises(SetupError, match="nothing is installed"):
        hast_setup.remove(root)
    assert not (root / MANIFEST).exists()


@pytest.fixture
def hanging_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(hast_setup, "_running_systemd", lambda: True)
    monkeypatch.setattr(hast_setup, "SYSTEMD_S", 0.2)


@pytest.mark.usefixtures("hanging_systemctl")
def test_a_systemd_that_does_not_answer_is_named_and_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match=r"systemctl is-active does not answer within 0\.2 s"):
        hast_setup._ask_systemd("is-active", "hastd.service")
    hast_setup._tell_systemd(Path("/"), ["systemctl", "daemon-reload"])
    assert "run it again by hand: systemctl daemon-reload" in capfd.readouterr().err
