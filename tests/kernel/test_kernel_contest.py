"""/dev/hast beside DRBD and md on a true kernel, counted in instructions, in a virtual machine.

Slow; `make bench-kernel` runs it, and so does `make test-kernel`. The figures are in build/kernel-machine/contest.log.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernels import MachineError, run
from machine import COUNTED, build_initramfs, run_machine, tool
from ready import CACHE, REPOSITORY, hastd_modules, kernel_or_skip

PACKAGES = ("drbd-utils", "mdadm", "nbd-client")
UNPACKED = ("drbdsetup-84", "drbdmeta", "mdadm", "nbd-client")
FOLDERS = ("sbin", "usr/sbin", "lib/drbd", "usr/lib/drbd")
PLUGIN = Path("/usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-file-plugin.so")
DRIVERS = ("nbd", "ublk_drv", "drbd", "raid1")
HELPERS = ["hast.device.nbd_helper", "hast.device.device_helper", "hast.device.ublk_helper", "hast.worker.export.ublk"]
BUILD = REPOSITORY / "build" / "compiled"
MEMORY_MIB, DEADLINE_S = 3072, 2400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2600)]


def unpacked() -> list[Path]:
    """The programs of PACKAGES, downloaded once and not installed: their services are not for this machine. Raises
    MachineError."""
    root = CACHE / "contest-tools"
    if not root.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            run(["apt-get", "-q", "download", *PACKAGES], Path(work))
            for archive in sorted(Path(work).glob("*.deb")):
                run(["dpkg", "-x", str(archive), f"{work}/root"], Path(work))
            (Path(work) / "root").rename(root)
    path = ":".join(str(root / folder) for folder in FOLDERS)
    found = [shutil.which(name, path=path) for name in UNPACKED]
    if None in found:
        raise MachineError(f"{root} lacks one of {', '.join(UNPACKED)}: remove it")
    return [Path(each) for each in found if each]


def test_what_two_copies_cost_in_instructions_each_way() -> None:
    """Prints it; that all of them carry the load is what can fail."""
    kernel = kernel_or_skip()
    try:
        tools = [tool("fio"), tool("nbdkit"), *unpacked()]
        (brd,) = kernel.modules("brd")
        drivers = kernel.modules(*DRIVERS)
    except MachineError as error:
        pytest.skip(str(error))
    source = BUILD if (BUILD / ".stamp").exists() else REPOSITORY / "src"
    print(f"our pair: {source}")
    initramfs = build_initramfs(
        Path(__file__).with_name("inside_contest.py"),
        [source, Path(click.__file__).parents[1]],
        [*hastd_modules(), *HELPERS],
        tools,
        drivers,
        [*sorted((source / "hast" / "config").glob("*.lark")), PLUGIN, brd],
        f"BRD={brd} KINDS='{os.environ.get('KINDS', 'nbd ublk')}'",
    )
    output = run_machine(kernel.image, initramfs, CACHE / "contest.log", DEADLINE_S, MEMORY_MIB, COUNTED)
    print(output)
    assert "CONTEST: ALL STEPS PASSED" in output, output
