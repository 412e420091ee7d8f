"""A site as a drill sees it: four configuration files, read as each of the two nodes reads them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from hast.config.address import AddressError, parse_address
from hast.config.carp_model import CarpConfiguration
from hast.config.devd_model import DevdConfiguration
from hast.config.failover_model import ALL_RESOURCES, FailoverConfiguration
from hast.config.model import Arbiter, ArbiterKind, Configuration


@dataclass(frozen=True, slots=True)
class Node:
    """What one node makes of its files. `name` is what hast.conf calls it."""

    name: str
    hast: Configuration
    carp: CarpConfiguration
    failover: FailoverConfiguration
    devd: DevdConfiguration

    @property
    def moved(self) -> tuple[str, ...]:
        """The resources that `failover` moves."""
        listed = self.failover.resources
        return tuple(self.hast.resources) if listed == ALL_RESOURCES else listed


@dataclass(frozen=True, slots=True)
class Site:
    """Both nodes; `addresses` are names with their addresses, as /etc/hosts has them."""

    nodes: tuple[Node, Node]
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> tuple[str, ...]:
        """Of both, in the order of the first."""
        return tuple(dict.fromkeys((*self.nodes[0].hast.resources, *self.nodes[1].hast.resources)))

    @property
    def arbiter(self) -> Arbiter:
        """The first that a resource of the first node has."""
        found = [resource.arbiter for resource in self.nodes[0].hast.resources.values()]
        return next((each for each in found if each.kind is not ArbiterKind.NONE), Arbiter())

    def is_on_client_network(self, text: str) -> bool:
        """Whether this address of hast.conf lies in the network of a shared address."""
        try:
            host = parse_address(text).host
        except AddressError:
            return False
        try:
            address = ip_address(self.addresses.get(host, host))
        except ValueError:
            return False
        shared = [each for node in self.nodes for group in node.carp.groups for each in group.addresses]
        return any(address.version == each.version and address in each.network for each in shared)
