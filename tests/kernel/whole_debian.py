"""A whole Debian with systemd and our packages as the system of a virtual machine: it runs one script, and is off.

Its root is the bare one of tests/system with our packages installed, packed as an initramfs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from kernels import Kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

import booted

COPY_S, PACK_S = 300, 300
LEFT_OUT = (
    "./var/cache/apt",
    "./var/lib/apt/lists",
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./boot",
)
PROOF = "/root/proof.sh"
UNIT = f"""\
[Unit]
Description=The script of the test
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh {PROOF}
ExecStopPost=/usr/bin/systemctl poweroff --force --force
StandardOutput=file:/dev/ttyS0
StandardError=inherit
TimeoutStartSec=infinity
"""
TARGET = """\
[Unit]
Requires=basic.target proof.service
After=basic.target
AllowIsolate=yes
"""
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "networking.service")


def pack(kernel: Kernel, drivers: list[str], packages: Path, script: str, work: Path) -> bytes:
    """The initramfs. `drivers` are there for modprobe, and not loaded. Works in `work`, as root."""
    root = work / "root"
    root.mkdir()
    exclude = [f"--exclude=./{path}" for path in LEFT_OUT]
    source = subprocess.Popen(["tar", "-C", str(booted.root("bookworm")), *exclude, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-C", str(root), "-x"], stdin=source.stdout, check=True, timeout=COPY_S)
    assert source.wait() == 0
    for folder in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "root/dist"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("python3-hast", "hast"):
        shutil.copy(next(packages.glob(f"{name}_*.deb")), root / "root/dist")
    subprocess.run(
        ["chroot", str(root), "sh", "-c", "dpkg -i /root/dist/*.deb && rm -r /root/dist"],
        check=True,
        timeout=COPY_S,
        capture_output=True,
        env={"PATH": booted.PATH, "DEBIAN_FRONTEND": "noninteractive"},
    )
    modules = root / "lib/modules" / kernel.release
    modules.mkdir(parents=True)
    for file in kernel.modules(*drivers):
        shutil.copy(file, modules)
    subprocess.run(["depmod", "-b", str(root), kernel.release], check=True, timeout=60)
    write = {
        "etc/hostname": "machine\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/systemd/system/proof.service": UNIT,
        "etc/systemd/system/proof.target": TARGET,
        PROOF.lstrip("/"): script,
    }
    for path, text in write.items():
        (root / path).write_text(text)
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").symlink_to("proof.target")
    (root / "init").symlink_to("lib/systemd/systemd")
    packed = work / "initramfs"
    with packed.open("wb") as output:
        archive = "find . -print0 | cpio --null --create --format=newc --quiet"
        subprocess.run(["sh", "-c", archive], cwd=root, stdout=output, check=True, timeout=PACK_S)
    shutil.rmtree(root)
    return packed.read_bytes()
