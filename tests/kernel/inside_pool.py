"""Runs as the only program of a small virtual machine: the article's raidz1 of true OpenZFS over /dev/hast devices.

Two hastd, each with three disks, in one kernel; the pool is on the first. Under fio --verify in the pool every worker
and both hastd are killed, also during a scrub; then a disk of the primary dies and is replaced, and one hangs and is
attached again. At the end the pool moves to the second node. Each step prints one line; the host looks for the last.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from inside_node import (
    PATIENCE_S,
    Node,
    Prober,
    device_gone,
    longest_pauses,
    processes,
    run,
    sleepers,
    standbys_wait,
    step,
    tell,
    until,
)

KIND = os.environ.get("KIND", "nbd")
PARTS = os.environ.get("PARTS", "kills kills_under_scrub a_disk_dies a_disk_hangs").split()
"""All, but where somebody looks for one defect."""
SUCCESS = f"POOL OVER {KIND.upper()}: ALL STEPS PASSED"
DISKS = ("disk1", "disk2", "disk3")
SIZE_BYTES = 96 << 20
DISK_TIMEOUT_S = 10
SLOW_MACHINE_S = 30.0
"""What an emulated machine may take beyond `disk-timeout` + 2 s."""
SPARE = Path("/tmp/spare.img")
POOL = "storage"
FILES = 3
FILE_BYTES = 2 << 20
SETTLE_S = 240.0
APART_S = 5.0
FIO = (
    f"/sbin/fio --name=load --directory=/{POOL} --thread --ioengine=psync --rw=randwrite --bs=16k --size=4m --fsync=16"
    " --verify=crc32c --verify_backlog=32 --verify_fatal=1 --time_based --randrepeat=0 --runtime=3000 --rate_iops=20"
)
"""At a rate that leaves an emulated machine time for everything else."""


def disk(number: int, name: str) -> Path:
    """The first node's disks lie on device mapper, so that they can die and hang."""
    return Path(f"/dev/dm-{DISKS.index(name)}") if number == 1 else Path(f"/tmp/{name}.{number}.img")


def configuration(number: int) -> str:
    own, peer = f"127.0.0.{number}", f"127.0.0.{3 - number}"
    resources = "".join(
        f"resource {name} {{\n\tdevice {KIND}\n\tdisk-timeout {DISK_TIMEOUT_S}\n\ton machine {{\n"
        f"\t\tlocal {disk(number, name)}\n\t\tremote {peer}\n\t\tsource {own}\n\t}}\n}}\n"
        for name in DISKS
    )
    return f"listen {own}\n{resources}"


def make_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)


class Mapped:
    """A disk of the first node: device mapper over a loop device over memory."""

    def __init__(self, name: str, loop: str) -> None:
        self._name, self._loop = name, loop
        file = Path(f"/tmp/{name}.1.img")
        make_file(file)
        run("/bin/losetup", loop, str(file))
        self._dmsetup("create", name, "--table", self._table("linear"))

    def dies(self) -> None:
        """Every access is an error from now on."""
        self._dmsetup("suspend", "--nolockfs", self._name)
        self._dmsetup("load", self._name, "--table", self._table("flakey", " 0 3600"))
        self._dmsetup("resume", self._name)

    def hangs(self) -> None:
        """Nothing is answered from now on."""
        self._dmsetup("suspend", "--nolockfs", "--noflush", self._name)

    def goes_on(self) -> None:
        self._dmsetup("resume", self._name)

    def _table(self, target: str, more: str = "") -> str:
        return f"0 {SIZE_BYTES // 512} {target} {self._loop} 0{more}"

    def _dmsetup(self, *words: str) -> None:
        run("/sbin/dmsetup", "--noudevsync", "--noudevrules", *words)


