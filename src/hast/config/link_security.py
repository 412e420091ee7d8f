"""What an administrator should know of the links that hast.conf describes: which are open, which key would be refused.

Decides only. The key on the disk and the way to the other node are looked at by others (cli/check.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hast.config.model import ArbiterKind, Configuration, Resource, Tls


@dataclass(frozen=True, slots=True)
class OwnKey:
    """This node's key as it is on the disk."""

    fingerprint: str = ""
    problem: str = ""
    """Why there is no fingerprint."""
    readable_by_others: tuple[str, ...] = ()
    """Paths of keys, those that are to come included."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is one line: what is so, what that means, what to do."""

    text: str
    is_error: bool = False
    """With this the pair cannot work."""


def fingerprint_line(node: str, fingerprint: str) -> str:
    """What makes a node known, in hast.conf."""
    return f"on {node} {{ fingerprint {fingerprint} }}"


def findings(
    configuration: Configuration, key: OwnKey, is_encrypted_below: Callable[[Resource], bool]
) -> list[Finding]:
    """In the order of their weight. `is_encrypted_below`: the network itself does for this resource what TLS would."""
    linked = [resource for resource in configuration.resources.values() if resource.remotes]
    unsecured = [each for each in linked if not each.is_secured and not is_encrypted_below(each)]
    return [
        *_refused(configuration, [each for each in linked if each.tls is not Tls.OFF], key),
        *_open(configuration, unsecured),
        *_open_witness(configuration, key),
        *(Finding(f"{path} can be read by others: chmod 600 {path}") for path in key.readable_by_others),
    ]


def _open(configuration: Configuration, unsecured: Iterable[Resource]) -> list[Finding]:
    by_advice: dict[str, list[str]] = {}
    for resource in unsecured:
        by_advice.setdefault(_advice(configuration, resource), []).append(resource.name)
    return [
        Finding(f"{', '.join(names)}: the link is neither encrypted nor authenticated: {advice}")
        for advice, names in by_advice.items()
    ]


def _open_witness(configuration: Configuration, key: OwnKey) -> list[Finding]:
    """Who can speak for a node to the arbiter."""
    asking = [each for each in configuration.resources.values() if each.arbiter.kind is ArbiterKind.WITNESS]
    believed = ", ".join(resource.name for resource in asking if not resource.arbiter.fingerprints)
    found = []
    if any(resource.arbiter.fingerprints for resource in asking) and not key.fingerprint:
        text = f"the witness knows this node by its key, and it cannot show one: {key.problem}"
        found.append(Finding(text))
    if believed:
        text = f"{believed}: any host that reaches the witness can make two masters: give its fingerprint"
        found.append(Finding(f"{text} (hast-witness --show-key there; hast-witness(8), Keys)"))
    return found


def _advice(configuration: Configuration, resource: Resource) -> str:
    """Why this link is open, and what would close it."""
    known_here = _known_of_this_node(configuration, resource.name)
    if resource.tls is Tls.OFF:
        return (
            "tls off is written; where both nodes run this system take it away, else use WireGuard (docs/security.md)"
        )
    if known_here:
        peer = " or ".join(configuration.node_names[resource.name].peer) or "the other node"
        return f"hast.conf has a fingerprint of this node and none of {peer}; hastctl trust {resource.name} shows it"
    return "hast.conf has no fingerprints; on both nodes: hastctl keygen, then hastctl trust (docs/security.md)"


def _refused(configuration: Configuration, linked: Iterable[Resource], key: OwnKey) -> list[Finding]:
    """Links on which the other node would not know this one."""
    by_known: dict[tuple[str, ...], list[Resource]] = {}
    for resource in linked:
        known = _known_of_this_node(configuration, resource.name)
        if (known or resource.is_secured) and key.fingerprint not in known:
            by_known.setdefault(known, []).append(resource)
    if not by_known:
        return []
    if not key.fingerprint:
        return [Finding(f"fingerprints are configured, and this node cannot show a key: {key.problem}")]
    return [_refusal(configuration, known, resources, key) for known, resources in by_known.items()]


def _refusal(configuration: Configuration, known: tuple[str, ...], resources: list[Resource], key: OwnKey) -> Finding:
    names = ", ".join(resource.name for resource in resources)
    node = configuration.node_names[resources[0].name].own[0]
    what = f"other than {' and '.join(known)}" if known else "and none is given for it"
    line = fingerprint_line(node, key.fingerprint)
    text = f"{names}: the other node would refuse this one: its key has a fingerprint {what}: write '{line}' on both"
    return Finding(text, is_error=True)


def _known_of_this_node(configuration: Configuration, resource: str) -> tuple[str, ...]:
    """What the other node takes for the fingerprints of this one."""
    names = configuration.node_names.get(resource)
    nodes = names.own if names else ()
    return tuple(each for node in nodes for each in configuration.node_fingerprints.get(node, ()))
