"""Two lab hosts of which corosync and Pacemaker decide who is master: hastd, the agent, an address, an export, fencing.

No carpd, no hast-devd, no failover. Fencing is true: a fence agent asks for the other host's power to be cut, by a file
of its /var that the test watches from outside, as a switched power strip would be asked.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hast.lab.cluster import ADDRESS, PORT, Cluster, listens, status
from hast.lab.host import Host
from hast.lab.processes import LabError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
AGENTS = "/usr/lib/ocf/resource.d"
UP_S = 60.0
OWN_DIRECTORIES = ("lib/pacemaker/cib", "lib/pacemaker/pengine", "lib/pacemaker/cores", "lib/pacemaker/blackbox")

FENCE_AGENT = """\
#!/bin/sh
# Asks the lab to cut the power of a host, and waits until it is off.
while read -r line; do case $line in action=*) action=${line#action=} ;; port=*) port=${line#port=} ;; esac; done
[ $# -gt 1 ] && [ "$1" = -o ] && action=$2
case $action in
metadata | meta-data)
	cat <<'XML'
<?xml version="1.0"?>
<resource-agent name="fence_lab" shortdesc="power of the lab's hosts"><longdesc>lab</longdesc>
<parameters><parameter name="port"><content type="string"/><shortdesc lang="en">host</shortdesc></parameter>
<parameter name="action"><content type="string" default="off"/><shortdesc lang="en">action</shortdesc></parameter>
</parameters>
<actions><action name="off"/><action name="on"/><action name="status"/><action name="monitor"/>
<action name="list"/><action name="metadata"/></actions></resource-agent>
XML
	;;
monitor | status | on) ;;
list) printf 'hast1,\\nhast2,\\n' ;;
off | reboot)
	echo "$port" >/var/lib/fence/request.new && mv /var/lib/fence/request.new /var/lib/fence/request
	for _ in $(seq 300); do [ -e /var/lib/fence/request ] || exit 0; sleep 0.1; done
	exit 1
	;;
*) exit 1 ;;
esac
"""


def corosync_conf() -> str:
    """The example of the manual, for two hosts without a key and without the right to run in real time."""
    text = (EXAMPLES / "pacemaker-corosync.conf").read_text()
    return re.sub(r"(crypto_\w+): \w+", r"\1: none", text) + "system {\n    sched_rr: no\n}\n"


def configuration() -> str:
    """The example of the manual, with the lab's fence agent."""
    text = (EXAMPLES / "pacemaker-cib.xml").read_text()
    power = '<primitive id="power" class="stonith" type="fence_lab"><instance_attributes id="power-p">'
    power += '<nvpair id="power-hosts" name="pcmk_host_list" value="hast1 hast2"/></instance_attributes></primitive>'
    found, count = re.subn(r'<primitive id="power".*?</primitive>', power, text, flags=re.S)
    assert count == 1
    return found


