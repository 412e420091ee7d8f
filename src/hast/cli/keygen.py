"""`hastctl keygen`: makes this node's key, shows its fingerprint, changes to another key (docs/security.md)."""

from __future__ import annotations

from hast.cli.session import Failure, Session
from hast.config.link_security import fingerprint_line
from hast.config.model import Configuration
from hast.daemon import node_key
from hast.daemon.paths import state_directory

EX_NOINPUT = 66
EX_CANTCREAT = 73
EX_CONFIG = 78


def make(session: Session, *, following: bool) -> list[str]:
    """Make the key, or the one that comes after it; what to print. Raises Failure."""
    if following:
        _present_fingerprint()
    try:
        made = node_key.generate(following=following)
    except node_key.NodeKeyError as error:
        raise Failure(f"{error}{_what_to_do_with(following)}", EX_CANTCREAT) from None
    lines = [f"fingerprint {made}", "In hast.conf, on both nodes, then hastctl reload:"]
    lines += [f"    {fingerprint_line(name, made)}" for name in _names(session)]
    if following:
        lines.append("Beside the present one. When both nodes have it, on this node: hastctl keygen --switch")
    return lines


def _what_to_do_with(following: bool) -> str:
    """A key that is there already; empty when that is not why none was made."""
    try:
        there = _following() if following else node_key.own_fingerprint()
    except (Failure, node_key.NodeKeyError):
        return ""
    if not there:
        return ""
    return (
        "; change to it with: hastctl keygen --switch" if following else "; prepare another with: hastctl keygen --next"
    )


def show() -> list[str]:
    """The fingerprint, and that of the key that is to come. Raises Failure."""
    lines = [_present_fingerprint()]
    following = _following()
    return [*lines, f"{following} (next)"] if following else lines


def switch(session: Session) -> list[str]:
    """Change to the key that was made with `following`; what to print. Raises Failure."""
    following = _following()
    if not following:
        raise Failure("No key is prepared to change to; first: hastctl keygen --next", EX_NOINPUT)
    configuration = _configuration(session)
    if configuration is not None and configuration.fingerprints and following not in configuration.fingerprints:
        line = fingerprint_line(_names(session)[0], following)
        text = f"The other node would refuse the next key: first write '{line}' into hast.conf"
        raise Failure(f"{text} on both nodes, then hastctl reload on both.", EX_CONFIG)
    try:
        used = node_key.switch()
    except node_key.NodeKeyError as error:
        raise Failure(str(error), EX_CANTCREAT) from None
    return [
        f"fingerprint {used}",
        "Links that are up stay up. Take the former fingerprint out of hast.conf on both nodes.",
    ]


def _present_fingerprint() -> str:
    try:
        return node_key.own_fingerprint()
    except node_key.NodeKeyError as error:
        raise Failure(str(error), EX_NOINPUT) from None


def _following() -> str:
    """Empty when none is prepared. Raises Failure."""
    path = state_directory() / node_key.NEXT_CERTIFICATE
    try:
        return node_key.read_fingerprint(path) if path.exists() else ""
    except (OSError, node_key.NodeKeyError) as error:
        raise Failure(str(error), EX_NOINPUT) from None


def _configuration(session: Session) -> Configuration | None:
    """None where there is none yet, or one with a mistake: a key can be made all the same."""
    try:
        return session.configuration()
    except Failure:
        return None


def _names(session: Session) -> list[str]:
    """What the resources call this node; its host name when there are none yet."""
    from hast.config.host import this_host

    configuration = _configuration(session)
    names = configuration.node_names.values() if configuration is not None else ()
    return list(dict.fromkeys(name for each in names for name in each.own)) or [this_host().short_name]
