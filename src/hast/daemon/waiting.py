"""Waiting for a socket without reading from it, in asyncio; and how long for a process of ours to be ready."""

from __future__ import annotations

import asyncio
import socket

START_DEADLINE_S = 40.0
"""How long a helper process may take until it is ready: a second on a busy host, ten and more on an emulated one."""
READY = b"ready\n"
"""What a helper prints then, before its result."""


async def readable(sock: socket.socket) -> None:
    """Until something is there, or the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
