"""A computer of the test's own: disks, network cards and a root that outlive its power, on which a system is booted.

Everything lies in memory below one folder, and nothing of it is left after `close`. What a true power cut also takes,
the page cache of the disks, stays.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import booted

from hast.lab import loops
from hast.lab.network import Cable, Network, NetworkNamespace, Switch

DISKS = ("sdb", "sdc", "sdd")
DISK_BYTES = 160 << 20
LOOP_NODES = 64
OFF_S = 120.0
NO_OOM_SCORE = """\
[Service]
ExecStart=
ExecStart=-/etc/init.d/zfs-fuse start
"""
"""A container may not protect a process from being killed for memory; zfs-fuse's start script fails on that."""
FILES = {
    "etc/apt/apt.conf.d/98yes": 'APT::Get::Assume-Yes "true";\n',
    "etc/systemd/journald.conf.d/keep.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n",
    "etc/systemd/system/zfs-fuse.service.d/container.conf": NO_OOM_SCORE,
}
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-remount-fs.service",
)


class Wire:
    """One network namespace with its cards; it ends with `close`, like the kernel of a computer without power."""

    def __init__(self, host: str, cards: Mapping[str, tuple[Network, int]], switch: Switch) -> None:
        self._namespace = NetworkNamespace()
        self.pid = self._namespace.pid
        self._ports = [f"{host}-{network.name}" for network, _ in cards.values()]
        self._switch = switch
        for card, (network, last) in cards.items():
            address = "02:00:" + ":".join(f"{int(part):02x}" for part in network.address(last).split("."))
            port = f"{host}-{network.name}"
            switch.ip(
                f"link add {port} type veth peer name {card} address {address} netns {self.pid}",
                f"link set {port} master br-{network.name} up",
            )

    def close(self) -> None:
        self._namespace.close()
        for port in self._ports:
            try:
                self._switch.ip(f"link del {port}")
            except Exception:  # the kernel was faster
                pass