class Pool:
    """The raidz1, with files whose digests are known, and a load."""

    def __init__(self, devices: Path) -> None:
        paths = [str(devices / name) for name in DISKS]
        run("/sbin/zpool", "create", "-f", "-o", "cachefile=none", POOL, "raidz1", *paths)
        run("/sbin/zfs", "set", "primarycache=metadata", "compression=off", POOL)
        self._sums = {f"file{number}": self._write(f"file{number}") for number in range(FILES)}
        self._fio: subprocess.Popen[str] | None = None
        self._prober: Prober | None = None

    def _write(self, name: str, size_bytes: int = FILE_BYTES) -> str:
        data = os.urandom(size_bytes)
        with Path("/", POOL, name).open("wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        return hashlib.sha256(data).hexdigest()

    def load(self) -> None:
        self._prober = Prober(Path("/", POOL, "probe"))
        self._fio = subprocess.Popen(FIO.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def sync(self) -> float:
        """How long one fsync(2) took, in seconds."""
        began_s = time.monotonic()
        syncing = threading.Thread(target=self._write, args=("synced", 4096), daemon=True)
        syncing.start()
        syncing.join(PATIENCE_S)
        assert not syncing.is_alive(), "an fsync(2) in the pool hangs"
        return time.monotonic() - began_s

    def check_load(self) -> None:
        assert self._prober is not None
        assert self._fio is not None
        self._prober.check()
        assert self._fio.poll() is None, self._fio.communicate()

    def pauses(self) -> list[tuple[float, float]]:
        assert self._prober is not None
        return self._prober.pauses()

    def end_load(self) -> None:
        self.check_load()
        assert self._prober is not None
        assert self._fio is not None
        self._prober.end()
        self._fio.terminate()
        said = self._fio.communicate(timeout=SETTLE_S)[0]
        assert "verify:" not in said, said
        assert "bad" not in said, said

    def check_files(self) -> None:
        for name, digest in self._sums.items():
            assert hashlib.sha256(Path("/", POOL, name).read_bytes()).hexdigest() == digest, name

    def scrub(self) -> None:
        run("/sbin/zpool", "scrub", "-w", POOL)

    def check(self) -> str:
        """ONLINE, without a single error, and no scrub that had to mend anything."""
        text = run("/sbin/zpool", "status", "-p", POOL)
        assert f"pool: {POOL}" in text, text
        assert "state: ONLINE" in text, text
        assert "errors: No known data errors" in text, text
        counters = re.findall(r"^\t\s*\S+\s+ONLINE\s+(\d+)\s+(\d+)\s+(\d+)", text, re.MULTILINE)
        assert len(counters) == len(DISKS) + 2, text
        assert set(counters) == {("0", "0", "0")}, text
        assert "scan: scrub" not in text or "repaired 0" in text or "in progress" in text, text
        return text


class Story:
    def __init__(self) -> None:
        self.disks = {name: Mapped(name, f"/dev/loop{number}") for number, name in enumerate(DISKS)}
        for name in DISKS:
            make_file(disk(2, name))
        self.one, self.two = Node(1, configuration(1)), Node(2, configuration(2))

    def start(self) -> None:
        for node, role in ((self.two, "secondary"), (self.one, "primary")):
            node.hastctl("create", *DISKS)
            node.start()
            standbys_wait()
            node.hastctl("role", role, *DISKS)
        self.wait_complete(self.one)
        step("two nodes up, three resources complete: " + ", ".join(self.targets(self.one)))

    def targets(self, node: Node) -> list[str]:
        return [os.readlink(node.devices / name) for name in DISKS]

    def wait_complete(self, primary: Node, names: tuple[str, ...] = DISKS) -> None:
        """Both copies whole; what is dirty under load is being written just now."""

        def complete() -> bool:
            return all(entry["status"] == "complete" for entry in primary.status(*names).values())

        until(f"{names} complete", complete, SETTLE_S)

    def kill_primary(self, name: str) -> None:
        """kill -9 of the primary's worker; returns when the device has another one."""
        text = f"[{name}] (primary) The worker was restarted"
        before = self.one.log().count(text)
        self._kill_worker(f"hastd: {name} (primary)")
        until(f"another worker of {name}", lambda: self.one.log().count(text) > before)

    def kill_secondary(self, name: str) -> None:
        self._kill_worker(f"hastd: {name} (secondary)")
        self.wait_complete(self.one, (name,))

    def _kill_worker(self, title: str) -> None:
        until(title, lambda: processes(title))
        os.kill(processes(title)[0], signal.SIGKILL)

    def kill_hastd(self, node: Node) -> None:
        node.kill()
        node.start()
        self.wait_complete(self.one)


Blows = list[tuple[str, Callable[[], None]]]


def strikes(pool: Pool, blows: Blows) -> None:
    """Blows under load; the longest pause of the pool's user at each."""
    moments = []
    for what, blow in blows:
        began_s = time.monotonic()
        blow()
        time.sleep(APART_S)
        pool.check_load()
        pool.check()
        step(what)
        moments.append((what, began_s, time.monotonic()))
    pauses = pool.pauses()
    for what, began_s, end_s in moments:
        pause_s = longest_pauses([began_s], pauses, end_s)[0]
        step(f"{what}: no error, pool ONLINE, longest pause {pause_s:.1f} s")


def kills(story: Story, pool: Pool) -> None:
    blows: Blows = [(f"{name}: primary's worker killed", partial(story.kill_primary, name)) for name in DISKS]
    blows += [
        ("disk2: secondary's worker killed", partial(story.kill_secondary, "disk2")),
        ("primary's hastd killed", partial(story.kill_hastd, story.one)),
        ("secondary's hastd killed", partial(story.kill_hastd, story.two)),
    ]
    strikes(pool, blows)


def kills_under_scrub(story: Story, pool: Pool) -> None:
    for blow in (partial(story.kill_primary, "disk1"), partial(story.kill_hastd, story.one)):
        run("/sbin/zpool", "scrub", POOL)
        blow()
        run("/sbin/zpool", "wait", "-t", "scrub", POOL)
        pool.check()
    pool.check_load()
    step("a worker and hastd killed under scrub and load: each scrub ended with nothing to repair")


def degraded(story: Story, name: str) -> None:
    until(f"{name} degraded", lambda: story.one.status(name)[name]["status"] == "degraded")
    problems = story.one.status(name)[name]["problems"]
    assert isinstance(problems, list)
    kinds = {each["kind"]: each["text"] for each in problems}
    assert "disk" in kinds, problems
    step(f"{name}: degraded: {kinds['disk']}")


def a_disk_dies(story: Story, pool: Pool) -> None:
    struck_s = time.monotonic()
    story.disks["disk1"].dies()
    degraded(story, "disk1")
    time.sleep(APART_S)
    pool.check_load()
    pool.check()
    tell("the primary's disk1 fails every access (dm-flakey), pool ONLINE", [struck_s], pool.pauses(), time.monotonic())
    make_file(SPARE)
    story.one.hastctl("replace", "disk1", str(SPARE))
    story.one.reconfigure(str(disk(1, "disk1")), str(SPARE))
    story.wait_complete(story.one, ("disk1",))
    pool.check_load()
    pool.check()
    step("replaced under load, complete")


def a_disk_hangs(story: Story, pool: Pool) -> None:
    """Who calls fsync(2) again and again meets it."""
    struck_s = time.monotonic()
    story.disks["disk2"].hangs()
    longest_s = 0.0
    while story.one.status("disk2")["disk2"]["status"] != "degraded":
        longest_s = max(longest_s, pool.sync())
        assert time.monotonic() < struck_s + PATIENCE_S, "the disk that hangs was not given up"
    longest_s = max(longest_s, pool.sync())
    step(
        f"the primary's disk2 hangs (dmsetup suspend), disk-timeout {DISK_TIMEOUT_S} s: longest fsync {longest_s:.1f} s"
    )
    assert longest_s < DISK_TIMEOUT_S + 2 + SLOW_MACHINE_S, longest_s
    pool.check_load()
    degraded(story, "disk2")
    pool.check()
    story.disks["disk2"].goes_on()
    story.one.hastctl("attach", "disk2")
    story.wait_complete(story.one, ("disk2",))
    pool.check_load()
    pool.check()
    step("it answers again, attached under load, complete")


def change_over(story: Story, pool: Pool) -> None:
    run("/sbin/zpool", "export", POOL)
    story.wait_complete(story.one)
    before = story.targets(story.one)
    story.one.hastctl("role", "secondary", *DISKS)
    for target in before:
        until(f"{target} to go", lambda target=target: device_gone(target))
    standbys_wait()
    story.two.hastctl("role", "primary", *DISKS)
    run("/sbin/zpool", "import", "-o", "cachefile=none", "-d", str(story.two.devices), POOL)
    pool.check_files()
    pool.scrub()
    pool.check()
    run("/sbin/zpool", "export", POOL)
    story.wait_complete(story.two)
    step("exported, roles changed, imported on the other node: files intact, scrub clean")


def copies_are_equal(story: Story) -> None:
    dumps = story.two.hastctl("dump", "disk1")
    offset = re.search(r"localoff: (\d+)", dumps)
    assert offset is not None, dumps
    for node in (story.one, story.two):
        node.hastctl("role", "init", *DISKS)
    for name in DISKS:
        mine = SPARE if name == "disk1" and SPARE.exists() else disk(1, name)
        sums = []
        for path in (mine, disk(2, name)):
            with path.open("rb") as file:
                file.seek(int(offset[1]))
                sums.append(hashlib.file_digest(file, "sha256").hexdigest())
        assert sums[0] == sums[1], f"the copies of {name} differ"
    step("copies are equal")


def tell_story(story: Story) -> None:
    story.start()
    pool = Pool(story.one.devices)
    parted = [
        str(path) for target in story.targets(story.one) for path in Path("/sys/block", Path(target).name).glob("*p1")
    ]
    step(f"{POOL}: raidz1, ZFS {Path('/sys/module/zfs/version').read_text().strip()}, partitions: {parted or 'none'}")
    pool.load()
    time.sleep(APART_S)
    for part in (kills, kills_under_scrub, a_disk_dies, a_disk_hangs):
        if part.__name__ in PARTS:
            part(story, pool)
    pool.end_load()
    pool.check_files()
    pool.scrub()
    print(pool.check(), flush=True)
    step("fio --verify ended without an error; scrub clean, no error counted on any device")
    change_over(story, pool)
    copies_are_equal(story)
    for node in (story.one, story.two):
        node.stop()


def prepare() -> None:
    socket.sethostname("machine")
    run("/bin/ip", "link", "set", "lo", "up")
    Path("/sys/module/zfs/parameters/zfs_arc_max").write_text(str(128 << 20))


def main() -> None:
    story = None
    try:
        prepare()
        story = Story()
        tell_story(story)
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
        print(sleepers("hastd: "))
        for node in (story.one, story.two) if story else ():
            print(node.log()[-8000:])
        subprocess.run(["/sbin/zpool", "status"])
    sys.stdout.flush()


if __name__ == "__main__":
    main()
