"""What stands on /dev/hast outlives every process of ours, under fio that verifies and on file systems.

Workers and supervisors are killed again and again, hastd is upgraded again and again; HAST_KILLS says how often. The
pauses that a user saw are printed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from hast.lab import Host, Lab, LabError, Running, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("HAST_KILLS", "20"))
DISK_BYTES = 512 << 20
WORKER = r"^hastd: disk1 \(primary\)"
STEP_S = 1.5
"""Between two strikes: a worker that has not served for a while before it dies makes a crash loop."""
FIO = (
    "fio --name=load --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=32 --size=24m --verify=crc32c"
    " --verify_backlog=512 --verify_fatal=1 --time_based --randrepeat=0 --runtime=3000"
)


class Load:
    """fio and a prober on one path; `end` says how it went."""

    def __init__(self, host: Host, path: str, offset_bytes: int) -> None:
        self.host = host
        where = f"--filename={path} --offset=0" if path.startswith("/dev") else f"--filename={path}/load"
        self.fio: Running = host.spawn(f"{FIO} {where}")
        probe = path if path.startswith("/dev") else f"{path}/probe"
        if not path.startswith("/dev"):
            host.run(["dd", "if=/dev/zero", f"of={probe}", "bs=4k", "count=1", "conv=fsync"], check=True)
        self.prober = host.spawn([sys.executable, "-m", "hast.lab.pauses", probe, str(offset_bytes)])
        host.wait_for("fio", lambda: bool(host.processes("^fio ")), 10)

    def check(self) -> None:
        """Both go on."""
        for running in (self.fio, self.prober):
            if running.poll() is not None:
                raise LabError(f"{running.argv[:4]} ended: {running.output()[-500:]}{running.errors()[-500:]}")

    def end(self) -> list[tuple[float, float]]:
        """Stop it; the pauses as (moment, seconds)."""
        self.check()
        self.prober.kill()
        for process in self.host.processes("^fio "):
            process.kill(15)
        done = self.fio.wait(120)
        assert "verify" not in done.stderr, done.stderr
        assert done.returncode in (0, 128), f"{done.returncode}: {done.stderr}"
        return [(float(at), float(took)) for at, took in map(str.split, self.prober.output().splitlines())]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(configuration=one_disk.configuration("timeout 5"), disk_size_bytes=DISK_BYTES) as lab:
        one_disk.bring_up(lab)
        yield lab


def kill_worker(lab: Lab) -> None:
    lab.hast1.wait_for("a primary worker", lambda: bool(lab.hast1.processes(WORKER)), 10)
    lab.hast1.processes(WORKER)[0].kill()


def kill_supervisor(lab: Lab) -> None:
    for process in lab.hast1.processes("^hastd$"):
        process.kill()
    lab.hast1.run("hastd", check=True)


def upgrade(lab: Lab) -> None:
    lab.hast1.run("hastctl upgrade", check=True, timeout_s=120)


STRIKES: dict[str, Callable[[Lab], None]] = {"worker": kill_worker, "supervisor": kill_supervisor, "upgrade": upgrade}
SHARES = {"worker": 1.0, "supervisor": 0.1, "upgrade": 0.04}


@pytest.mark.parametrize("below", ["device", "ext4", "xfs"])
@pytest.mark.parametrize("what", STRIKES)
def test_users_of_a_device_see_a_pause_and_no_error(lab: Lab, what: str, below: str) -> None:
    path = "/dev/hast/disk1" if below == "device" else "/mnt"
    if below != "device":
        lab.hast1.run(f"mkfs.{below} -q /dev/hast/disk1", check=True, timeout_s=60)
        lab.hast1.run(["mount", "/dev/hast/disk1", "/mnt"], check=True)
    load = Load(lab.hast1, path, 256 << 20 if below == "device" else 0)
    struck: list[float] = []
    for _ in range(max(3, round(ROUNDS * SHARES[what]))):
        time.sleep(STEP_S)
        load.check()
        struck.append(time.monotonic())
        STRIKES[what](lab)
    time.sleep(3.0)
    pauses = load.end()
    if below != "device":
        lab.hast1.run(["umount", "/mnt"], check=True, timeout_s=60)
        check = {"ext4": "e2fsck -fn", "xfs": "xfs_repair -n"}[below]
        lab.hast1.run(f"{check} /dev/hast/disk1", check=True, timeout_s=120)
    one_disk.wait_complete(lab.hast1)
    first, second = one_disk.digests(lab)
    assert first == second
    tell(what, below, struck, pauses)


def tell(what: str, below: str, struck: list[float], pauses: list[tuple[float, float]]) -> None:
    """The longest pause after each strike."""
    ends = [*struck[1:], float("inf")]
    longest = [
        max((took for at, took in pauses if began - took <= at < end), default=0.0)
        for began, end in zip(struck, ends, strict=True)
    ]
    share = statistics.quantiles(longest, n=20, method="inclusive")
    median_ms, most_ms, worst_ms = (1000 * each for each in (statistics.median(longest), share[18], max(longest)))
    print(f"{what} on {below}: {len(struck)} times; longest pause: median {median_ms:.0f} ms, 95 % {most_ms:.0f} ms,")
    print(f"    longest {worst_ms:.0f} ms")
