"""A question to a daemon of ours over its Unix socket, in the framed JSON of docs/control.md. For asyncio.

What the answer means is the caller's to know.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

from hast.daemon.conversation import receive_frame, send_frame
from hast.format import control, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES

MAX_LINE_BYTES = 1024 * 1024


async def ask(path: str, request: dict[str, Any], connect_s: float, answer_s: float) -> Any:
    """The answer; None where it holds none. Raises OSError, TimeoutError, ConversationError, ValueError."""
    with await _connect(path, connect_s) as sock:
        await send_frame(sock, control.json_request(json.dumps(request)), connect_s)
        reply, _body = await receive_frame(sock, MAX_CONTROL_BODY_BYTES, answer_s)
    return json.loads(reply.nv.get("json", nv.NvType.STRING) or "null")


async def stream(path: str, request: dict[str, Any], connect_s: float) -> AsyncGenerator[bytes, None]:
    """The lines of an answer that goes on, until the other side ends it. Raises as `ask`."""
    sock = await _connect(path, connect_s)
    try:
        await send_frame(sock, control.json_request(json.dumps(request)), connect_s)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)
    except BaseException:
        sock.close()
        raise
    try:
        while line := await reader.readline():
            yield line
    finally:
        writer.close()


async def _connect(path: str, connect_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(connect_s):
            await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock
