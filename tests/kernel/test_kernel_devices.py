"""/dev/hast on the kernel's true nbd and ublk drivers, in a virtual machine. Slow; `make test-kernel` runs it."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernels import MachineError, fetch
from machine import build_initramfs, ensure_tools, run_machine

import hast

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CACHE = REPOSITORY / "build" / "kernel-machine"
DEADLINE_S = 400
DRIVERS = {"nbd": ["nbd"], "ublk": ["ublk_drv"]}
HELPERS = ["hast.device.nbd_helper", "hast.device.device_helper", "hast.device.ublk_helper", "hast.worker.export.ublk"]
LAZY = [
    "importlib.readers",
    "runpy",
    "concurrent.futures.thread",
    "hast.lab.pauses",
    "lark.parsers.lalr_interactive_parser",
]
"""Imported when they are used."""
NOT_NEEDED = ("hast.sim", "hast.lab.", "hast.net", "hast.failover.devd")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run_inside(program: str, kind: str, modules: list[str], data: list[Path]) -> str:
    """What a machine printed whose only program is this file beside us."""
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        ensure_tools()
        kernel = fetch(CACHE)
        drivers = kernel.modules(*DRIVERS[kind])
    except MachineError as error:
        pytest.skip(str(error))
    initramfs = build_initramfs(
        Path(__file__).with_name(program),
        [REPOSITORY / "src", REPOSITORY / "tests" / "support", Path(click.__file__).parents[1]],
        modules,
        ["mkfs.ext4", "e2fsck"],
        drivers,
        data,
        f"KIND={kind}",
    )
    output = run_machine(kernel.image, initramfs, DEADLINE_S)
    print(output)
    return output


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_kernels_device_works_and_outlives_its_worker(kind: str) -> None:
    output = run_inside("inside.py", kind, ["ram_worker", *HELPERS], [])
    assert f"KERNEL {kind.upper()}: ALL STEPS PASSED" in output, output


@pytest.mark.parametrize("kind", DRIVERS)
def test_users_of_a_true_hastd_see_a_pause_and_no_error(kind: str) -> None:
    found = (each.name for each in pkgutil.walk_packages(hast.__path__, "hast."))
    modules = [name for name in found if not name.startswith(NOT_NEEDED) and not name.endswith("__main__")]
    grammars = sorted((REPOSITORY / "src" / "hast" / "config").glob("*.lark"))
    output = run_inside("inside_hastd.py", kind, [*modules, *LAZY], grammars)
    assert f"HASTD OVER {kind.upper()}: ALL STEPS PASSED" in output, output
