"""/dev/hast on the kernel's true nbd and ublk drivers, in a virtual machine. Slow; `make test-kernel` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernels import MachineError, fetch
from machine import build_initramfs, ensure_tools, run_machine

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CACHE = REPOSITORY / "build" / "kernel-machine"
DEADLINE_S = 400
DRIVERS = {"nbd": ["nbd"], "ublk": ["nbd", "ublk_drv"]}
"""Where both are there, `device auto` takes ublk."""
HELPERS = ["hast.device.nbd_helper", "hast.device.device_helper", "hast.device.ublk_helper", "hast.worker.export.ublk"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", DRIVERS)
def test_the_kernels_device_works_and_outlives_its_worker(kind: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        ensure_tools()
        kernel = fetch(CACHE)
        drivers = kernel.modules(*DRIVERS[kind])
    except MachineError as error:
        pytest.skip(str(error))
    initramfs = build_initramfs(
        Path(__file__).with_name("inside.py"),
        [REPOSITORY / "src", REPOSITORY / "tests" / "support"],
        ["ram_worker", *HELPERS],
        ["mkfs.ext4", "e2fsck"],
        drivers,
        f"KIND={kind}",
    )
    output = run_machine(kernel.image, initramfs, DEADLINE_S)
    print(output)
    assert f"KERNEL {kind.upper()}: ALL STEPS PASSED" in output, output
