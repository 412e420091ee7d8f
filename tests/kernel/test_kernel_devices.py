"""/dev/hast on the kernel's true nbd and ublk drivers, and OpenZFS over it, in a virtual machine.

Slow; `make test-kernel` runs it. What a machine says is in build/kernel-machine/*.log as it comes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernels import MachineError
from machine import MEMORY_MIB, build_initramfs, run_machine, tool
from openzfs import Zfs, build
from ready import CACHE, REPOSITORY, hastd_modules, kernel_or_skip
from whole_debian import booted, pack

from hast.device.attach_ublk import fatal_bug

DEADLINE_S, POOL_DEADLINE_S = 600, 1800
DRIVERS = {"nbd": ["nbd"], "ublk": ["ublk_drv"]}
POOL_DRIVERS = ["loop", "dm_mod", "dm_flakey"]
POOL_MEMORY_MIB = 3072
CONFINED_MEMORY_MIB, CONFINED_DEADLINE_S = 3072, 2000
BOOTS = 2
"""Debian's 6.12 has a ublk that can take the machine down when a server dies. Its story is told by another one then."""
HELPERS = ["hast.device.nbd_helper", "hast.device.device_helper", "hast.device.ublk_helper", "hast.worker.export.ublk"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1400)]


def run_inside(program: str, kind: str, modules: list[str], zfs: Zfs | None = None) -> str:
    """What a machine printed whose only program is this file beside us; with ZFS it has what a pool needs."""
    kernel = kernel_or_skip()
    tools = [tool("mkfs.ext4"), tool("e2fsck")]
    drivers = list(DRIVERS[kind])
    if zfs is not None:
        tools += [*zfs.programs, tool("dmsetup"), tool("fio")]
        drivers += POOL_DRIVERS
    initramfs = build_initramfs(
        Path(__file__).with_name(program),
        [REPOSITORY / "src", REPOSITORY / "tests" / "support", Path(click.__file__).parents[1]],
        modules,
        tools,
        kernel.modules(*drivers) + (zfs.modules if zfs else []),
        sorted((REPOSITORY / "src" / "hast" / "config").glob("*.lark")),
        f"KIND={kind}" + (f" PARTS='{parts}'" if (parts := os.environ.get("PARTS")) else ""),
        zfs.library_folders if zfs else (),
    )
    memory_mib, deadline_s = (POOL_MEMORY_MIB, POOL_DEADLINE_S) if zfs else (MEMORY_MIB, DEADLINE_S)
    said = CACHE / f"{Path(program).stem}-{kind}.log"
    for _ in range(BOOTS):
        output = run_machine(kernel.image, initramfs, said, deadline_s, memory_mib)
        print(output)
        if not crashed_in_ublk(output):
            return output
        reason = fatal_bug(kernel.release)
        assert reason, f"the kernel crashed in ublk, for no reason known of {kernel.release}: {output}"
        print(f"{program} over {kind}: the machine crashed in the kernel's ublk driver: {reason}", flush=True)
    pytest.xfail(f"{BOOTS} machines of {BOOTS} crashed: {reason}")


def crashed_in_ublk(output: str) -> bool:
    """Not our doing, whatever hastd did: no user space may take the kernel down."""
    _, found, trace = output.partition("BUG: ")
    return bool(found) and "ublk" in trace and "Kernel panic" in trace


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_kernels_device_works_and_outlives_its_worker(kind: str) -> None:
    output = run_inside("inside.py", kind, ["ram_worker", *HELPERS])
    assert f"KERNEL {kind.upper()}: ALL STEPS PASSED" in output, output


@pytest.mark.parametrize("kind", DRIVERS)
def test_users_of_a_true_hastd_see_a_pause_and_no_error(kind: str) -> None:
    output = run_inside("inside_hastd.py", kind, hastd_modules())
    assert f"HASTD OVER {kind.upper()}: ALL STEPS PASSED" in output, output


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("kind", DRIVERS)
def test_an_openzfs_pool_outlives_workers_hastd_and_disks_and_moves_to_the_other_node(kind: str) -> None:
    """The first run compiles OpenZFS."""
    try:
        zfs = build(CACHE, kernel_or_skip())
    except MachineError as error:
        pytest.skip(str(error))
    output = run_inside("inside_pool.py", kind, hastd_modules(), zfs)
    assert f"POOL OVER {kind.upper()}: ALL STEPS PASSED" in output, output


@pytest.mark.timeout(2400)
def test_a_hastd_that_its_unit_confines_makes_the_kernels_devices(tmp_path: Path) -> None:
    """Under systemd as process 1, with our packages: what the other tests run as root with all rights."""
    kernel = kernel_or_skip()
    if reason := booted.missing() or ("" if shutil.which("cpio") else "needs cpio"):
        pytest.skip(reason)
    packages = booted.packages("bookworm", REPOSITORY, tmp_path / "packages")
    script = Path(__file__).with_name("confined.sh").read_text()
    drivers = [*(driver for kind in DRIVERS.values() for driver in kind), "tls"]
    initramfs = pack(kernel, drivers, packages, script, tmp_path)
    output = run_machine(kernel.image, initramfs, CACHE / "confined.log", CONFINED_DEADLINE_S, CONFINED_MEMORY_MIB)
    print(output)
    assert "CONFINED: ALL STEPS PASSED" in output, output[-8000:]
