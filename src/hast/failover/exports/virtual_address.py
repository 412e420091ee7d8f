"""Where an export listens that is told no address: those that follow the master, as carp.conf has them."""

from __future__ import annotations

from hast.config.failover_model import NBD_PORT


def virtual_addresses(resource: str, port: int = NBD_PORT, path: str | None = None) -> tuple[str, ...]:
    """`ADDRESS:PORT` of the vhids that watch this resource, or of all where none does. Empty without a usable file."""
    from hast.config import carpconf
    from hast.config.carp_model import DEFAULT_CARP_CONF
    from hast.config.host import this_host
    from hast.config.model import ConfigError

    try:
        groups = carpconf.load(path or DEFAULT_CARP_CONF, this_host()).groups
    except ConfigError:
        return ()
    watching = [group for group in groups if resource in group.resources] or groups
    found = [address.ip for group in watching for address in group.addresses]
    return tuple(f"[{each}]:{port}" if each.version == 6 else f"{each}:{port}" for each in found)