class PacemakerPair(Cluster):
    """As Cluster, but Pacemaker decides."""

    def __init__(self, *lines: str) -> None:
        fence = "fence /run/hast-lib/pacemaker-fence-peer"
        super().__init__("timeout 5", fence, *lines, etc={"corosync/corosync.conf": corosync_conf()})
        self._ended = threading.Event()
        self._power = threading.Thread(target=self._cut_power, daemon=True)
        self._fencing = threading.Lock()
        self.fenced: list[str] = []

    def __enter__(self) -> PacemakerPair:
        super().__enter__()
        self._power.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._power.join(30)
        super().__exit__(*error)  # type: ignore[arg-type]

    # --- hosts --------------------------------------------------------------------------------------------------------

    def boot(self, host: Host, *_programs: str) -> None:
        """What a host of such a site starts at boot."""
        if not host.is_on:
            host.power_on()
        self._lay_out(host)
        host.run("hastd", check=True)
        host.run("corosync", check=True)
        host.spawn("pacemakerd")

    def _lay_out(self, host: Host) -> None:
        """Agents where the packages put them, run by the system's Python; Pacemaker's directories in /var."""
        script = [
            "set -e",
            "mkdir -p /run/ra/hast /run/hast-lib /run/fence /var/lib/fence /var/lib/corosync /var/log/cluster",
        ]
        script += [f"mkdir -p /var/{name} && chown hacluster:haclient /var/{name}" for name in OWN_DIRECTORIES]
        script.append(
            "chown hacluster:haclient /var/lib/pacemaker; mkdir -p /var/log/pacemaker /var/lib/heartbeat/cores"
        )
        script.append(f"mkdir /run/library && cp -r {ROOT}/src/hast /run/library/")
        for name, into in (("hast", "/run/ra/hast"), ("pacemaker-fence-peer", "/run/hast-lib")):
            source = ROOT / "packaging" / "pacemaker" / name
            library = "import sys; sys.path.insert(0, '/run/library')"
            script.append(f'sed "2i {library}" {source} >{into}/{name}; chmod 755 {into}/{name}')
        script.append("cat >/run/fence/fence_lab; chmod 755 /run/fence/fence_lab")
        script.append(f"mount -t overlay overlay -o lowerdir=/run/ra:{AGENTS} {AGENTS}")
        script.append("mount -t overlay overlay -o lowerdir=/run/fence:/usr/sbin /usr/sbin")
        host.run(["sh", "-c", "\n".join(script)], check=True, text=FENCE_AGENT)

    def _cut_power(self) -> None:
        """The power strip."""
        while not self._ended.wait(0.05):
            for host in self.pair:
                request = host.plan.state / "var/lib/fence/request"
                if host.is_on and request.exists():
                    self._fence(request)

    def _fence(self, request: Path) -> None:
        with self._fencing:
            name = request.read_text().strip()
            if name in self.lab.hosts:
                self.fenced.append(name)
                self.lab.hosts[name].power_off()
            request.unlink(missing_ok=True)

    def cut(self, host: Host) -> float:
        """A power cut; returns its moment."""
        with self._fencing:
            moment_s = time.monotonic()
            host.power_off()
        return moment_s

    # --- the cluster --------------------------------------------------------------------------------------------------

    def bring_up(self, timeout_s: float = UP_S, elected: bool = True) -> None:
        """Create, boot both, configure; returns when one serves and both copies are the same."""
        self.create()
        for host in self.pair:
            self.boot(host)
        self._wait(self.hast1, "both nodes online", lambda: self.online() == {"hast1", "hast2"}, timeout_s)
        self.configure()
        self.wait_serving(timeout_s)
        self.wait_whole(timeout_s)

    def configure(self) -> None:
        """Put the configuration of the manual into the cluster."""
        command = ["cibadmin", "--modify", "--allow-create", "--xml-pipe"]
        self.hast1.run(command, check=True, text=configuration())

    def crm(self, host: Host, *command: str) -> str:
        return host.run(list(command), check=True, timeout_s=60).stdout

    def online(self) -> set[str]:
        """Nodes that are online, as the first host that answers sees them."""
        import xml.etree.ElementTree as ET

        for host in self.pair:
            if not host.is_on:
                continue
            done = host.run(["crm_mon", "-1", "--output-as=xml", "--include=nodes"], timeout_s=20)
            if done.returncode == 0:
                with contextlib.suppress(ET.ParseError):
                    nodes = ET.fromstring(done.stdout).iterfind("./nodes/node")
                    return {each.get("name", "") for each in nodes if each.get("online") == "true"}
        return set()

    def master(self) -> Host | None:
        """The host that is primary, has the address and serves."""
        for host in self.pair:
            if host.is_on and self.is_role(host, "primary") and listens(host, PORT) and self._has_address(host):
                return host
        return None

    def _has_address(self, host: Host) -> bool:
        return f" {ADDRESS}/" in host.run(["ip", "-4", "addr", "show"]).stdout if host.is_on else False

    def wait_serving(self, timeout_s: float = UP_S) -> Host:
        """The host that serves, once there is one. Raises LabError."""
        return self._wait_master("one host to serve", lambda _master: True, timeout_s)

    def wait_whole(self, timeout_s: float = UP_S) -> Host:
        """Wait until the master's peer is secondary with every block; returns the master. Raises LabError."""

        def whole(master: Host) -> bool:
            return self.is_complete(master) and self.is_role(self.other(master), "secondary")

        return self._wait_master("both copies complete", whole, timeout_s)

    def _wait_master(self, what: str, condition: Callable[[Host], bool], timeout_s: float) -> Host:
        found: list[Host] = []

        def look() -> bool:
            master = self.master()
            found[:] = [master] if master is not None and condition(master) else []
            return bool(found)

        self._wait(self.lab.hosts["client"], what, look, timeout_s)
        return found[0]

    def describe(self, lines: int = 60) -> str:
        parts = [f"fenced: {self.fenced}"]
        for host in self.pair:
            if host.is_on:
                parts.append(f"{host.name}: {status(host)}")
                with contextlib.suppress(LabError, subprocess.SubprocessError):
                    parts.append(host.run(["crm_mon", "-1", "-A", "-f"], timeout_s=20).stdout)
                    parts.append(host.run(["tail", "/var/log/export.log"], timeout_s=20).stdout)
        parts += ["\n".join(host.log().splitlines()[-lines:]) for host in self.pair]
        return "\n\n".join(parts)

    def copies(self) -> list[str]:
        """End the clusters and all roles; digests of both data areas."""
        from hast.lab.copies import data_digest

        for host in self.pair:
            host.run("crm_attribute --type crm_config --name maintenance-mode --update true", timeout_s=30)
        time.sleep(1)
        for host in self.pair:
            self.kill(host, "pacemaker")
            self.kill(host, "nbdkit")
        for host in self.pair:
            host.run("hastctl role init --force all", check=True, timeout_s=60)
        return [data_digest(host, "disk1", "/dev/ad1") for host in self.pair]


__all__ = ["PORT", "PacemakerPair"]
