"""What the tests of endurance share: a pair under load, blows to its processes, and the pauses that a user saw."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from under_load import FIO, in_cells, longest_after

from hast.lab import Host, Lab, LabError, Running, one_disk, zfs
from hast.lab.copies import data_digest
from hast.lab.laboratory import article_configuration

STARTED = {"HAST_RECONNECT_S": "1"}
SYSTEMCTL = '#!/bin/sh\n[ -e /run/restarting ] && echo "1 hastd.service restart running"\nexit 0\n'
"""Says what systemd says to a hastd that it ends: whether another one is to follow."""
STEP_S = 1.3
"""Between two blows: a worker that has not served for a while before it dies makes a crash loop."""


class Site:
    """What the load stands on: device, file system or pool, and how it is proved sound at the end."""

    disks: tuple[str, ...] = ("disk1",)
    settings = "timeout 5\n"
    load = "--direct=1 --filename=/dev/hast/disk1 --offset=0"
    probes: tuple[tuple[str, ...], ...] = (("/dev/hast/disk1", str(128 << 20), "write"),)
    """Arguments of `hast.lab.pauses`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def prepare(self) -> None: ...
    def prove(self) -> None:
        """Take it down and check it. Raises LabError."""


class Files(Site):
    """ext4 or xfs on one device."""

    kind = "ext4"
    check = "e2fsck -fn"
    load = "--direct=1 --filename=/mnt/load"
    probes = (("/mnt/probe", "0", "write"),)

    def prepare(self) -> None:
        host = self.lab.hast1
        host.run(f"mkfs.{self.kind} -q /dev/hast/disk1", check=True, timeout_s=60)
        host.run("mount /dev/hast/disk1 /mnt", check=True)
        host.run("dd if=/dev/zero of=/mnt/probe bs=4k count=1 conv=fsync", check=True)

    def prove(self) -> None:
        self.lab.hast1.run("umount /mnt", check=True, timeout_s=60)
        self.lab.hast1.run(f"{self.check} /dev/hast/disk1", check=True, timeout_s=120)


class Xfs(Files):
    kind = "xfs"
    check = "xfs_repair -n"


class PastCache(Files):
    """ext4 over disks that are used without the page cache."""

    settings = "timeout 5\ndisk-cache off\n"


class Pool(Site):
    """The article's raidz1. What is in the pool is for zfs-fuse to answer; the device itself is read for the pauses."""

    disks = ("disk1", "disk2", "disk3")
    load = "--direct=1 --filename=/zhast/load --fsync=64"
    probes = tuple((f"/dev/hast/{disk}", str(16 << 20), "read") for disk in ("disk1", "disk2", "disk3"))

    def prepare(self) -> None:
        zfs.start(self.lab.hast1)
        devices = " ".join(f"/dev/hast/{disk}" for disk in self.disks)
        self.lab.hast1.run(f"zpool create zhast raidz1 {devices}", check=True, timeout_s=60)

    def prove(self) -> None:
        host = self.lab.hast1
        host.run("zpool scrub zhast", check=True)
        host.wait_for("the scrub", lambda: "scrub completed" in host.run("zpool status zhast").stdout, 120)
        text = host.run("zpool status -v zhast", check=True).stdout
        assert "state: ONLINE" in text, text
        assert "with 0 errors" in text, text
        assert "No known data errors" in text, text
        counts = [line.split()[1:5] for line in text.splitlines() if "ONLINE" in line and "state" not in line]
        assert counts == [["ONLINE", "0", "0", "0"]] * 5, text
        host.run("zpool export zhast", check=True, timeout_s=60)
        zfs.stop(host)


SITES: Mapping[str, type[Site]] = {"device": Site, "ext4": Files, "xfs": Xfs, "raidz1": Pool, "past-cache": PastCache}


