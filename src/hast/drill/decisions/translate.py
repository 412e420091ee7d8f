"""A site's configuration, made into one for the lab: every value is written anew from the typed model, nothing is
copied as text. Paths, addresses, interfaces, programs, keys and passwords of the site are replaced by those of the
ground (ground.py); what that changes is noted. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hast.config.address import parse_address
from hast.config.carp_model import VirtualHost
from hast.config.model import SYNC_AUTO, Arbiter, ArbiterKind, Device, Resource, Tls
from hast.drill.decisions import follow, ground
from hast.drill.decisions.site import Node, Site
from hast.format.constants import DEFAULT_PORT


@dataclass(slots=True)
class Notes:
    """What is not rehearsed as it stands in the site's files, each once."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of this machine that the lab can use in place of the site's."""

    zfs_fuse: bool = True
    etcd: bool = True


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What the lab is built of. `files`: by host and name in /etc; `disks`: by resource; `labels`: host → its name."""

    files: Mapping[str, Mapping[str, str]]
    disks: Mapping[str, str]
    labels: Mapping[str, str]
    pools: tuple[follow.LabPool, ...]
    arbiter: ArbiterKind
    keyed: frozenset[str]
    """Hosts whose hast.conf needs both fingerprints."""
    link: str
    """Network that the copies are kept equal over."""
    notes: tuple[str, ...]


def translate(site: Site, tools: Tools) -> Rehearsed:
    """The site on the ground of the lab."""
    notes = Notes()
    disks = {name: ground.disk(number) for number, name in enumerate(site.resources, 1)}
    passwords = _passwords(site)
    pools = follow.pools_of(site, tools.zfs_fuse, notes.add)
    files = {}
    for host, node in zip(ground.HOSTS, site.nodes, strict=True):
        files[host] = {
            "hast.conf": _hast_conf(site, node, host, disks, tools, notes),
            "carp.conf": _carp_conf(node, passwords, notes),
            "devd.conf": follow.devd_conf(node, notes.add),
            "failover.conf": follow.failover_conf(node, pools, notes.add),
        }
    return Rehearsed(
        files=files,
        disks=disks,
        labels=dict(zip(ground.HOSTS, (node.name for node in site.nodes), strict=True)),
        pools=pools,
        arbiter=lab_arbiter(site.arbiter, tools).kind,
        keyed=frozenset(
            host
            for host, node in zip(ground.HOSTS, site.nodes, strict=True)
            if any(resource.is_secured for resource in node.hast.resources.values())
        ),
        link=link_network(site),
        notes=tuple(notes.lines),
    )


def link_network(site: Site) -> str:
    """`repl`, or `pub` where the site has one network for both."""
    first = next((each for each in site.nodes[0].hast.resources.values() if each.remotes), None)
    return network_of(site, first.remotes[0]) if first is not None else ground.REPL


def network_of(site: Site, address: str) -> str:
    return ground.PUB if site.is_on_client_network(address) else ground.REPL


def lab_arbiter(arbiter: Arbiter, tools: Tools) -> Arbiter:
    """The same kind on the lab's third host; a witness where etcd is not installed."""
    if arbiter.kind is ArbiterKind.PING:
        return Arbiter(ArbiterKind.PING, (ground.GATEWAY,))
    if arbiter.kind is ArbiterKind.ETCD and tools.etcd:
        return Arbiter(ArbiterKind.ETCD, (f"http://{ground.WITNESS_ADDRESS}:{ground.ETCD_PORT}",))
    if arbiter.kind is ArbiterKind.NONE:
        return arbiter
    return Arbiter(ArbiterKind.WITNESS, (ground.WITNESS_ADDRESS,))


# --- hast.conf --------------------------------------------------------------------------------------------------------


def _hast_conf(site: Site, node: Node, host: str, disks: Mapping[str, str], tools: Tools, notes: Notes) -> str:
    lines = [f"listen {text}" for text in _listen(site, node, host)]
    for resource in node.hast.resources.values():
        lines += _resource(site, resource, host, disks, tools, notes)
    return "\n".join(lines) + "\n"


def _listen(site: Site, node: Node, host: str) -> list[str]:
    """Addresses of the lab with the site's ports, which may be a mistake worth finding."""
    found = []
    for text in node.hast.listen:
        address = parse_address(text)
        if address.host not in ("0.0.0.0", "::"):
            own = ground.HOST_ADDRESSES[network_of(site, text)][host]
            found.append(f"tcp4://{own}:{address.port}")
        elif address.host == "0.0.0.0" or address.port != DEFAULT_PORT:
            found.append(f"tcp4://0.0.0.0:{address.port}")
    return list(dict.fromkeys(found))


