"""Asks the other node, before a connected secondary lets go of it, whether it is primary still.

To leave the role of a secondary is to make the primary go on alone. While the other node lives, and is primary, nothing
may be let go: a planned switch would leave the copies apart. Sends message 1 on a connection of its own and reads
message 2; changes nothing on either side.
"""

from __future__ import annotations

from hast.config.address import AddressError
from hast.config.model import Resource
from hast.format.frame import FrameError
from hast.format.handshake import HandshakeError
from hast.replication.handshake import Refused
from hast.supervisor.decisions.departure import PeerAnswer
from hast.supervisor.peer_dial import exchange
from hast.worker.link.peer_handshake import PeerHandshake

ANSWER_S = 2.0


async def ask(resource: Resource) -> PeerAnswer:
    """Whether the peer says that it is primary. Takes at most a few seconds."""
    otherwise = PeerAnswer.NONE
    for remote in resource.remotes:
        try:
            primary = await _ask(remote, resource)
            return PeerAnswer.PRIMARY if primary else PeerAnswer.NOT_PRIMARY
        except ConnectionRefusedError:
            otherwise = PeerAnswer.REFUSED
        except (OSError, TimeoutError, AddressError, FrameError, HandshakeError):
            continue
    return otherwise


async def _ask(remote: str, resource: Resource) -> bool:
    handshake = PeerHandshake(resource.name, 1, b"")
    try:
        handshake.first_reply(await exchange(remote, resource, handshake.first_hello(), ANSWER_S))
    except Refused as refused:
        return refused.busy
    return False
