"""Reads a site: the four files of this node, and of the other where a folder with them is given. Only opens files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hast.config import carpconf, devdconf, failoverconf, hastconf
from hast.config.host import Host, this_host
from hast.config.model import ConfigError, Configuration
from hast.drill.decisions.site import Node, Site

HOSTS_FILE = Path("/etc/hosts")
EX_CONFIG = 78


def read_site(hast_conf: str, node: str | None, peer_folder: str | None) -> Site:
    """The other three files lie beside hast.conf. `node`: read as this node, not as the machine. Raises ConfigError."""
    me = this_host() if node is None else Host(node)
    folder = os.path.dirname(hast_conf) or "."
    configuration = hastconf.load(hast_conf, me)
    own, peer = _names(configuration)
    theirs = peer_folder or folder
    there = os.path.join(theirs, os.path.basename(hast_conf))
    other = hastconf.load(there, Host(peer))
    return Site((_node(own, configuration, folder, me), _node(peer, other, theirs, Host(peer))), dict(_known_names()))


def _names(configuration: Configuration) -> tuple[str, str]:
    """What the `on` sections call this node and the other. Raises ConfigError."""
    for names in configuration.node_names.values():
        if names.own and names.peer:
            return names.own[0], names.peer[0]
    raise ConfigError(f"{configuration.path}: no resource has a section for another node: there is no pair.", EX_CONFIG)


def _node(name: str, hast: Configuration, folder: str, host: Host) -> Node:
    return Node(
        name,
        hast,
        carpconf.load(os.path.join(folder, "carp.conf"), host),
        failoverconf.load(os.path.join(folder, "failover.conf")),
        devdconf.load(os.path.join(folder, "devd.conf")),
    )


def _known_names() -> Iterator[tuple[str, str]]:
    """Names with their addresses; the first line of a name counts, as in hosts(5)."""
    try:
        lines = HOSTS_FILE.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in reversed(lines):
        words = line.partition("#")[0].split()
        yield from ((name, words[0]) for name in words[1:])