def _resource(
    site: Site, resource: Resource, host: str, disks: Mapping[str, str], tools: Tools, notes: Notes
) -> Iterable[str]:
    device = "none" if resource.device is Device.NONE else "fuse"
    if resource.device in (Device.UBLK, Device.NBD):
        notes.add(f"device {resource.device}: the lab makes every device by FUSE")
    for keyword, path in (("exec", resource.exec_path), ("fence", resource.fence_path)):
        if path is not None:
            notes.add(f"{keyword} {path}: programs of the site are not run")
    if resource.source is not None:
        notes.add(f"source {resource.source}: the lab's hosts have one address a network")
    arbiter = lab_arbiter(resource.arbiter, tools)
    if arbiter.kind is not resource.arbiter.kind:
        notes.add(f"arbiter {resource.arbiter.kind}: not installed here, a witness stands for it")
    rate = "auto" if resource.sync_rate_bytes_s == SYNC_AUTO else resource.sync_rate_bytes_s
    yield f"resource {resource.name} {{"
    yield f"\treplication {resource.replication}"
    yield f"\tchecksum {resource.checksum}"
    yield f"\tcompression {resource.compression}"
    yield f"\ttimeout {resource.timeout_s}"
    yield f"\tmetaflush {'on' if resource.metaflush else 'off'}"
    yield f"\tdevice {device}"
    yield f"\tsync-rate {rate or 'unlimited'}"
    yield f"\tread-balancing {'on' if resource.read_balancing else 'off'}"
    yield f"\twait-for-peer {resource.wait_for_peer_s or 'off'}"
    yield f"\tdisk-cache {resource.disk_cache}"
    yield f"\tdisk-timeout {resource.disk_timeout_s}"
    yield f"\tarbiter {' '.join((arbiter.kind, *arbiter.targets))}"
    yield f"\tsplit-brain {resource.split_brain_policy}"
    yield f"\tcrash-loop {resource.crash_loop}"
    if resource.tls is Tls.OFF:  # with the fingerprints, which the lab puts in, all others are secured
        yield "\ttls off"
    if resource.provider_name != resource.name:
        yield f"\tname {resource.provider_name}"
    other = ground.HOSTS[1 - ground.HOSTS.index(host)]
    remotes = list(dict.fromkeys(_remote(site, text, other) for text in resource.remotes)) or ["remote none"]
    yield f"\ton {host} {{"
    yield f"\t\tlocal {disks[resource.name]}"
    yield from (f"\t\t{remote}" for remote in remotes)
    yield "\t}"
    yield f"\ton {other} {{"
    yield f"\t\tlocal {disks[resource.name]}"
    yield "\t\tremote none"
    yield "\t}"
    yield "}"


def _remote(site: Site, text: str, other: str) -> str:
    port = parse_address(text).port
    return f"remote tcp4://{ground.HOST_ADDRESSES[network_of(site, text)][other]}:{port}"


# --- carp.conf --------------------------------------------------------------------------------------------------------


def _passwords(site: Site) -> Mapping[str, str]:
    """A stand-in for each different password: equal ones stay equal, and none of the site's leaves its file."""
    words = dict.fromkeys(group.password for node in site.nodes for group in node.carp.groups if group.password)
    return {word: f"drill{number}" for number, word in enumerate(words, 1)}


def shared_addresses(node: Node) -> Mapping[str, str]:
    """The site's shared IPv4 addresses with the lab's; the first is where clients of the drill go."""
    addresses = dict.fromkeys(
        str(each.ip) for group in node.carp.groups for each in group.addresses if each.version == 4
    )
    return dict(zip(addresses, (ground.FIRST_SHARED, *ground.FURTHER_SHARED), strict=False))


def _carp_conf(node: Node, passwords: Mapping[str, str], notes: Notes) -> str:
    shared = shared_addresses(node)
    lines: list[str] = []
    taken: set[int] = set()
    for group in node.carp.groups:
        vhid = group.vhid
        if vhid in taken:
            vhid = next(number for number in range(1, 256) if number not in taken)
            notes.add(f"vhid {group.vhid} on {group.interface}: vhid {vhid} in the lab, which has one client network")
        taken.add(vhid)
        lines += _group(group, vhid, shared, passwords, notes)
    return "\n".join(lines) + "\n"


def _group(
    group: VirtualHost, vhid: int, shared: Mapping[str, str], passwords: Mapping[str, str], notes: Notes
) -> Iterable[str]:
    if any(each.version == 6 for each in group.addresses):
        notes.add(f"{group.name}: the lab has no IPv6; its IPv6 addresses are left out")
    yield f"vhid {vhid} {{"
    yield f'\tname "{group.name}"'
    yield f"\tinterface {ground.PUB}"
    for each in group.addresses:
        if str(each.ip) in shared:
            yield f"\taddress {shared[str(each.ip)]}/{ground.PREFIX_LENGTH}"
    if group.password:
        yield f"\tpass {passwords[group.password]}"
    yield f"\tadvbase {group.advbase_s}"
    yield f"\tadvskew {group.advskew}"
    yield f"\tpreempt {'on' if group.preempt else 'off'}"
    yield from (f'\tresource "{name}"' for name in group.resources)
    yield "}"
