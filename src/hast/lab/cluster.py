"""Two lab hosts as the article leaves them: hastd, carpd and hast-devd on both, an export on the virtual address, and a
client that writes through it. For scenarios of fail-over.

    with Cluster() as cluster:
        cluster.bring_up()
        pulled_s = cluster.pull("hast1", "pub")
        cluster.wait_master("hast2", 10)

What the hosts do by themselves is configured in /etc; nothing here helps them.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType
from typing import Any

from hast.failover.hastd import Hastd, HastdError
from hast.lab import one_disk
from hast.lab.copies import data_digest
from hast.lab.host import Host
from hast.lab.laboratory import Lab, article_configuration
from hast.lab.network import NETWORKS
from hast.lab.processes import LabError, Running
from hast.lab.records import Journal

ADDRESS = "10.10.10.180"
PORT = 10809
CLIENTS = "10.10.10.0/24"
"""Who may use the export."""
IQN = "iqn.2026-01.test.hast:storage"
MASTER_TIMEOUT_S = 40.0
ASK_S = 2.0

CARP_CONF = """\
interface pub
{resources}
on hast1 {{ ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 0" }}
on hast2 {{ ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 100" }}
"""
DEVD_CONF = """\
notify 30 {
	match "system" "IFNET";
	match "subsystem" "carp0";
	match "type" "LINK_UP";
	action "failover master";
};
notify 30 {
	match "system" "IFNET";
	match "subsystem" "carp0";
	match "type" "LINK_DOWN";
	action "failover slave";
};
"""
RECORDS = (sys.executable, "-m", "hast.lab.records")


def one_disk_failover(disk: str = "disk1") -> str:
    """failover.conf for one resource served as NBD over TCP, without a pool."""
    return f"resources {disk}\nexport nbd {disk} {{ listen {ADDRESS}:{PORT} allow {CLIENTS} }}\n"


class Cluster:
    """The lab with both hosts and a client. `lines` are further statements of the resource disk1."""

    def __init__(
        self,
        *lines: str,
        disks: int = 1,
        hosts: Sequence[str] = (),
        failover: str | None = None,
        etc: Mapping[str, str] | None = None,
        disk_size_bytes: int = 32 << 20,
    ) -> None:
        self.resources = [f"disk{number}" for number in range(1, disks + 1)]
        watched = " ".join(f"resource {name}" for name in self.resources)
        configuration = one_disk.configuration(*lines) if disks == 1 else article_configuration(disks)
        self.lab = Lab(
            hosts=("hast1", "hast2", "client", *hosts),
            configuration=configuration,
            etc={
                "carp.conf": CARP_CONF.format(resources=watched),
                "devd.conf": DEVD_CONF,
                "failover.conf": failover or one_disk_failover(),
                **(etc or {}),
            },
            disk_size_bytes=disk_size_bytes,
        )
        self._begin()

    @classmethod
    def over(
        cls,
        lab: Lab,
        resources: Sequence[str],
        before_hastd: Callable[[Host], None],
        disks: Mapping[str, str] | None = None,
    ) -> Cluster:
        """The same over a lab that is built already; `before_hastd` starts what a host needs first at boot. `disks`:
        path by resource, where it is not /dev/adN for diskN."""
        cluster = cls.__new__(cls)
        cluster.resources = list(resources)
        cluster.lab = lab
        cluster._begin()
        cluster.disks.update(disks or {})
        cluster.before_hastd = before_hastd
        return cluster

    def _begin(self) -> None:
        self.disks = {name: f"/dev/ad{name.removeprefix('disk')}" for name in self.resources}
        self.before_hastd: Callable[[Host], None] | None = None
        self.writer: Running | None = None
        self.acknowledged = Journal()
        self.watch: Watch | None = None
        self.pulled: set[tuple[str, str]] = set()

    def __enter__(self) -> Cluster:
        self.lab.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.watch is not None:
            self.watch.stop()
        self.lab.close()

    @property
    def hast1(self) -> Host:
        return self.lab.hosts["hast1"]

    @property
    def hast2(self) -> Host:
        return self.lab.hosts["hast2"]

    @property
    def pair(self) -> tuple[Host, Host]:
        return self.hast1, self.hast2

    def other(self, host: Host) -> Host:
        return self.hast2 if host is self.hast1 else self.hast1

    # Starting

    def create(self) -> None:
        """`hastctl create` on both."""
        for host in self.pair:
            host.run(["hastctl", "create", *self.resources], check=True)

    def boot(self, host: Host, *programs: str) -> None:
        """Power on if need be, and start what a host starts by itself at boot. Raises LabError."""
        if not host.is_on:
            host.power_on()
        if not programs and self.before_hastd is not None:
            self.before_hastd(host)
        for program in programs or ("hastd", "hast-devd", "carpd"):
            host.run(program, check=True)

    def bring_up(self, timeout_s: float = MASTER_TIMEOUT_S, elected: bool = True) -> None:
        """Create, boot both, wait until hast1 is master and both copies are the same. Raises LabError.

        Not `elected`: by hand, which saves the seconds in which a booting host listens.
        """
        self.create()
        for host in self.pair:
            self.boot(host)
        if not elected:
            self._wait(self.hast1, "carpd to know the copies", lambda: knows_copies(self.hast1), timeout_s)
            for order in ("master", "auto"):
                self.hast1.run(f"carpctl state 1 {order}", check=True)
        self.wait_master(self.hast1, timeout_s)
        self.wait_settled(self.hast1, timeout_s)

    # Looking

    def roles(self, host: Host) -> dict[str, str]:
        """Role of each resource; empty while hastd does not answer."""
        return {name: str(entry.get("role")) for name, entry in status(host).items()}

    def is_role(self, host: Host, role: str) -> bool:
        roles = self.roles(host)
        return len(roles) == len(self.resources) and set(roles.values()) == {role}

    def is_carp(self, host: Host, state: str) -> bool:
        return carp_state(host) == state

    def is_master(self, host: Host) -> bool:
        """Address, roles, and the export."""
        return self.is_carp(host, "MASTER") and self.is_role(host, "primary") and self.is_on_port(host)

    def is_on_port(self, host: Host) -> bool:
        """Whether somebody there listens where clients connect to."""
        return listens(host, PORT)

    def is_complete(self, primary: Host) -> bool:
        found = status(primary).values()
        return bool(found) and all(
            entry.get("role") == "primary" and entry.get("status") == "complete" and entry.get("dirty") == 0
            for entry in found
        )

    def wait_master(self, host: Host, timeout_s: float = MASTER_TIMEOUT_S) -> float:
        """Wait until this host is master and serves; returns the seconds. Raises LabError."""
        return self._wait(host, "this host to be master and serve", lambda: self.is_master(host), timeout_s)

    def wait_settled(self, master: Host, timeout_s: float = MASTER_TIMEOUT_S) -> float:
        """Wait until the other is backup and secondary and has every block; returns the seconds. Raises LabError."""
        slave = self.other(master)

        def settled() -> bool:
            return (
                self.is_master(master)
                and self.is_carp(slave, "BACKUP")
                and self.is_role(slave, "secondary")
                and self.is_complete(master)
            )

        return self._wait(master, f"{master.name} master, {slave.name} slave, complete", settled, timeout_s)

    def wait_demoted_copy(self, host: Host, timeout_s: float = 15.0) -> float:
        """Wait until carpd of this host is demoted by the state of its copy; returns the seconds. Raises LabError."""

        def demoted() -> bool:
            vhids = carp_status(host).get("vhids") or [{}]
            return bool(vhids[0].get("data_demotion"))

        return self._wait(host, "demotion by the copy", demoted, timeout_s)

    def wait_role(self, host: Host, role: str, timeout_s: float = MASTER_TIMEOUT_S) -> float:
        return self._wait(host, f"role {role}", lambda: self.is_role(host, role), timeout_s)

    def _wait(self, host: Host, what: str, condition: Callable[[], bool], timeout_s: float) -> float:
        try:
            return host.wait_for(what, condition, timeout_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.describe()}") from None

    def describe(self, lines: int = 60) -> str:
        """How everything stands, and the ends of both logs."""
        parts = []
        for host in self.pair:
            parts.append(
                f"{host.name}: CARP {carp_state(host)}, roles {self.roles(host)}, export {listens(host, PORT)}"
            )
        for host in self.pair:
            parts.append("\n".join(host.log().splitlines()[-lines:]))
        return "\n\n".join(parts)

    # The client

    def start_writer(self, at: str = ADDRESS) -> None:
        """The client begins to write records to this address, or goes on."""
        first = self.acknowledged.acknowledged[-1][0] + 1 if self.acknowledged.acknowledged else 1
        self.writer = self.lab.hosts["client"].spawn([*RECORDS, at, str(PORT), "write", str(first)])

    def journal(self) -> Journal:
        """Everything acknowledged so far."""
        now = Journal.parse(self.writer.output()) if self.writer is not None else Journal()
        return self.acknowledged + now

    def wait_written(self, count: int = 20, timeout_s: float = 20.0) -> None:
        """Wait for so many more acknowledged records. Raises LabError."""
        before = len(self.journal().acknowledged)
        client = self.lab.hosts["client"]
        self._wait(client, f"{count} records", lambda: len(self.journal().acknowledged) >= before + count, timeout_s)

    def wait_write_after(self, moment_s: float, timeout_s: float = 30.0) -> float:
        """Seconds from `moment_s` to the first record acknowledged over a new connection. Raises LabError."""
        client = self.lab.hosts["client"]
        found: list[float] = []

        def went_on() -> bool:
            at = self.journal().first_over_another_connection(moment_s)
            found[:] = [] if at is None else [at]
            return at is not None

        self._wait(client, "an acknowledged record", went_on, timeout_s)
        return found[0] - moment_s

    def longest_pause_s(self, since_s: float = 0.0) -> float:
        """The longest time since then between two acknowledged records that followed each other."""
        times = [at for _, at in self.journal().acknowledged if at >= since_s]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def stop_writer(self) -> None:
        self.acknowledged = self.journal()
        if self.writer is not None:
            self.writer.kill()
            self.writer.wait(5)
        self.acknowledged = self.journal()
        self.writer = None

    def missing(self) -> list[str]:
        """Stop writing, read every place through the virtual address: acknowledged records that are not there."""
        self.stop_writer()
        done = self.lab.hosts["client"].run([*RECORDS, ADDRESS, str(PORT), "read"], timeout_s=60, check=True)
        return self.acknowledged.missing(int(line) for line in done.stdout.split())

    # Faults

    def pull(self, host: str, *networks: str) -> float:
        """Pull cables; returns the moment on the monotonic clock."""
        for network in networks:
            self.lab.cable(host, network).pull()
            self.pulled.add((host, network))
        return time.monotonic()

    def plug(self, host: str, *networks: str) -> None:
        for network in networks:
            self.pulled.discard((host, network))
            self.lab.cable(host, network).plug()

    def kill(self, host: Host, program: str) -> None:
        """kill -9 of all processes of a program (hastd: with its workers)."""
        for process in host.processes(rf"(^|/){program}\b"):
            process.kill()

    # Proofs

    @contextmanager
    def watching(self, cut_off_too: bool = False) -> Iterator[Watch]:
        """While it lasts somebody looks whether more than one is primary; `violations` says what was seen.

        A host whose cables are all pulled counts only with `cut_off_too`: without an arbiter it cannot know that the
        other took over, nobody reaches it, and it is primary until its pool has let go.
        """
        watch = self.watch = Watch(self.pair, (lambda _: False) if cut_off_too else self._is_cut_off)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
            self.watch = None

    @contextmanager
    def watched(self, cut_off_too: bool = False) -> Iterator[Watch]:
        """The same; at the end LabError if there were two primaries."""
        with self.watching(cut_off_too) as watch:
            yield watch
        if watch.violations:
            raise LabError(f"two primaries: {watch.violations[:3]}\n{self.describe()}")

    def _is_cut_off(self, host: Host) -> bool:
        return all((host.name, network) in self.pulled for network in NETWORKS)

    def digests(self) -> dict[str, list[str]]:
        """End all daemons, give up all roles; the digests of both data areas of each resource. Raises LabError."""
        self.stop_writer()
        for program in ("hast-devd", "failover", "carpd"):
            for host in self.pair:
                self.kill(host, program)
        for running in [host.spawn("failover slave") for host in self.pair]:
            running.wait(timeout_s=60)
        for host in self.pair:
            host.run("hastctl role init --force all", check=True, timeout_s=60)
        return {name: [data_digest(host, name, self.disks[name]) for host in self.pair] for name in self.resources}

    def timeline(self, since_s: float) -> list[str]:
        """What all hosts logged after this moment, with seconds from it, in order."""
        lines = [line for host in self.pair for line in host.timeline() if line[0] >= since_s]
        return [f"{at - since_s:7.3f} s  {text}" for at, text in sorted(lines)]


class Watch:
    """Looks at the roles of both hosts all the time; those that are `left_out` at the moment are not asked."""

    def __init__(self, hosts: Sequence[Host], left_out: Callable[[Host], bool]) -> None:
        self._hosts = hosts
        self._left_out = left_out
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.violations: list[str] = []
        self.looks = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            roles = []
            for host in self._hosts:
                found = {} if self._left_out(host) else status(host)
                roles.append({name for name, entry in found.items() if serves(entry)})
            self.looks += 1
            both = set.intersection(*roles)
            if both:
                self.violations.append(f"{time.strftime('%H:%M:%S')}: {sorted(both)} on both hosts")


def serves(entry: Mapping[str, Any]) -> bool:
    """Whether this status object is that of a primary that lets clients write."""
    frozen = any(problem.get("kind") == "frozen" for problem in entry.get("problems") or ())
    return entry.get("role") == "primary" and not entry.get("transition") and not frozen


def status(host: Host) -> dict[str, dict[str, Any]]:
    """The status objects of a host's hastd; empty while it does not answer. Quick: no program is started."""
    if not host.is_on:
        return {}
    try:
        return Hastd(str(host.path("/run/hastctl"))).roles(ASK_S)
    except (HastdError, OSError):
        return {}


def carp_status(host: Host) -> dict[str, Any]:
    """The status object of a host's carpd; empty while it does not answer."""
    if not host.is_on:
        return {}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ASK_S)
            sock.connect(str(host.path("/run/hast/carpd.sock")))
            sock.sendall(b'{"command": "status"}\n')
            with sock.makefile() as stream:
                answer = json.loads(stream.readline() or "{}")
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def carp_state(host: Host) -> str:
    """State of the only vhid; empty while carpd does not answer."""
    vhids = carp_status(host).get("vhids") or [{}]
    return str(vhids[0].get("state") or "")


def knows_copies(host: Host) -> bool:
    """Whether carpd of this host listens and was told of the data by hastd."""
    vhids = carp_status(host).get("vhids") or [{}]
    return vhids[0].get("state") in ("BACKUP", "MASTER") and vhids[0].get("data") is not None


def listens(host: Host, port: int) -> bool:
    """Whether somebody listens on this TCP port."""
    if not host.is_on:
        return False
    try:
        table = host.path("/proc/1/net/tcp").read_text()
    except OSError:
        return False
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in table.splitlines()[1:])
