"""The site in the lab: two sealed hosts with throw-away disks, a client, and what the arbiter needs. Needs root.

`fresh` makes everything anew; whatever a step left behind is gone then, and both hosts are as before their first boot.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from types import TracebackType

from hast.config.model import ArbiterKind
from hast.drill.decisions import ground, seal
from hast.drill.decisions.translate import Rehearsed
from hast.lab import arbiters, zfs
from hast.lab.cluster import Cluster, carp_status, status
from hast.lab.host import Host
from hast.lab.laboratory import Lab
from hast.lab.processes import LabError
from hast.lab.records import Journal

DISK_SIZE_BYTES = 128 << 20
PROGRAMS = ("ip", "nft", "nsenter", "unshare", "setpriv", "losetup")
ARBITERS_OF_OURS = (ArbiterKind.WITNESS, ArbiterKind.ETCD)
RESTART_S = {"hastd": 0.5, "carpd": 1.0, "hast-devd": 2.0}
"""RestartSec of the units."""
CONTENT_S = 60.0
LET_GO_S = 60.0
AFTER_LET_GO_S = 1.0


def missing_programs() -> list[str]:
    """Programs without which there is no lab."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Pair:
    """The lab while a drill lasts. Raises LabError; SealError when what was generated is not of the lab alone."""

    def __init__(self, rehearsed: Rehearsed) -> None:
        seal.check(rehearsed.files)
        self.rehearsed = rehearsed
        self.arbitrated = rehearsed.arbiter in ARBITERS_OF_OURS
        further = (ground.CLIENT, *([ground.WITNESS] if self.arbitrated else []))
        self.lab = Lab(
            hosts=(*ground.HOSTS, *further),
            own_etc=rehearsed.files,
            disk_names=[path.removeprefix("/dev/") for path in rehearsed.disks.values()],
            disk_size_bytes=DISK_SIZE_BYTES,
            sealed=True,
        )
        self.cluster = Cluster.over(self.lab, list(rehearsed.disks), self._before_hastd, rehearsed.disks)

    def __enter__(self) -> Pair:
        self.lab.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cluster.__exit__(kind, error, trace)

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.cluster.pair

    # --- building ---------------------------------------------------------------------------------------------------

    def _before_hastd(self, host: Host) -> None:
        if any(pool.on_zfs for pool in self.rehearsed.pools):
            zfs.start(host)

    def fresh(self) -> None:
        """New disks, keys, copies and pools; both hosts are off then."""
        self._throw_away()
        for host in self.hosts:
            host.power_on()
            host.path("/etc/carp.conf").chmod(0o600)
        self._exchange_keys()
        if self.arbitrated:
            self.start_arbiter()
        for host in self.hosts:
            self._before_hastd(host)
            host.run(["hastctl", "create", *self.mine(host)], check=True)
            host.run("hastd", check=True)
        self._fill()
        for host in self.hosts:
            host.power_off()

    def _throw_away(self) -> None:
        self.cluster.stop_writer()
        self.cluster.acknowledged = Journal()
        self.cluster.pulled.clear()
        for host in self.hosts:
            host.power_off()
        self.lab.switch.heal()
        for host in self.hosts:
            for path in self.rehearsed.disks.values():
                self.lab.replace_disk(host.name, path.removeprefix("/dev/"))
        if self.arbitrated:
            self.lab.hosts[ground.WITNESS].power_off()
            shutil.rmtree(self.lab.hosts[ground.WITNESS].plan.state / "var", ignore_errors=True)

    def start_arbiter(self) -> None:
        """The third host boots, if it is off."""
        witness = self.lab.hosts[ground.WITNESS]
        if not witness.is_on:
            witness.power_on()
        arbiters.start(witness, self.rehearsed.arbiter)

    def mine(self, host: Host) -> list[str]:
        """The resources that this host's hast.conf has."""
        text = self.rehearsed.files[host.name]["hast.conf"]
        return [name for name in self.rehearsed.disks if f"resource {name} {{" in text]

    def _exchange_keys(self) -> None:
        """Keys of the lab's own, where the site has some."""
        if not self.rehearsed.keyed:
            return
        lines = []
        for host in self.hosts:
            host.run("hastctl keygen")
            shown = host.run("hastctl keygen --show", check=True).stdout.split()[0]
            lines.append(f"on {host.name} {{ fingerprint {shown} }}\n")
        for host in self.hosts:
            if host.name in self.rehearsed.keyed:
                text = "".join(lines) + self.rehearsed.files[host.name]["hast.conf"]
                host.path("/etc/hast.conf").write_text(text)

    def _fill(self) -> None:
        """Pools over devices of the first host, given up again. Both hosts are as at their first boot then."""
        first, second = self.hosts
        second.run("hastctl role secondary all", timeout_s=CONTENT_S)
        done = first.run("hastctl role primary --force all", timeout_s=CONTENT_S)
        if done.returncode:
            raise LabError(f"no role on a fresh pair: {done.stderr.strip()}")
        for pool in self.rehearsed.pools:
            devices = [f"/dev/hast/{name}" for name in pool.resources]
            if pool.on_zfs:
                layout = {1: (), 2: ("mirror",)}.get(len(devices), ("raidz1",))
                first.run(["zpool", "create", "-f", "-m", pool.mount, pool.name, *layout, *devices], 60, check=True)
                first.run(["zpool", "export", pool.name], CONTENT_S, check=True)
            else:
                first.run(["mkfs.ext4", "-q", "-F", devices[0]], CONTENT_S, check=True)
        self._wait_equal(first)
        for host in (first, second):
            host.run("hastctl role init all", timeout_s=CONTENT_S)

    def _wait_equal(self, primary: Host) -> None:
        """What cannot become equal here is the start's to find."""
        try:
            primary.wait_for("equal copies", lambda: self.cluster.is_complete(primary), 15)
        except LabError:
            return

    def wait_let_go(self, host: Host) -> None:
        """Until nothing on this host is primary any more, or for as long as may be."""

        def let_go() -> bool:
            roles = self.cluster.roles(host).values()
            return bool(roles) and "primary" not in roles

        try:
            host.wait_for("no primary", let_go, LET_GO_S)
            time.sleep(AFTER_LET_GO_S)
        except LabError:
            return

    # --- looking ----------------------------------------------------------------------------------------------------

    def masters(self) -> list[Host]:
        """Whose carpd says MASTER."""
        return [host for host in self.hosts if self.cluster.is_carp(host, "MASTER")]

    def symptoms(self) -> list[str]:
        """What is not as it should be, each as `word: detail`; nothing while all is well."""
        masters = self.masters()
        if len(masters) != 1:
            return ["two masters: both hosts hold the shared address" if masters else "no master: no host does"]
        master = masters[0]
        slave = self.cluster.other(master)
        found = [*self._roles(master, "primary"), *self._roles(slave, "secondary"), *self._hearing(slave)]
        for name, entry in status(master).items():
            if entry.get("role") != "primary":
                continue
            for problem in entry.get("problems") or ():
                if problem.get("kind") == "split-brain":
                    found.append(f"split brain: {name}")
            if entry.get("status") == "degraded":
                found.append(f"not connected: {name} on {self.label(master)} has no second copy")
            elif entry.get("status") != "complete" or entry.get("dirty"):
                found.append(f"not equal: {name} is being copied")
        if not self.serves(master):
            found.append(f"not served: nothing answers on the shared address of {self.label(master)}")
        return found

    def _hearing(self, slave: Host) -> list[str]:
        """The backup has to hear the master, and to believe it."""
        for vhid in carp_status(slave).get("vhids") or ():
            strangers = (vhid.get("counts") or {}).get("bad_auth")
            if strangers:
                return [
                    f"not believed: {self.label(slave)} takes the advertisements of {vhid['name']} for a stranger's"
                ]
            if vhid.get("state") == "BACKUP" and not vhid.get("master"):
                return [f"not heard: {self.label(slave)} hears no advertisement of {vhid['name']}"]
        return []

    def _roles(self, host: Host, wanted: str) -> list[str]:
        if not host.is_on:
            return [f"off: {self.label(host)}"]
        roles = self.cluster.roles(host)
        if not roles:
            return [f"no hastd: {self.label(host)}"]
        wrong = [f"{name} is {role}" for name, role in roles.items() if role != wanted]
        return [f"roles: {self.label(host)}: {', '.join(wrong)}, not {wanted}"] if wrong else []

    def serves(self, host: Host) -> bool:
        """Whether what clients use is there."""
        return self.cluster.is_on_port(host)

    def label(self, host: Host) -> str:
        return self.rehearsed.labels[host.name]

    def vhid(self, host: Host) -> int:
        """The vhid of the address that clients use."""
        vhids = carp_status(host).get("vhids") or [{}]
        return int(vhids[0].get("vhid") or 1)

    def told(self, since_s: float, words: Callable[[str], bool]) -> list[tuple[float, str]]:
        """What both hosts logged since then and `words` picks, in order."""
        lines = [line for host in self.hosts for line in host.timeline()]
        return sorted((at, text) for at, text in lines if at >= since_s and words(text))
