"""The typed, frozen form of failover.conf. Holds no parser and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_FAILOVER_CONF = "/etc/failover.conf"

ALL_RESOURCES = ("all",)
"""Value of `resources` that stands for every resource that hastd knows."""

ROLE_TIMEOUT_S = 60.0
POOL_TIMEOUT_S = 120.0
SERVICE_TIMEOUT_S = 60.0
EXPORT_TIMEOUT_S = 20.0
HOOK_TIMEOUT_S = 60.0
DEVICE_WAIT_S = 30.0
NBD_PORT = 10809
EVERYBODY = "ALL"
"""In a list of clients or initiators."""
HEALTH_S = 5.0


class PoolKind(StrEnum):
    """What lies on the resources."""

    ZFS = "zfs"
    BTRFS = "btrfs"
    FILESYSTEM = "filesystem"
    LVM = "lvm"


class HookTime(StrEnum):
    """When a hook runs."""

    BEFORE_MASTER = "before-master"
    AFTER_MASTER = "after-master"
    BEFORE_SLAVE = "before-slave"
    AFTER_SLAVE = "after-slave"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Pool:
    """A ZFS pool, a btrfs, a plain file system or a volume group."""

    name: str
    kind: PoolKind = PoolKind.ZFS
    resources: tuple[str, ...] = ()
    """HAST resources it lies on; empty: all of the file's."""
    mount: str | None = None
    """Mount point; required for btrfs and filesystem, not used for zfs and lvm."""
    fs_type: str | None = None
    """File system type for mount(8) and fsck(8); None lets them find out."""
    options: str = ""
    """Options of mount(8), or of `zpool import -o`."""
    device: str | None = None
    """Block device to mount instead of the first resource's, such as a logical volume."""
    fsck: bool = False
    """Check the file system before it is mounted."""
    force: bool = True
    """ZFS: import although the pool was last used by the other node, export although it is in use."""
    kill_after_s: float | None = None
    """Processes that keep it busy are told to end after this many seconds; None leaves them alone and gives up."""
    timeout_s: float = POOL_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Service:
    """A systemd unit, or three shell commands."""

    name: str
    unit: str | None = None
    start: str | None = None
    stop: str | None = None
    status: str | None = None
    """Exit code 0: running. Without it, start and stop are run every time."""
    timeout_s: float = SERVICE_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class NbdTls:
    """How NBD clients are met in TLS: by certificates, or by keys that both have (PSK)."""

    certificates: str = ""
    """Directory with ca-cert.pem, server-cert.pem, server-key.pem, as qemu and nbdkit have them."""
    psk: str = ""
    """File with lines USER:KEY, as psktool writes it."""
    verify_peer: bool = True
    """A client has to show a certificate that the authority of ca-cert.pem signed."""


@dataclass(frozen=True, slots=True)
class NbdExport:
    """One resource served as NBD over TCP."""

    resource: str
    listen: tuple[str, ...] = ()
    """Empty: the virtual addresses of carp.conf."""
    allow: tuple[str, ...] = ()
    """Addresses and networks of clients, or ALL."""
    tls: NbdTls | None = None
    max_clients: int = 16
    timeout_s: float = EXPORT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Lun:
    """One logical unit of an iSCSI target: a device or a file."""

    number: int
    path: str


@dataclass(frozen=True, slots=True)
class IscsiExport:
    """An iSCSI target of tgt, with the same name, units and serial numbers on both nodes."""

    iqn: str
    luns: tuple[Lun, ...]
    initiators: tuple[str, ...] = ()
    """Addresses, networks and names of initiators that may log in, or ALL."""
    chap: str | None = None
    """File with the line USER PASSWORD that initiators have to know."""
    control_port: int = 0
    """Which tgtd, as `tgtadm -C`."""
    timeout_s: float = EXPORT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Hook:
    """A shell command of the user's at a fixed point."""

    when: HookTime
    command: str
    timeout_s: float = HOOK_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class FailoverConfiguration:
    """The whole file. Pools, services, exports and hooks are in file order, which is the order of `master`."""

    path: str
    resources: tuple[str, ...] = ALL_RESOURCES
    delay_s: float = 0.0
    """Seconds that `master` waits before it changes roles."""
    wait_s: float = DEVICE_WAIT_S
    """Seconds that `master` waits for the devices."""
    role_timeout_s: float = ROLE_TIMEOUT_S
    control: str = "/var/run/hastctl"
    log: str | None = None
    health_s: float = HEALTH_S
    """How often hast-devd looks whether all is as it should be; 0: never."""
    pools: tuple[Pool, ...] = ()
    exports: tuple[NbdExport | IscsiExport, ...] = ()
    services: tuple[Service, ...] = ()
    hooks: tuple[Hook, ...] = ()
    text: str = field(default="", compare=False, repr=False)
    """What was read."""