class Machine:
    """`cards` are names of network cards, each with its network and address. `disks` False: none but its root."""

    def __init__(
        self,
        base: Path,
        name: str,
        cards: Mapping[str, tuple[Network, int]],
        switch: Switch,
        binds: tuple[str, ...] = (),
        disks: bool = True,
        suite: str = "bookworm",
    ) -> None:
        self.name = name
        self.suite = suite
        self.system: booted.System | None = None
        self._base = base / name
        self._cards = cards
        self._switch = switch
        self._wire: Wire | None = None
        self._own_loops: set[tuple[str, int]] = set()
        self._disks: dict[str, str] = {}
        self._merged = self._base / "merged"
        for folder in ("upper", "work", "merged", "dev", "disks"):
            (self._base / folder).mkdir(parents=True)
        options = f"lowerdir={booted.root(suite)},upperdir={self._base}/upper,workdir={self._base}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, f"hast-{name}", str(self._merged)], check=True)
        self._furnish()
        for disk in DISKS if disks else ():
            image = self._base / "disks" / disk
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
            self._disks[disk], number = loops.attach(image)
            os.mknod(self._base / "dev" / disk, stat.S_IFBLK | 0o660, number)
        for number in range(LOOP_NODES):
            os.mknod(self._base / f"dev/loop{number}", stat.S_IFBLK | 0o660, os.makedev(7, number))
        nodes = [f"{node}:/dev/{node.name}" for node in sorted((self._base / "dev").iterdir())]
        self._binds = [*binds, *nodes]

    def _furnish(self) -> None:
        """A bare Debian whose network was set up when it was installed."""
        stanzas = ["auto lo\niface lo inet loopback\n"]
        for card, (network, last) in self._cards.items():
            stanzas.append(f"auto {card}\niface {card} inet static\n\taddress {network.address(last)}/24\n")
        files = {**FILES, "etc/network/interfaces": "".join(stanzas), "etc/machine-id": os.urandom(16).hex() + "\n"}
        for path, text in files.items():
            (self._merged / path).parent.mkdir(parents=True, exist_ok=True)
            (self._merged / path).write_text(text)
        for unit in MASKED:
            (self._merged / "etc/systemd/system" / unit).symlink_to("/dev/null")

    # Power

    @property
    def is_on(self) -> bool:
        return self.system is not None and not self.system.ended

    def power_on(self, wait: bool = True) -> None:
        """Boot; with `wait` until systemd has done all that boot asks for."""
        self._wire = Wire(self.name, self._cards, self._switch)
        self.system = booted.System(self.suite, self.name, self._binds, self._merged, self._wire.pid)
        if wait:
            self.wait_booted()

    def wait_booted(self) -> None:
        assert self.system is not None
        self.system.wait_booted()

    def cut(self) -> None:
        """A power cut: nobody hears anything of it."""
        assert self.system is not None
        self._note_loops()
        for network, _ in self._cards.values():
            self.cable(network.name).pull()
        self.system.cut()
        self._is_off()

    def poweroff(self) -> None:
        """What an administrator types, until it is off."""
        self.run("poweroff", check=False)
        self.wait_off()

    def reboot(self) -> None:
        """The same; booting has begun when it returns."""
        self.run("reboot", check=False)
        self.wait_off()
        self.power_on(wait=False)

    def wait_off(self, timeout_s: float = OFF_S) -> None:
        """Wait for the end of a `poweroff`. Raises TimeoutExpired."""
        assert self.system is not None
        self.system.wait_ended(timeout_s)
        self._is_off()

    def _is_off(self) -> None:
        self.system = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        for device, file_system in self._own_loops:
            if loops.backing_device(device) == file_system:
                loops.detach(device)
        self._own_loops.clear()

    def _note_loops(self) -> None:
        """Loop devices over this system's FUSE files. While it is attached no other file system gets that number."""
        if self.system is None or not (leader := self.system.leader()):
            return
        try:
            mounted = loops.mounted_devices(f"/proc/{leader}/mountinfo", ("fuse",))
        except (FileNotFoundError, ProcessLookupError):
            return
        for device, _ in loops.attached():
            if (found := loops.backing_device(device)) in mounted and found is not None:
                self._own_loops.add((device, found))

    def close(self) -> None:
        if self.is_on:
            self.cut()
        self._is_off()
        for device in self._disks.values():
            loops.detach(device)
        subprocess.run(["umount", "--lazy", str(self._merged)], check=False)
        shutil.rmtree(self._base, ignore_errors=True)

    # Inside

    def run(self, command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A shell command as root."""
        assert self.system is not None, f"{self.name} is off"
        self._note_loops()
        return self.system.run(command, check, timeout_s)

    def main_pid(self, unit: str) -> int:
        """Of a service; 0 while it does not run."""
        return int(self.run(f"systemctl show --value -p MainPID {unit}").stdout)

    def tell(self, path: str, text: str) -> None:
        """Write a file; also while the machine is off."""
        target = self._merged / path.lstrip("/")
        if self.is_on:
            self.run(f"cat >{path} <<'END_OF_FILE'\n{text.rstrip()}\nEND_OF_FILE")
        else:
            target.write_text(text)

    def bring(self, folder: Path, inside: str) -> None:
        """Copy a folder into this machine's disk."""
        shutil.copytree(folder, self._merged / inside.lstrip("/"), dirs_exist_ok=True)

    def path(self, inside: str) -> Path:
        """Where a file of the running system is seen from here."""
        leader = self.system.leader() if self.system else 0
        return Path(f"/proc/{leader or 'off'}/root{inside}")

    def disk(self, name: str) -> str:
        """The device behind /dev/NAME, as this computer sees it."""
        return self._disks[name]

    def cable(self, network: str) -> Cable:
        return self._switch.cable(self.name, network)

    def log(self, since: float, *options: str) -> str:
        """What the journal holds since this moment (epoch seconds), also of a machine that is off."""
        folder = self._merged / "var/log/journal"
        command = ["journalctl", f"--directory={folder}", "--no-pager", "-q", "-o", "short-precise"]
        command += [f"--since=@{since:.0f}", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def until(what: str, condition: Callable[[], bool], timeout_s: float, step_s: float = 0.2) -> float:
    """Wait until the condition holds; returns the seconds. Raises TimeoutError."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(step_s)
    return time.monotonic() - start
