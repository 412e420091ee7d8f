"""Who this machine is, as far as `on NODE` sections ask (specification section 1.4). Reads files, never the network.

Sources on Linux:

- host name: gethostname(2);
- hostuuid: /sys/class/dmi/id/product_uuid (readable by root only) when it holds a usable UUID, else /etc/machine-id
  in UUID form, else none;
- hostid: what hostid(1) prints: the four bytes of /etc/hostid, else made of the IPv4 address that /etc/hosts gives
  for the host name. The domain name system is not asked, because a configuration must load without it.
"""

from __future__ import annotations

import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_UNUSABLE_UUIDS = frozenset({0, (1 << 128) - 1, 0x03000200_0400_0500_0006_000700080009})
"""All zeros, all ones, and the value that board makers leave in by mistake: the same on many machines."""


@dataclass(frozen=True, slots=True)
class Host:
    """The names by which an `on` section can mean this host. `uuid` is empty when the machine has none."""

    name: str
    uuid: str = ""
    hostid: int = 0

    @property
    def short_name(self) -> str:
        """The host name up to its first dot; the whole name when there is none."""
        return self.name.partition(".")[0]

    @property
    def node_names(self) -> tuple[str, ...]:
        """Every acceptable node name, in the order of the reference's message."""
        names = (self.short_name, self.name, self.uuid, f"hostid{self.hostid}")
        return tuple(dict.fromkeys(name for name in names if name))

    def matches(self, node: str) -> bool:
        """Whether `on node` means this host. Only the UUID is compared without regard to case."""
        return node in self.node_names or (self.uuid != "" and node.lower() == self.uuid.lower())


def this_host(root: Path = _ROOT, name: str | None = None) -> Host:
    """This machine. `root` and `name` stand in for the file system and the host name in tests. Raises OSError."""
    name = socket.gethostname() if name is None else name
    return Host(name, _host_uuid(root), _hostid(root, name))


def _read(path: Path) -> str:
    """The file's text; empty when there is none or it may not be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _host_uuid(root: Path) -> str:
    for path in ("sys/class/dmi/id/product_uuid", "etc/machine-id"):
        try:
            found = uuid.UUID(_read(root / path))
        except ValueError:
            continue
        if found.int not in _UNUSABLE_UUIDS:
            return str(found)
    return ""


def _hostid(root: Path, name: str) -> int:
    try:
        stored = (root / "etc/hostid").read_bytes()
    except OSError:
        stored = b""
    if len(stored) >= 4:
        return int.from_bytes(stored[:4], sys.byteorder)
    address = int.from_bytes(_ipv4_of(root, name), sys.byteorder)
    return (address << 16 | address >> 16) & 0xFFFFFFFF


def _ipv4_of(root: Path, name: str) -> bytes:
    """The IPv4 address of /etc/hosts for the name; empty when it has none."""
    for line in _read(root / "etc/hosts").splitlines():
        words = line.partition("#")[0].split()
        if name.lower() in (word.lower() for word in words[1:]):
            try:
                return socket.inet_pton(socket.AF_INET, words[0])
            except OSError:
                continue
    return b""
