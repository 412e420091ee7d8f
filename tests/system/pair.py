"""Two Debians made a pair by the README's own commands, a client that writes to the shared address, and the proofs.

What a story may rely on, and what `Pair.check` shows after it: one master, roles right, pool ONLINE, units well, every
acknowledged record there, both copies equal.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path

import recipe
from system_machine import DISKS, Machine, Wire, until

from hast.lab import loops
from hast.lab.cluster import carp_state, serves, status
from hast.lab.network import PUB, REPL, Switch

RECORDS = Path(__file__).with_name("records.py")
ADDRESS, PORT = "10.10.10.180", 7000
FOLDER = "hast-system-"
RECORDS_UNIT = f"""\
[Unit]
Description=Records of the client
[Service]
ExecStart=/usr/bin/python3 /usr/local/sbin/records.py serve /zhast/records {PORT}
"""
HEADING = "Two Debians, one pool"
WITNESS = "A third machine as witness"
RESOURCES = ("disk1", "disk2", "disk3")
UNITS = ("hastd", "carpd", "hast-devd", "hast-action")
SETTLE_S = 120.0
COMPARE_TRIES = 20


class Failed(AssertionError):
    """What a story promises is not so."""


class Pair:
    """hast1, hast2, a client. Use as a context manager; `witness` adds a third Debian with hast-witness."""

    def __init__(self, packages: Path, suite: str = "bookworm") -> None:
        self.suite = suite
        remove_orphans()
        self.base = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=8g", "hast-system", str(self.base)], check=True)
        self._packages = packages
        self.switch = Switch()
        self._client: Wire | None = None
        self._writer: subprocess.Popen[bytes] | None = None
        self._printed = self.base / "acknowledged"
        self.witness: Machine | None = None
        self.machines: tuple[Machine, ...] = ()
        self.began = time.time()

    def __enter__(self) -> Pair:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        if self._writer is not None:
            self._writer.kill()
            self._writer.wait()
        for machine in (*self.machines, *([self.witness] if self.witness else [])):
            machine.close()
        if self._client is not None:
            self._client.close()
        self.switch.close()
        subprocess.run(["umount", "--lazy", str(self.base)], check=False)
        self.base.rmdir()

    # Building

    def _build(self) -> None:
        binds = (f"{self._packages}:/dist",)
        for number, name in enumerate(("hast1", "hast2")):
            cards = {"eth0": (PUB, 181 + number), "eth1": (REPL, 100 + number)}
            self.machines += (Machine(self.base, name, cards, self.switch, binds, suite=self.suite),)
        self._client = Wire("client", {"eth0": (PUB, 50)}, self.switch)
        enter = ["nsenter", f"--net=/proc/{self._client.pid}/ns/net", "ip"]
        for words in ("link set eth0 up", "address add 10.10.10.50/24 dev eth0"):
            subprocess.run([*enter, *words.split()], check=True)
        for machine in self.machines:
            machine.power_on(wait=False)
        for machine in self.machines:
            machine.wait_booted()
            machine.tell("/usr/local/sbin/records.py", RECORDS.read_text())
            machine.tell("/etc/systemd/system/records.service", RECORDS_UNIT)
        self._set_up()

    def _set_up(self) -> None:
        """The README as it stands; only the client's service is added to failover.conf."""
        for where, script in recipe.steps(HEADING):
            if script.startswith("carpctl status"):
                self.settle()
            for machine in self.machines:
                if where in ("both", machine.name):
                    machine.run(f"set -e; cd /dist\n{script}", timeout_s=180)
                    if ">/etc/failover.conf" in script:
                        machine.run("echo 'service records.service' >>/etc/failover.conf; failover check")
            if "create" in script:
                for machine in self.machines:
                    until("the control socket", lambda machine=machine: bool(status(machine)), 30)
            if "zpool create" in script:
                self.wait_complete(self.hast1)
        dump = self.hast1.run("hastctl dump disk1").stdout
        self.offset_bytes = int(dump.split("localoff: ")[1].split()[0])

    def with_witness(self) -> Machine:
        """A third Debian, set up by the README unless it is there."""
        if self.witness is None:
            cards, binds = {"eth0": (PUB, 60)}, (f"{self._packages}:/dist",)
            self.witness = Machine(self.base, "witness", cards, self.switch, binds, disks=False, suite=self.suite)
            self.witness.power_on()
            for where, script in recipe.steps(WITNESS):
                for machine in [self.witness] if where == "the witness" else self.machines:
                    machine.run(f"set -e; cd /dist\n{script}")
            self.hand_over()
        return self.witness

    # Who is who

    @property
    def hast1(self) -> Machine:
        return self.machines[0]

    @property
    def hast2(self) -> Machine:
        return self.machines[1]

    def other(self, machine: Machine) -> Machine:
        return self.hast2 if machine is self.hast1 else self.hast1

    @property
    def master(self) -> Machine:
        """Whose address and roles are those of a master. Raises Failed."""
        for machine in self.machines:
            if carp_state(machine) == "MASTER" and self.roles(machine) == {"primary"}:
                return machine
        raise Failed(f"nobody is master\n{self.describe()}")

    @property
    def slave(self) -> Machine:
        return self.other(self.master)

    def roles(self, machine: Machine) -> set[str]:
        entries = status(machine)
        return {str(entry.get("role")) for entry in entries.values()} if len(entries) == len(RESOURCES) else set()

    def serves(self, machine: Machine) -> bool:
        """Whether this machine is master with all that follows."""
        return (
            carp_state(machine) == "MASTER"
            and self.roles(machine) == {"primary"}
            and machine.run("systemctl is-active -q records", check=False).returncode == 0
        )

    def wait_serves(self, machine: Machine, timeout_s: float = 30.0) -> float:
        return self._until(f"{machine.name} serves", lambda: self.serves(machine), timeout_s)

    def hand_over(self) -> None:
        """The planned switch of the README."""
        master = self.master
        master.run("carpctl state 1 backup")
        self.wait_serves(self.other(master))
        master.run("carpctl state 1 auto")

    def is_complete(self, machine: Machine) -> bool:
        entries = status(machine).values()
        return len(entries) == len(RESOURCES) and all(
            entry.get("role") == "primary" and entry.get("status") == "complete" and not entry.get("dirty")
            for entry in entries
        )

    def wait_complete(self, machine: Machine, timeout_s: float = 60.0) -> float:
        return self._until(f"{machine.name} complete", lambda: self.is_complete(machine), timeout_s)

    def settle(self, timeout_s: float = SETTLE_S) -> float:
        """Wait until one is master and serves, the other follows in step; returns the seconds."""

        def settled() -> bool:
            return any(
                carp_state(machine) == "MASTER"
                and carp_state(self.other(machine)) == "BACKUP"
                and self.is_complete(machine)
                and self.roles(self.other(machine)) == {"secondary"}
                and all(each.run("failover status", check=False).returncode == 0 for each in self.machines)
                for machine in self.machines
            )

        return self._until("a master and a slave in step", settled, timeout_s, 0.5)

    def _until(self, what: str, condition: object, timeout_s: float, step_s: float = 0.1) -> float:
        try:
            return until(what, condition, timeout_s, step_s)  # type: ignore[arg-type]
        except TimeoutError as error:
            raise Failed(f"{error}\n{self.describe()}") from None

    # The client

    def start_writer(self) -> None:
        """The client writes records from now on."""
        acknowledged = self.acknowledged()
        first = acknowledged[-1][0] + 1 if acknowledged else 1
        assert self._client is not None
        command = ["nsenter", f"--net=/proc/{self._client.pid}/ns/net", sys.executable, str(RECORDS)]
        with self._printed.open("ab") as printed:
            self._writer = subprocess.Popen(
                [*command, "write", ADDRESS, str(PORT), str(first)],
                stdout=printed,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def stop_writer(self) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer.wait()
            self._writer = None

    def acknowledged(self) -> list[tuple[int, float]]:
        """(record, monotonic seconds) in order."""
        if not self._printed.exists():
            return []
        text = self._printed.read_text()
        words = (line.split() for line in text[: text.rfind("\n") + 1].splitlines())
        return [(int(number), float(moment)) for number, moment in words]

    def wait_written(self, count: int = 20, timeout_s: float = 30.0) -> None:
        """Wait for so many more acknowledged records."""
        before = len(self.acknowledged())
        self._until(f"{count} more records", lambda: len(self.acknowledged()) >= before + count, timeout_s)

    def pause_s(self, since_s: float) -> float:
        """The longest time between two acknowledgements since this moment of the monotonic clock."""
        moments = [moment for _, moment in self.acknowledged() if moment >= since_s - 1.0]
        return max((later - earlier for earlier, later in pairwise(moments)), default=float("inf"))

    def missing(self) -> list[int]:
        """Acknowledged records that are not in the pool."""
        found = self.master.run("cat /zhast/records").stdout.split()
        return sorted({number for number, _ in self.acknowledged()} - {int(word) for word in found if word.isdecimal()})

    # The proofs

    def check(self, cut_off: bool = False) -> None:
        """All that must be so after a story, but for `cut_off` that the copies never parted. Raises Failed."""
        self.settle()
        self.wait_written()
        self.stop_writer()
        wrong = []
        if missing := self.missing():
            wrong.append(f"{len(missing)} acknowledged records are missing: {missing[:5]} ... {missing[-1]}")
        if ill := self.pool_is_ill():
            wrong.append(f"the pool is not well: {ill}")
        for machine in self.machines:
            if failed := machine.run("systemctl --failed --plain --no-legend", check=False).stdout:
                wrong.append(f"{machine.name}: failed units: {failed.strip()}")
            if not cut_off and (split := machine.log(self.began, "--grep", "[Ss]plit.brain")):
                wrong.append(f"{machine.name}: {split.splitlines()[0]}")
        if differing := self.differing():
            wrong.append(f"the copies differ: {differing}")
        if wrong:
            raise Failed("\n".join([*wrong, self.describe()]))

    def pool_is_ill(self) -> str:
        """What `zpool status` says of a pool that is not ONLINE, or has errors that are still there after a scrub.

        Errors of a suspended pool that went on stay listed until its blocks were read again.
        """
        master = self.master
        for _ in range(3):
            found = master.run("zpool status -v zhast", check=False).stdout
            if "state: ONLINE" in found and "errors: No known data errors" in found:
                return ""
            scrub = "zpool scrub zhast; while zpool status zhast | grep -q 'in progress'; do sleep 0.2; done"
            print(f"{master.name}: scrubbed, because of {found}")
            master.run(scrub, check=False, timeout_s=60)
        return found

    def differing(self) -> list[str]:
        """Resources whose copies are not equal, once nothing is written any more."""
        found: list[str] = []
        for _ in range(COMPARE_TRIES):
            found = [name for name, disk in zip(RESOURCES, DISKS, strict=True) if not self._equal(disk)]
            if not found:
                break
            time.sleep(1)
        return found

    def _equal(self, disk: str) -> bool:
        paths = [Path(machine.disk(disk)) for machine in self.machines]
        with paths[0].open("rb", 0) as one, paths[1].open("rb", 0) as two:
            one.seek(self.offset_bytes)
            two.seek(self.offset_bytes)
            while part := one.read(1 << 20):
                if part != two.read(1 << 20):
                    return False
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While it lasts no resource is served by both. Raises Failed at the end."""
        ended, both = [False], []

        def look() -> None:
            while not ended[0]:
                served = [{name for name, entry in status(each).items() if serves(entry)} for each in self.machines]
                if twice := served[0] & served[1]:
                    both.append((time.time(), sorted(twice)))
                time.sleep(0.1)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended[0] = True
            thread.join(10)
        if both:
            raise Failed(f"two primaries for {both[-1][0] - both[0][0]:.1f} s: {both[0]}\n{self.describe()}")

    @contextmanager
    def story(self, cut_off: bool = False) -> Iterator[Pair]:
        """What happens inside happens to a pair under a writing client."""
        self.began = time.time()
        self.since_s = time.monotonic()
        self.start_writer()
        self.wait_written()
        with nullcontext() if cut_off else self.watched():
            yield self

    def describe(self, lines: int = 70) -> str:
        """How everything stands, and what the journals say of the story."""
        parts = []
        for machine in self.machines:
            if machine.is_on:
                with suppress(subprocess.TimeoutExpired):
                    parts.append(f"{machine.name}# {machine.run(LOOK, check=False, timeout_s=20).stdout}")
        for machine in self.machines:
            log = machine.log(self.began, *(f"--unit={unit}" for unit in UNITS), "--unit=zfs-fuse", "--unit=init.scope")
            parts.append(f"{machine.name}: journal\n" + "\n".join(log.splitlines()[-lines:]))
        return "\n\n".join(parts)


LOOK = (
    "carpctl status; hastctl status --table; timeout 10 failover status; timeout 5 zpool status;"
    "systemctl --failed --plain --no-legend; systemctl list-jobs"
)


def remove_orphans(folders: Sequence[Path] | None = None) -> None:
    """Take away what a run left that was killed."""
    for folder in folders or sorted(Path(tempfile.gettempdir()).glob(f"{FOLDER}*")):
        owner = folder.name.removeprefix(FOLDER).partition("-")[0]
        if Path("/proc", owner).exists():
            continue
        loops.detach_under(folder)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for target in reversed([path for path in mounted if path.startswith(str(folder))]):
            subprocess.run(["umount", "--lazy", target], check=False)
        shutil.rmtree(folder, ignore_errors=True)
