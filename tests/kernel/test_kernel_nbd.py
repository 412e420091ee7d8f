"""/dev/hast on the kernel's true nbd driver, in a virtual machine. Slow; `make test-kernel` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import MachineError, build_initramfs, ensure_tools, fetch_kernel, run_machine

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CACHE = REPOSITORY / "build" / "kernel-machine"
DEADLINE_S = 240
SUCCESS = "KERNEL NBD: ALL STEPS PASSED"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_kernel_nbd_device_works_and_outlives_its_worker() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        ensure_tools()
        kernel, module = fetch_kernel(CACHE)
    except MachineError as error:
        pytest.skip(str(error))
    initramfs = build_initramfs(
        Path(__file__).with_name("inside.py"),
        [REPOSITORY / "src", REPOSITORY / "tests" / "support"],
        ["ram_worker", "hast.device.nbd_helper", "hast.device.device_helper"],
        ["mkfs.ext4", "e2fsck"],
        module,
    )
    output = run_machine(kernel, initramfs, DEADLINE_S)
    print(output)
    assert SUCCESS in output, output
