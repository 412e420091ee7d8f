"""`hastctl trust`: which key the other node shows, and whether it is the one that hast.conf gives. Writes nothing."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass

from hast.cli.remote import endpoints
from hast.cli.session import Failure, Session, say_error
from hast.config.address import AddressError, parse_address
from hast.config.link_security import fingerprint_line
from hast.config.model import Configuration
from hast.daemon import node_key
from hast.daemon.tls import looking_context, shown
from hast.worker.link.dial import Endpoint

ANSWER_LIMIT_S = 5.0
DIFFERS = 1
EX_USAGE = 64
EX_UNAVAILABLE = 69


@dataclass(frozen=True, slots=True)
class Expected:
    """What hast.conf says of the node behind an address."""

    fingerprints: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    """What it is called."""
    source: str | None = None
    """From where it is called: it answers no strangers."""


def run(session: Session, target: str | None) -> int:
    """Look at the keys behind `target`, a resource or an address, or behind every remote; returns the exit code.

    DIFFERS where a key is another than hast.conf gives, else that of the first that did not answer. Raises Failure.
    """
    codes = []
    configuration = _configuration(session, target)
    for remote in _remotes(configuration, target):
        try:
            codes.append(_look(configuration, remote))
        except Failure as error:
            say_error(str(error))
            codes.append(error.exit_code)
    return DIFFERS if DIFFERS in codes else next((code for code in codes if code), 0)


def _look(configuration: Configuration, remote: str) -> int:
    try:
        wanted = expected(configuration, remote)
    except AddressError as error:
        raise Failure(f"No resource is called so, and it is no address: {error}", EX_USAGE) from None
    return _compare(remote, shown_fingerprint(remote, wanted.source), wanted)


def _configuration(session: Session, target: str | None) -> Configuration:
    """Without one an address can be looked at all the same."""
    try:
        return session.configuration()
    except Failure as error:
        if target is None:
            raise
        say_error(f"Compared with nothing: {error}")
        return Configuration(session.config_path)


def _remotes(configuration: Configuration, target: str | None) -> list[str]:
    """Each once, in file order."""
    resources = configuration.resources
    if target is not None and target not in resources:
        return [target]
    asked = resources.values() if target is None else [resources[target]]
    found = {parse_address(remote): remote for resource in asked for remote in resource.remotes}
    if not found:
        raise Failure("hast.conf names no other node; name an address: hastctl trust ADDRESS", EX_USAGE)
    return list(found.values())


def expected(configuration: Configuration, remote: str) -> Expected:
    """For an address of no resource: what is said of any other node."""
    resources = configuration.resources.values()
    address = parse_address(remote)
    behind = [each for each in resources if address in map(parse_address, each.remotes)] or list(resources)
    return Expected(
        _once(fingerprint for each in behind for fingerprint in each.peer_fingerprints),
        _once(name for each in behind for name in configuration.node_names[each.name].peer),
        next((each.source for each in behind if each.source), None),
    )


def _once(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))


def _compare(remote: str, shown: str, wanted: Expected) -> int:
    """Print the verdict; returns the exit code."""
    node = wanted.nodes[0] if len(wanted.nodes) == 1 else "NODE"
    if shown == _own():
        text = f"DIFFERS: {remote} shows the key of this node, {shown}: the address leads back here, or"
        say_error(f"{text} one machine is a copy of the other; each needs a key of its own (docs/security.md)")
        return DIFFERS
    if shown in wanted.fingerprints:
        print(f"{remote}: fingerprint {shown}\n    matches hast.conf")
        return 0
    if wanted.fingerprints:
        text = f"DIFFERS: {remote} shows the fingerprint {shown}, hast.conf has {' and '.join(wanted.fingerprints)}:"
        say_error(
            f"{text} its key was changed, or another machine answers; ask hastctl keygen --show on the node itself"
        )
        return DIFFERS
    print(f"{remote}: fingerprint {shown}")
    print("    not in hast.conf yet: compare it with what 'hastctl keygen --show' says there, then add on both nodes")
    print(f"    {fingerprint_line(node, shown)}")
    return 0


def _own() -> str:
    try:
        return node_key.own_fingerprint()
    except node_key.NodeKeyError:
        return ""


def shown_fingerprint(remote: str, source: str | None = None) -> str:
    """Of the key that the hastd behind this address shows; that it has this key is proven by the handshake.

    Raises Failure, one line.
    """
    try:
        found, origin = endpoints(remote), endpoints(source) if source else []
    except OSError as error:
        reason = error.strerror or "the name is not resolved in time"
        raise Failure(f"{remote} does not answer: {reason}", EX_UNAVAILABLE) from None
    until_s = time.monotonic() + ANSWER_LIMIT_S
    reason = "it has no address"
    for tried, endpoint in enumerate(found):
        limit_s = max(0.01, (until_s - time.monotonic()) / (len(found) - tried))
        try:
            return node_key.fingerprint(_certificate(remote, endpoint, origin, limit_s))
        except OSError as error:
            reason = error.strerror or "no answer in time"
    raise Failure(f"{remote} does not answer: {reason}; is hastd running there?", EX_UNAVAILABLE)


def _certificate(remote: str, endpoint: Endpoint, origin: Iterable[Endpoint], limit_s: float) -> bytes:
    """Raises OSError when nobody answers, Failure when somebody does, and not as expected."""
    with socket.socket(endpoint.family, socket.SOCK_STREAM) as sock:
        sock.settimeout(limit_s)
        for each in (each for each in origin if each.family == endpoint.family):
            sock.bind((each.address[0], 0, *each.address[2:]))
            break
        sock.connect(endpoint.address)
        try:
            with looking_context().wrap_socket(sock) as session:
                return shown(session)
        except OSError as error:
            text = f"{remote} speaks no TLS 1.3 ({_in_words(error)})"
            why = "FreeBSD, a release before this one, a node that names this one nowhere, or one without a key"
            raise Failure(f"{text}: {why} (hastctl keygen)", EX_UNAVAILABLE) from None


def _in_words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it said nothing in time"
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)):
        return "it closed the connection"
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return reason.lower().replace("_", " ") or error.strerror or str(error)
