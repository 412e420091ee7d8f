"""The lab's networks: one switch with a bridge per network, cables, and what can go wrong with them.

The switch is a network namespace without a name, held by one process; it ends when this process ends. Interfaces on
the switch are called HOST-NETWORK, in the host NETWORK.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from hast.lab.processes import LabError, run_in

COMMAND_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Network:
    """A network: the bridge's name, prefix, and the switch's own address (the gateway) if it has one."""

    name: str
    prefix: str
    gateway: str | None = None

    def address(self, last: int) -> str:
        return f"{self.prefix}.{last}"


PUB = Network("pub", "10.10.10", "10.10.10.1")
REPL = Network("repl", "192.168.100")
NETWORKS = {network.name: network for network in (PUB, REPL)}


class NetworkNamespace:
    """Without a name, held by the process `pid`; it ends with `close`, or when this process ends. Raises LabError."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._holder.pid
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise LabError("cannot make a network namespace: are you root?")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream:
                stream.close()


class Switch:
    """The bridges `pub` and `repl`. `close` removes them and every cable."""

    def __init__(self) -> None:
        self._namespace = NetworkNamespace()
        commands = ["link set lo up"]
        for network in NETWORKS.values():
            commands.append(
                f"link add br-{network.name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            )
            commands.append(f"link set br-{network.name} up")
            if network.gateway:
                commands.append(f"addr add {network.gateway}/24 dev br-{network.name}")
        self.ip(*commands)
        self._filter("add table bridge lab", "add chain bridge lab cut { type filter hook prerouting priority 0; }")
        self._filter("add chain bridge lab split { type filter hook forward priority 0; }")

    def ip(self, *commands: str) -> None:
        """Run ip(8) commands on the switch. Raises LabError."""
        text = "".join(f"{command}\n" for command in commands)
        run_in(self._namespace.pid, ("net",), ["ip", "-batch", "-"], text, COMMAND_TIMEOUT_S)

    def connect(self, host: str, host_pid: int, network: Network, last: int) -> None:
        """Put a cable between the switch and the host, whose end gets the network's address number `last`.

        The card's hardware address comes from the network address: a host that returns is known to its neighbours.
        """
        port = f"{host}-{network.name}"
        card = "02:00:" + ":".join(f"{int(part):02x}" for part in network.address(last).split("."))
        self.ip(
            f"link add {port} type veth peer name {network.name} address {card} netns {host_pid}",
            f"link set {port} master br-{network.name} up",
        )
        text = f"link set {network.name} up\naddr add {network.address(last)}/24 dev {network.name}\n"
        if network.gateway:
            text += f"route add default via {network.gateway}\n"
        run_in(host_pid, ("net",), ["ip", "-batch", "-"], text, COMMAND_TIMEOUT_S)

    def disconnect(self, host: str) -> None:
        """Remove the host's cables; the kernel may have done so already, or be about to."""
        for network in NETWORKS:
            try:
                self.ip(f"link del {host}-{network}")
            except LabError:
                pass

    def cable(self, host: str, network: str) -> Cable:
        return Cable(self, f"{host}-{network}")

    def partition(self, one: str, other: str, network: str = "repl") -> None:
        """Silently drop what these two hosts send each other on a network; others still reach both."""
        for source, sink in ((one, other), (other, one)):
            rule = f'iifname "{source}-{network}" oifname "{sink}-{network}" drop'
            self._filter(f"add rule bridge lab split {rule}")

    def heal(self) -> None:
        """End all partitions and losses."""
        self._filter("flush chain bridge lab split", "flush chain bridge lab cut")

    def lose(self, port: str, percent: int) -> None:
        """Drop this share of the frames that arrive at a switch port."""
        self._filter(f'add rule bridge lab cut iifname "{port}" numgen random mod 100 <= {percent - 1} drop')

    def _filter(self, *commands: str) -> None:
        run_in(self._namespace.pid, ("net",), ["nft", "-f", "-"], "\n".join(commands) + "\n", COMMAND_TIMEOUT_S)

    def close(self) -> None:
        self._namespace.close()


@dataclass(frozen=True, slots=True)
class Cable:
    """One host's cable to one network."""

    switch: Switch
    port: str

    def pull(self) -> None:
        """Both ends lose their link."""
        self.switch.ip(f"link set {self.port} down")

    def plug(self) -> None:
        self.switch.ip(f"link set {self.port} up")

    def lose(self, percent: int) -> None:
        """Lose this share of what the host sends, until Switch.heal."""
        self.switch.lose(self.port, percent)
