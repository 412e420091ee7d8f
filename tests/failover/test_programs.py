"""Adapters whose programs cannot run on every machine, against stand-ins: systemd units and volume groups."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hast.config.failover_model import Pool, PoolKind, Service
from hast.failover import holders
from hast.failover.part import Context, Ghost, PartError
from hast.failover.pools import lvm
from hast.failover.pools.lvm import VolumeGroup
from hast.failover.services import CommandService, UnitService

MakeContext = Callable[..., Context]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes shell programs that come first in PATH; each also writes its arguments to `calls`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    def make(name: str, body: str) -> None:
        path = directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{body}\n')
        path.chmod(0o755)

    return make


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


SYSTEMCTL = """
state=@/unit
case $1 in
is-active) [ -e $state ] && echo active || { echo inactive; exit 3; } ;;
start) touch $state ;;
stop) rm $state ;;
esac
"""


def test_a_unit_is_started_and_stopped(
    tmp_path: Path, programs: Callable[[str, str], None], context: MakeContext
) -> None:
    programs("systemctl", SYSTEMCTL.replace("@", str(tmp_path)))
    part = UnitService(Service("nfs", unit="nfs-server.service"))
    assert part.is_up(context()) is False
    part.up(context())
    assert part.is_up(context()) is True
    part.down(context())
    assert part.is_up(context()) is False
    assert "systemctl start nfs-server.service" in calls(tmp_path)
    assert (part.summary(True), part.summary(False)) == (
        "systemctl start nfs-server.service",
        "systemctl stop nfs-server.service",
    )


def test_a_unit_that_fails_is_told_with_what_systemctl_said(
    programs: Callable[[str, str], None], context: MakeContext
) -> None:
    programs("systemctl", 'case $1 in is-active) echo activating;; *) echo "Unit x failed."; exit 1;; esac')
    part = UnitService(Service("x", unit="x"))
    assert part.is_up(context()) is None
    with pytest.raises(PartError, match=r"Unit x failed\.; see systemctl status x"):
        part.up(context())


def test_a_command_that_hangs_is_ended_at_its_deadline(context: MakeContext) -> None:
    part = CommandService(Service("x", start="sleep 60", stop="true", timeout_s=0.3))
    assert part.is_up(context()) is None
    with pytest.raises(PartError, match=r"did not end within 0\.\d s and was killed"):
        part.up(context(0.3))


def test_a_volume_group_is_activated_and_deactivated(
    tmp_path: Path, programs: Callable[[str, str], None], context: MakeContext
) -> None:
    programs(
        "lvs", f'if [ -e {tmp_path}/active ]; then echo "  vg0 active"; else echo "  vg0"; fi; echo "  other active"'
    )
    programs("vgchange", f'case "$*" in *"-a y"*) touch {tmp_path}/active;; *) rm {tmp_path}/active;; esac')
    part = VolumeGroup(Pool("vg0", PoolKind.LVM), "/dev/hast")
    assert part.is_up(context()) is False
    part.up(context())
    assert part.is_up(context()) is True
    part.down(context())
    assert part.is_up(context()) is False
    assert any('filter=["a|^/dev/hast/|"' in call and call.endswith("-a y vg0") for call in calls(tmp_path))


def test_a_volume_group_in_use_is_an_error(
    programs: Callable[[str, str], None], context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "GRACE_S", 0.1)
    programs("vgchange", 'echo "Logical volume vg0/a contains a filesystem in use (busy)."; exit 5')
    with pytest.raises(PartError, match="filesystem in use"):
        VolumeGroup(Pool("vg0", PoolKind.LVM), "/dev/hast").down(context())


def test_volumes_on_devices_that_are_gone_are_taken_apart_or_let_go(
    programs: Callable[[str, str], None], context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VolumeGroup, "_volumes", lambda _self: [Path("/dev/vg0/a")])
    monkeypatch.setattr(lvm, "_is_lost", lambda _path: True)
    programs("vgchange", 'echo "Volume group vg0 not found"; exit 5')
    programs("dmsetup", "exit 0")
    part = VolumeGroup(Pool("vg0", PoolKind.LVM), "/dev/hast")
    assert part.ailment(context()) == "active, but the devices of a are gone"
    part.down(context())
    programs("dmsetup", "exit 1")
    with pytest.raises(Ghost, match="/dev/vg0/a lies on devices that are gone and is in use"):
        part.down(context())


def test_without_lvm_the_error_names_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: MakeContext
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartError, match="lvs: cannot be started: No such file"):
        VolumeGroup(Pool("vg0", PoolKind.LVM), "/dev/hast").is_up(context())
