"""Settings of a resource that both nodes must have alike: digests, which each node's report carries, and a comparison.

A digest names a value without telling it, whatever its length. What may well differ (addresses, the local disk,
programs, what one sends) is left out. Data size and extent size are in the metadata: the handshake compares them.

No I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from hast.config.model import ArbiterKind, Resource

DIGEST_CHARACTERS = 16


def _arbiter(resource: Resource) -> str:
    """Hosts may well ping other targets each, while two witnesses let both nodes write."""
    arbiter = resource.arbiter
    if arbiter.kind in (ArbiterKind.NONE, ArbiterKind.PING):
        return str(arbiter.kind)
    return " ".join((arbiter.kind, *sorted(arbiter.targets), *sorted(arbiter.fingerprints)))


_VALUES: Mapping[str, Callable[[Resource], str]] = {
    "replication": lambda resource: str(resource.replication),
    "name": lambda resource: resource.provider_name,
    "arbiter": _arbiter,
    "split-brain": lambda resource: str(resource.split_brain_policy),
    "tls": lambda resource: resource.tls_in_words,
}
"""By their names in hast.conf."""


def digests(resource: Resource) -> dict[str, str]:
    """By the name of the setting."""
    return {
        name: hashlib.sha256(value(resource).encode()).hexdigest()[:DIGEST_CHARACTERS]
        for name, value in _VALUES.items()
    }


def differing(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Names of the settings that are others there than here. What only one side knows of is not compared."""
    return [name for name, digest in ours.items() if theirs.get(name, digest) != digest]


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:DIGEST_CHARACTERS]
