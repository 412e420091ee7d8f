"""The record of addresses that carpd has set, kept so that a later carpd can remove what a killed one left.

One small JSON file in the run directory, replaced atomically: written before an address is set and after it is removed.
"""

from __future__ import annotations

import json
import os
from ipaddress import ip_interface
from pathlib import Path

from hast.net.netlink import Interface


class AddressRecord:
    """Pairs of interface name and address. A file that cannot be read counts as empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: set[tuple[str, Interface]] = set()
        try:
            for name, text in json.loads(path.read_text())["addresses"]:
                self._entries.add((str(name), ip_interface(text)))
        except (OSError, ValueError, KeyError, TypeError):
            pass

    @property
    def entries(self) -> frozenset[tuple[str, Interface]]:
        return frozenset(self._entries)

    def add(self, interface: str, address: Interface) -> None:
        """Raises OSError."""
        if (interface, address) not in self._entries:
            self._entries.add((interface, address))
            self._write()

    def discard(self, interface: str, address: Interface) -> None:
        """Raises OSError."""
        if (interface, address) in self._entries:
            self._entries.discard((interface, address))
            self._write()

    def _write(self) -> None:
        text = json.dumps({"addresses": sorted((name, str(address)) for name, address in self._entries)})
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(text + "\n")
        temporary.replace(self._path)
