"""The lab: hosts with the article's names and addresses, their disks, one switch. Leaves nothing behind.

    with Lab() as lab:
        lab.hast1.run("hastctl status")

Several labs can run at a time; nothing of a lab has a name outside of it but its directory, `hast-lab-PID-…`, and loop
devices over files in that. Those of a lab whose process was killed are removed by its reaper, or by the next lab.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hast.lab import loops
from hast.lab.host import Host, HostPlan
from hast.lab.network import Cable, Switch
from hast.lab.processes import LabError

ADDRESSES: Mapping[str, Mapping[str, int]] = {
    "hast1": {"pub": 181, "repl": 100},
    "hast2": {"pub": 182, "repl": 101},
    "client": {"pub": 50},
    "witness": {"pub": 60},
    "third": {"pub": 70, "repl": 102},
}
PAIR = ("hast1", "hast2")
HOSTS_FILE = """\
::1             localhost localhost.freebsd.loc
127.0.0.1       localhost localhost.freebsd.loc
192.168.100.100 hast1.freebsd.loc hast1
192.168.100.101 hast2.freebsd.loc hast2
10.10.10.181    storage1.hast.test storage1
10.10.10.182    storage2.hast.test storage2
10.10.10.180    storage.hast.test storage
10.10.10.50     client.hast.test client
10.10.10.60     witness.hast.test witness
"""
NAME_SWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
DISK_NAMES = ("ad1", "ad2", "ad3")
DISK_SIZE_BYTES = 256 * 1024 * 1024
DEAD_DISK_BYTES = 4096
SETTINGS = "HAST_LAB_SETTINGS"
"""In the environment: what every hast.conf of a lab begins with, to run stories with other settings."""


def article_configuration(disks: int = 3) -> str:
    """The article's hast.conf for this many disks."""
    return "".join(
        f"resource disk{n} {{\n"
        f"\ton hast1 {{\n\t\tlocal /dev/ad{n}\n\t\tremote hast2\n\t}}\n"
        f"\ton hast2 {{\n\t\tlocal /dev/ad{n}\n\t\tremote hast1\n\t}}\n}}\n"
        for n in range(1, disks + 1)
    )


class Lab:
    """Hosts `hast1` and `hast2`, and on demand `client` and `witness`, switched on while the context lasts.

    `configuration` is /etc/hast.conf of the pair, `etc` further files by their path under /etc, `own_etc` those of one
    host, by its name. `sealed` hosts can write to nothing of the machine, and see none of its devices. Needs root.
    """

    def __init__(
        self,
        hosts: Sequence[str] = PAIR,
        configuration: str | None = None,
        etc: Mapping[str, str] | None = None,
        disk_size_bytes: int = DISK_SIZE_BYTES,
        keep: bool = False,
        own_etc: Mapping[str, Mapping[str, str]] | None = None,
        disk_names: Sequence[str] = DISK_NAMES,
        sealed: bool = False,
    ) -> None:
        if os.geteuid() != 0:
            raise LabError("the lab needs root: network namespaces and loop devices")
        self.hosts: dict[str, Host] = {}
        self._names = tuple(hosts)
        configuration = f"{os.environ.get(SETTINGS, '')}\n{configuration or article_configuration()}"
        self._etc = {"hast.conf": configuration, **(etc or {})}
        self._own_etc = own_etc or {}
        self._disk_size_bytes = disk_size_bytes
        self._disk_names = tuple(disk_names)
        self._keep = keep
        self._sealed = sealed
        self._reaper: subprocess.Popen[bytes] | None = None
        self._switch: Switch | None = None
        self.directory = Path()

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self) -> None:
        remove_orphans()
        self.directory = Path(tempfile.mkdtemp(prefix=f"hast-lab-{os.getpid()}-"))
        self.directory.chmod(0o755)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "hast.lab.reaper", str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._switch = Switch()
        for number, name in enumerate(self._names):
            host = Host(self._plan(name, number), self._switch)
            self.hosts[name] = host
            host.power_on()

    def _plan(self, name: str, number: int) -> HostPlan:
        pair = name in PAIR
        hostname = f"{name}.freebsd.loc" if pair else f"{name}.hast.test"
        etc = {
            "hosts": HOSTS_FILE,
            "hostname": f"{hostname}\n",
            "nsswitch.conf": NAME_SWITCH,
            "resolv.conf": "",
            "hostid": struct.pack("<I", 0x0A0A0A01 + number).decode("latin-1"),
            **self._etc,
            **self._own_etc.get(name, {}),
        }
        disks = {disk: self._disk(name, disk) for disk in self._disk_names} if pair else {}
        return HostPlan(name, hostname, ADDRESSES[name], etc, disks, self.directory / name, self._sealed)

    def _disk(self, host: str, disk: str) -> int:
        """Make the backing file and its loop device; returns the device number."""
        path = self.disk_file(host, disk)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(self._disk_size_bytes)
        return loops.attach(path)[1]

    def disk_file(self, host: str, disk: str) -> Path:
        """The file behind a host's disk, for looking at it from outside."""
        return self.directory / host / "disks" / f"{disk}.img"

    def fail_disk(self, host: str, disk: str) -> None:
        """The disk dies: its content is gone, every access past its first sectors is an I/O error."""
        path = self.disk_file(host, disk)
        os.truncate(path, DEAD_DISK_BYTES)
        loops.resize(path)

    def replace_disk(self, host: str, disk: str) -> None:
        """An empty disk of the same size in the same place."""
        path = self.disk_file(host, disk)
        os.truncate(path, 0)
        os.truncate(path, self._disk_size_bytes)
        loops.resize(path)

    def __getattr__(self, name: str) -> Host:
        try:
            return self.__dict__["hosts"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no host {name!r} in this lab") from None

    @property
    def switch(self) -> Switch:
        """The networks, for partitions and losses."""
        if self._switch is None:
            raise LabError("the lab is not built")
        return self._switch

    def cable(self, host: str, network: str) -> Cable:
        """The cable of a host to the network `pub` or `repl`."""
        return self.hosts[host].cable(network)

    def close(self) -> None:
        """Switch everything off and remove it."""
        for host in self.hosts.values():
            host.power_off()
        if self._switch is not None:
            self._switch.close()
            self._switch = None
        if self._reaper is not None:
            reaper, self._reaper = self._reaper, None
            assert reaper.stdin is not None
            if self._keep:
                reaper.stdin.write(b"keep\n")
            reaper.stdin.close()
            reaper.wait()


def remove_orphans() -> None:
    """Remove what labs of processes that no longer exist have left."""
    loops.detach_orphans()
    for path in Path(tempfile.gettempdir()).glob("hast-lab-*-*"):
        owner = re.fullmatch(r"hast-lab-(\d+)-.+", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            shutil.rmtree(path, ignore_errors=True)
