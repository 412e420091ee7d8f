"""The typed, frozen form of hast.conf as one host sees it. Holds no parser and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hast.format.constants import DEFAULT_TIMEOUT_S, Checksum, Compression, Replication


class ConfigError(Exception):
    """A configuration that cannot be used. `str()` is one line: file:line:column, what was found and expected.

    `exit_code` is the sysexits exit code (78 config, 72 file cannot be opened, 75 no listen address).
    """

    def __init__(self, message: str, exit_code: int = 78) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Device(StrEnum):
    """How /dev/hast/NAME is made: the first that works, kernel nbd, FUSE file under a loop device, or none."""

    AUTO = "auto"
    UBLK = "ublk"
    NBD = "nbd"
    FUSE = "fuse"
    NONE = "none"


class ArbiterKind(StrEnum):
    """Who is asked before a node that has lost its peer goes on alone."""

    NONE = "none"
    PING = "ping"
    WITNESS = "witness"
    ETCD = "etcd"


@dataclass(frozen=True, slots=True)
class Arbiter:
    """`targets` is empty for NONE; addresses for PING and WITNESS, http(s) URLs for ETCD, tried in order.
    `credentials`: path of the file for an etcd that asks for them. `fingerprints`: by which the witness is known,
    several during a change of its key; empty for one that is believed unseen."""

    kind: ArbiterKind = ArbiterKind.NONE
    targets: tuple[str, ...] = ()
    credentials: str = ""
    fingerprints: tuple[str, ...] = ()


class SplitBrainPolicy(StrEnum):
    """Whose changes are given up when both sides have written."""

    MANUAL = "manual"
    DISCARD_ZERO_CHANGES = "discard-zero-changes"
    DISCARD_LEAST_CHANGES = "discard-least-changes"
    DISCARD_YOUNGER_PRIMARY = "discard-younger-primary"
    DISCARD_OLDER_PRIMARY = "discard-older-primary"


class DiskCache(StrEnum):
    """Whether the kernel's page cache stands between hastd and the local disk."""

    AUTO = "auto"
    """Not in front of a disk; in front of a file, or of a loop device, whose file is cached anyway."""
    ON = "on"
    OFF = "off"


class CrashLoop(StrEnum):
    """What becomes of a primary's device when its workers die again and again."""

    HOLD = "hold"
    """Its users wait until the role is ordered again."""
    FAIL = "fail"
    """The role is given up; its users get errors."""


class Tls(StrEnum):
    """Whether the nodes of a resource prove who they are, and encrypt what they say."""

    REQUIRED = "required"
    OFF = "off"


DEFAULT_WAIT_FOR_PEER_S = 30
SYNC_AUTO = -1
"""In place of a limit on synchronisation: it follows what clients wait for."""
DEFAULT_DISK_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, for this host. Addresses are kept as written; config/address.py reads them."""

    name: str
    provider_name: str
    """Name under /dev/hast."""
    local: str
    """Path of the local provider."""
    remotes: tuple[str, ...]
    """Peer addresses in the order they are tried; empty for `remote none`."""
    source: str | None = None
    replication: Replication = Replication.FULLSYNC
    checksum: Checksum = Checksum.NONE
    compression: Compression = Compression.HOLE
    timeout_s: int = DEFAULT_TIMEOUT_S
    exec_path: str | None = None
    metaflush: bool = True
    device: Device = Device.AUTO
    sync_rate_bytes_s: int = SYNC_AUTO
    """Limit on synchronisation in bytes per second; 0 is no limit, or SYNC_AUTO."""
    read_balancing: bool = False
    """The primary has its peer serve reads, too, where both copies are equal."""
    wait_for_peer_s: int = DEFAULT_WAIT_FOR_PEER_S
    """How long the first promotion after a start of hastd waits to hear from the peer; 0 is not at all."""
    disk_timeout_s: int = DEFAULT_DISK_TIMEOUT_S
    """How long the local disk may take for one operation before it is given up; 0 is any time."""
    arbiter: Arbiter = Arbiter()
    fence_path: str | None = None
    """Command that makes sure that the peer is off before this node goes on alone."""
    split_brain_policy: SplitBrainPolicy = SplitBrainPolicy.MANUAL
    crash_loop: CrashLoop = CrashLoop.HOLD
    disk_cache: DiskCache = DiskCache.AUTO
    tls: Tls | None = None
    """None: nothing is written; see `is_secured`."""
    peer_fingerprints: tuple[str, ...] = ()
    """By which the other node is known, as node_key.fingerprint() makes them; several during a change of keys."""

    @property
    def is_secured(self) -> bool:
        """The two nodes speak TLS, and nothing else, with each other."""
        return self.tls is Tls.REQUIRED or (self.tls is None and bool(self.peer_fingerprints))

    @property
    def tls_in_words(self) -> str:
        """`on`, `off` as it is written, or `none` where nothing is."""
        if self.is_secured:
            return "on"
        return "off" if self.tls is Tls.OFF else "none"


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What the `on` sections of a resource call this node and the other, in file order."""

    own: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole file, for this host. `resources` is in file order."""

    path: str
    control: str = "/var/run/hastctl"
    pidfile: str = "/var/run/hastd.pid"
    listen: tuple[str, ...] = ("tcp4://0.0.0.0:8457", "tcp6://[::]:8457")
    resources: Mapping[str, Resource] = field(default_factory=dict)
    fingerprints: tuple[str, ...] = ()
    """By which others are to know this node; several during a change of keys."""
    node_names: Mapping[str, NodeNames] = field(default_factory=dict)
    """By resource."""
    node_fingerprints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By what the global `on` section calls the node."""
