"""A question of this hastd to the other one: a connection of its own, one message there, one back.

Where the resource is secured the other side has to show its key before a word is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hast.config.address import AddressKind, parse_address
from hast.config.model import Resource
from hast.daemon.node_key import fingerprint
from hast.daemon.tls import client_context, require, shown
from hast.format.constants import MAX_BODY_BYTES
from hast.format.frame import Frame, FrameDecoder
from hast.format.nv import Buffer

CONNECT_S = 0.35
READ_BYTES = 65536


async def exchange(
    remote: str, resource: Resource, message: Iterable[Buffer], answer_s: float, max_body_bytes: int = MAX_BODY_BYTES
) -> Frame:
    """The answer. Raises OSError, TimeoutError, AddressError, FrameError."""
    address = parse_address(remote)
    async with asyncio.timeout(CONNECT_S):
        if address.kind is AddressKind.UNIX:
            reader, writer = await asyncio.open_unix_connection(address.path)
        else:
            context = client_context() if resource.is_secured else None
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    try:
        if resource.is_secured:
            require(fingerprint(shown(writer.get_extra_info("ssl_object"))), resource.peer_fingerprints)
        writer.writelines(bytes(part) for part in message)
        frames = FrameDecoder(max_body_bytes, 0)
        async with asyncio.timeout(answer_s):
            while (answer := frames.next()) is None:
                data = await reader.read(READ_BYTES)
                if not data:
                    raise ConnectionResetError("it closed the connection")
                frames.feed(data)
        return answer
    finally:
        writer.close()
