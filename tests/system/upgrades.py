"""Two Debians that replicate under a load that verifies, while their packages are changed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import recipe
from pair import HEADING, Failed, Pair
from system_machine import Machine, until
from under_load import FIO

from hast.failover.hastd import Hastd, HastdError
from hast.lab.cluster import status
from hast.lab.processes import bound

LOADED, PROBED = "/mnt/load", "/mnt/probe"
INSTALL_S, RENEWED_S = 180, 180
ASK_S = 5.0
FILES = ("python3-hast", "hast")


class Replicating(Pair):
    """The README up to the roles: hast1 primary, hast2 secondary, without shared address and pool. ext4 on disk1."""

    def _set_up(self) -> None:
        for where, script in recipe.steps(HEADING):
            roles = script.partition("zpool ")[0]
            typed = roles.replace(" zfs-fuse", "") if self.suite == "trixie" else roles
            for machine in self.machines:
                if where in ("both", machine.name):
                    machine.run(f"set -e; cd /dist\n{typed}", timeout_s=INSTALL_S)
            if "create" in script:
                for machine in self.machines:
                    until("the control socket", lambda machine=machine: bool(status(machine)), 30)
            if roles != script:
                break
        self.wait_complete(self.hast1)
        dump = self.hast1.run("hastctl dump disk1").stdout
        self.offset_bytes = int(dump.split("localoff: ")[1].split()[0])
        self.hast1.run("mkfs.ext4 -q /dev/hast/disk1 && mount /dev/hast/disk1 /mnt")
        self.hast1.run(f"dd if=/dev/zero of={PROBED} bs=4k count=1 conv=fsync")

    def prove(self) -> None:
        """The file system is clean and both copies are equal. Raises AssertionError, Failed."""
        self.hast1.run("umount /mnt && e2fsck -fn /dev/hast/disk1")
        self.wait_complete(self.hast1)
        if differing := self.differing():
            raise Failed(f"the copies differ: {differing}\n{self.describe()}")


def release(machine: Machine) -> dict[str, Any]:
    """What hastd says of its release, and of the workers that give way; empty while it does not answer."""
    try:
        return Hastd(str(machine.path("/run/hastctl"))).ask({"command": "version"}, ASK_S)
    except (HastdError, OSError):
        return {}


def install(machine: Machine, folder: str) -> None:
    """These packages, older or newer, until hastd and all its workers are of their release. Raises TimeoutError."""
    before = release(machine)["release"]
    files = " ".join(f"{folder}/{name}_*.deb" for name in FILES)
    machine.run(f"apt-get -q install --allow-downgrades {files}", timeout_s=INSTALL_S)
    if machine.run("grep -q 'dh_action .hastd' /var/lib/dpkg/info/hast.postinst", check=False).returncode:
        machine.run("systemctl restart hastd", timeout_s=INSTALL_S)  # packages of before 28 November 2026 did not

    def renewed() -> bool:
        told = release(machine)
        assert not str(told.get("upgrade")).startswith("stopped"), told
        return bool(told) and told["release"] != before and told["upgrade"] == "done"

    until(f"hastd of {folder} on {machine.name}, and its workers", renewed, RENEWED_S)


class Load:
    """fio and a prober on the file system, from outside: Debian's root has no fio. `end` says how it went."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._fio_says, self._prober_says = folder / "fio", folder / "pauses"
        load, probe = (str(machine.path(path)) for path in (LOADED, PROBED))
        self._fio = self._start(
            [*shlex.split(FIO), "--direct=1", f"--filename={load}", f"--output={folder}/report"], self._fio_says
        )
        prober = [sys.executable, "-m", "hast.lab.pauses", probe, "0", "write"]
        self._prober = self._start(prober, self._prober_says)
        until("fio writes", machine.path(LOADED).exists, 30)
        self._device = Path("/sys/block", Path(machine.path("/dev/hast/disk1").readlink()).name, "inflight")

    def _start(self, argv: list[str], says: Path) -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        with says.open("wb") as output:
            return subprocess.Popen(
                [*bound(), *argv], cwd=says.parent, stdin=null, stdout=output, stderr=output, start_new_session=True
            )  # fio leaves a file where it is

    def check(self) -> None:
        """Both go on. Raises Failed."""
        for process, says in ((self._fio, self._fio_says), (self._prober, self._prober_says)):
            if process.poll() is not None:
                raise Failed(f"{process.args!r} ended with {process.returncode}: {says.read_text()[-2000:]}")

    def end(self) -> list[tuple[float, float]]:
        """Stop both; the pauses as (moment, seconds)."""
        self.check()
        self.kill_prober()
        os.killpg(self._fio.pid, signal.SIGTERM)
        end = time.monotonic() + 30
        while self._fio.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        if forced := self._fio.poll() is None:  # fio waits now and then for what it never asked for
            assert self._device.read_text().split() == ["0", "0"], "I/O hangs"
            self.kill()
        says = self._fio_says.read_text()
        assert "verify" not in says, says
        assert forced or self._fio.returncode in (0, 128), f"{self._fio.returncode}: {says}"
        lines = (line.split() for line in self._prober_says.read_text().splitlines())
        return [(float(at), float(took)) for at, took in lines]

    def kill_prober(self) -> None:
        self._prober.kill()
        self._prober.wait()

    def kill(self) -> None:
        """Both, however they are."""
        self.kill_prober()
        if self._fio.poll() is None:
            os.killpg(self._fio.pid, signal.SIGKILL)
            self._fio.wait(30)
