"""Takes connections from a listening socket, and goes on whatever happens. Decides nothing about them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

AFTER_AN_ERROR_S = 0.2
"""Descriptors may have run out: to try again at once would find the same."""


async def connections(
    listening: socket.socket, complain: Callable[[str], None]
) -> AsyncIterator[tuple[socket.socket, str]]:
    """Each connection with the address it comes from (empty of a Unix socket), one in each round of the loop: a flood
    must not keep others from their turn. `complain` is told in one line why one could not be accepted."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0)
        try:
            sock, where = await loop.sock_accept(listening)
        except OSError as error:
            complain(f"Unable to accept a connection: {error.strerror}.")
            await asyncio.sleep(AFTER_AN_ERROR_S)
        else:
            yield sock, str(where[0]) if where else ""
