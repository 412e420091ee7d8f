"""Asks the other node, before a connected secondary lets go of it, whether it is primary still.

To leave the role of a secondary is to make the primary go on alone. While the other node lives, and is primary, nothing
may be let go: a planned switch would leave the copies apart. Sends message 1 on a connection of its own and reads
message 2; changes nothing on either side.
"""

from __future__ import annotations

import asyncio

from hast.config.address import Address, AddressError, AddressKind, parse_address
from hast.config.model import Resource
from hast.daemon.node_key import fingerprint
from hast.daemon.tls import client_context, require, shown
from hast.format.constants import MAX_BODY_BYTES
from hast.format.frame import FrameDecoder, FrameError
from hast.format.handshake import HandshakeError
from hast.replication.handshake import Refused
from hast.supervisor.decisions.departure import PeerAnswer
from hast.worker.link.peer_handshake import PeerHandshake

CONNECT_S = 0.35
ANSWER_S = 2.0
READ_BYTES = 65536


async def ask(resource: Resource) -> PeerAnswer:
    """Whether the peer says that it is primary. Takes at most a few seconds."""
    otherwise = PeerAnswer.NONE
    for remote in resource.remotes:
        try:
            primary = await _ask(parse_address(remote), resource)
            return PeerAnswer.PRIMARY if primary else PeerAnswer.NOT_PRIMARY
        except ConnectionRefusedError:
            otherwise = PeerAnswer.REFUSED
        except (OSError, TimeoutError, AddressError, FrameError, HandshakeError):
            continue
    return otherwise


async def _ask(address: Address, resource: Resource) -> bool:
    async with asyncio.timeout(CONNECT_S):
        if address.kind is AddressKind.UNIX:
            reader, writer = await asyncio.open_unix_connection(address.path)
        else:
            context = client_context() if resource.is_secured else None
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    try:
        if resource.is_secured:
            require(fingerprint(shown(writer.get_extra_info("ssl_object"))), resource.peer_fingerprints)
        handshake = PeerHandshake(resource.name, 1, b"")
        writer.writelines(bytes(part) for part in handshake.first_hello())
        frames = FrameDecoder(MAX_BODY_BYTES, 0)
        async with asyncio.timeout(ANSWER_S):
            while (message := frames.next()) is None:
                data = await reader.read(READ_BYTES)
                if not data:
                    raise ConnectionResetError
                frames.feed(data)
        handshake.first_reply(message)
    except Refused as refused:
        return refused.busy
    finally:
        writer.close()
    return False
