"""Whether an order that came over HTTP is handed on at all, by how it came. Pure. The token is looked at elsewhere.

It has to come from our own page, which a browser says in headers that no page can alter, and over a way on which
nobody else reads the token: TLS, or this host's own loopback.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

PLAIN = "Orders are taken over TLS, or on the host itself (ssh -L) only: the token could be read on its way."
FOREIGN = "This order does not come from this page."
FORM = "An order is JSON."


@dataclass(frozen=True, slots=True)
class Way:
    """`peer` is the address that the connection comes from; the others are headers as they were sent."""

    is_tls: bool
    peer: str
    host: str
    origin: str = ""
    fetch_site: str = ""
    content_type: str = ""


def refused_way(way: Way) -> str:
    """Why no order can come this way; empty where one can."""
    return "" if way.is_tls or (_is_loopback(way.peer) and _is_loopback(_name(way.host))) else PLAIN


def refused(way: Way) -> str:
    """Why this order is not handed on; empty where it is."""
    if told := refused_way(way):
        return told
    ours = f"{'https' if way.is_tls else 'http'}://{way.host}"
    if not way.host or way.origin.lower() != ours.lower() or way.fetch_site not in ("", "same-origin"):
        return FOREIGN
    return "" if way.content_type == "application/json" else FORM


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