@contextmanager
def site(below: str) -> Iterator[Site]:
    """A pair that is complete, with this on its devices; afterwards it is proved sound and nothing is left of it."""
    raidz = below == "raidz1"
    settings = SITES[below].settings
    configuration = settings + article_configuration() if raidz else one_disk.configuration(settings)
    with Lab(configuration=configuration, disk_size_bytes=(128 if raidz else 320) << 20) as lab:
        for host in (lab.hast2, lab.hast1):
            host.run("mkdir -p /run/systemd/system /etc/systemd-says", check=True)
            host.run(["sh", "-c", "cat > /etc/systemd-says/systemctl"], text=SYSTEMCTL, check=True)
            host.run("chmod 755 /etc/systemd-says/systemctl", check=True)
            host.run(["hastctl", "create", *SITES[below].disks], check=True)
            start_hastd(host)
            host.run(f"hastctl role {'primary' if host is lab.hast1 else 'secondary'} all", check=True, timeout_s=60)
        wait_complete(lab)
        it = SITES[below](lab)
        it.prepare()
        yield it
        it.prove()
        wait_complete(lab)
        prove_copies(it)
        prove_nothing_left(lab.hast1)


def start_hastd(host: Host) -> None:
    path = f"/etc/systemd-says:{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    host.run("hastd", check=True, environment={**STARTED, "PATH": path})


def wait_complete(lab: Lab) -> None:
    def complete() -> bool:
        text = lab.hast1.run("hastctl status all").stdout
        return text.count("status: complete") == text.count("role: primary") == text.count("dirty: 0 (0B)") > 0

    lab.hast1.wait_for("complete and clean", complete, 90)


def prove_copies(it: Site) -> None:
    pair = (it.lab.hast1, it.lab.hast2)
    for host in pair:
        host.run("hastctl role init all", check=True, timeout_s=90)
    for disk in it.disks:
        first, second = (data_digest(host, disk, f"/dev/ad{disk[-1]}") for host in pair)
        assert first == second, f"the copies of {disk} differ"


def prove_nothing_left(host: Host) -> None:
    """Neither device, mount nor worker, once the roles are over; and no process after the stop."""
    assert not host.path("/dev/hast").exists()
    assert not host.processes(r"^hastd: disk"), host.processes("^hastd")
    assert "/run/hast" not in host.path("/proc/1/mounts").read_text()
    for process in host.processes("^hastd$"):
        process.kill(signal.SIGTERM)
    host.wait_for("the end of hastd", lambda: not host.processes("^hastd"), 60)


@dataclass
class Load:
    """fio and the probers on one site; `end` says how it went."""

    site: Site
    fio: Running = field(init=False)
    probers: list[Running] = field(init=False)

    def __post_init__(self) -> None:
        host = self.site.lab.hast1
        self.fio = host.spawn(f"{FIO} {self.site.load}")
        self.probers = [host.spawn([sys.executable, "-m", "hast.lab.pauses", *probe]) for probe in self.site.probes]
        host.wait_for("fio", lambda: bool(host.processes("^fio ")), 20)

    def check(self) -> None:
        """All go on. Raises LabError."""
        for running in (self.fio, *self.probers):
            if running.poll() is not None:
                raise LabError(f"{running.argv[:4]} ended: {running.output()[-500:]}{running.errors()[-500:]}")

    def end(self) -> list[tuple[float, float]]:
        """Stop it; the pauses as (moment, seconds)."""
        self.check()
        for prober in self.probers:
            prober.kill()
        forced = self._end_fio()
        done = self.fio.wait(120)
        assert "verify" not in done.stderr, done.stderr
        assert forced or done.returncode in (0, 128), f"{done.returncode}: {done.stderr}"
        lines = (line.split() for prober in self.probers for line in prober.output().splitlines())
        return [(float(at), float(took)) for at, took in lines]

    def _end_fio(self) -> bool:
        """True: by force, since it waited for what it never asked for. fio 3.33, told to end while it verifies, now and
        then sleeps in io_getevents(2) with nothing under way on any device."""
        host = self.site.lab.hast1
        for process in host.processes("^fio "):
            process.kill(signal.SIGTERM)
        until_s = time.monotonic() + 30
        while self.fio.poll() is None and time.monotonic() < until_s:
            time.sleep(0.1)
        if self.fio.poll() is not None:
            return False
        under_way = {disk: self._under_way(disk) for disk in self.site.disks}
        assert set(under_way.values()) == {(0, 0)}, f"I/O hangs: {under_way}"
        for process in host.processes("^fio "):
            process.kill()
        return True

    def _under_way(self, disk: str) -> tuple[int, int]:
        """Reads and writes that the kernel waits for."""
        device = os.path.basename(self.site.lab.hast1.path(f"/dev/hast/{disk}").readlink())
        reads, writes = Path(f"/sys/block/{device}/inflight").read_text().split()
        return int(reads), int(writes)


def kill_worker(trial: Endurance) -> None:
    """Of one of the primary's resources."""
    kill_worker_of(trial.site, trial.dice.choice(trial.site.disks))


def kill_worker_of(site: Site, disk: str) -> None:
    host = site.lab.hast1
    title = rf"^hastd: {disk} \(primary\)"
    host.wait_for("a primary worker", lambda: bool(host.processes(title)), 10)
    host.processes(title)[0].kill()


def kill_peers_worker(trial: Endurance) -> None:
    for process in trial.site.lab.hast2.processes(rf"^hastd: {trial.dice.choice(trial.site.disks)} \(secondary\)"):
        process.kill()


def kill_supervisor(trial: Endurance) -> None:
    wait_for_workers(trial.site)
    kill_supervisor_at_once(trial.site.lab.hast1)
    start_hastd(trial.site.lab.hast1)


def wait_for_workers(site: Site) -> None:
    """A device does not outlive hastd and its worker when both are dead before the next worker was started."""
    count = len(site.disks)
    host = site.lab.hast1
    host.wait_for("its workers", lambda: len(host.processes(r"^hastd: disk\d \(primary\)")) == count, 10)


def kill_supervisor_at_once(host: Host) -> None:
    for process in host.processes("^hastd$"):
        process.kill()


def restart(trial: Endurance) -> None:
    """As the unit does it: SIGTERM while systemd says that a start follows, then the start."""
    host = trial.site.lab.hast1
    wait_for_workers(trial.site)
    host.run("touch /run/restarting", check=True)
    for process in host.processes("^hastd$"):
        process.kill(signal.SIGTERM)
    host.wait_for("the end of hastd", lambda: not host.processes("^hastd$"), 30)
    start_hastd(host)
    host.run("rm /run/restarting", check=True)


def upgrade(trial: Endurance) -> None:
    trial.site.lab.hast1.run("hastctl upgrade", check=True, timeout_s=180)


def nothing(_trial: Endurance) -> None:
    """For comparison: what a user of this machine waits for anyway."""


@dataclass(frozen=True)
class Blow:
    """`share`: how often for each worker killed."""

    strike: Callable[[Endurance], None]
    share: float


BLOWS: Mapping[str, Blow] = {
    "worker": Blow(kill_worker, 1.0),
    "peer's worker": Blow(kill_peers_worker, 0.1),
    "supervisor": Blow(kill_supervisor, 0.1),
    "restart": Blow(restart, 0.1),
    "upgrade": Blow(upgrade, 0.04),
    "nothing": Blow(nothing, 0.1),
}


class Endurance:
    """Strikes a site under load in the order given; `table` says what its user saw."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        self.site = site
        self.dice = dice
        self._struck: list[tuple[float, str]] = []
        self._pauses: list[tuple[float, float]] = []

    def run(self, order: list[str]) -> None:
        """Raises LabError at the first error that a user sees, with the log."""
        load = Load(self.site)
        try:
            for what in order:
                time.sleep(STEP_S * self.dice.uniform(0.8, 1.5))
                load.check()
                self._struck.append((time.monotonic(), what))
                BLOWS[what].strike(self)
            time.sleep(2 * STEP_S)
            self._pauses = load.end()
        except (LabError, AssertionError) as error:
            last = f"after {len(self._struck)} blows, the last {self._struck[-3:]}, now {time.monotonic():.3f}"
            raise LabError(f"{last}: {error}\n{self.site.lab.hast1.log()[-6000:]}") from error

    def longest_s(self, what: str) -> list[float]:
        """The longest pause after each blow of this kind."""
        longest = longest_after([at for at, _ in self._struck], self._pauses)
        return [each_s for each_s, (_, kind) in zip(longest, self._struck, strict=True) if kind == what]

    def table(self, below: str) -> str:
        """Lines of a Markdown table."""
        return "\n".join(
            f"| {what} | {below} | {in_cells(all_s)} |" for what in BLOWS if (all_s := self.longest_s(what))
        )
