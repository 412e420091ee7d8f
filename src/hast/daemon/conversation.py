"""One message in, one message out over a non-blocking socket of the event loop, each within a deadline.

Reads exactly one message and never a byte more, because the socket may be handed on to a worker.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from hast.daemon.tls_stream import PlainStream, Stream
from hast.format import frame
from hast.format.constants import PROTOCOL_VERSION
from hast.format.nv import Field


class ConversationError(Exception):
    """The other side closed, was too slow or sent something that is no message; `str()` is one line."""


async def receive_frame(
    source: socket.socket | Stream, max_body_bytes: int, deadline_s: float
) -> tuple[frame.Frame, bytes]:
    """The next message and the bytes of its body. No data block is accepted. Raises ConversationError."""
    stream = _stream(source)
    decoder = frame.FrameDecoder(max_body_bytes, 0)
    raw = bytearray()
    try:
        async with asyncio.timeout(deadline_s):
            while (message := decoder.next()) is None:
                piece = await stream.receive(min(decoder.needed, 1 << 16))
                if not piece:
                    raise ConversationError("connection closed in the middle of a message" if raw else "no message")
                raw += piece
                decoder.feed(piece)
    except TimeoutError:
        raise ConversationError(f"no whole message within {deadline_s:g} s") from None
    except frame.FrameError as error:
        raise ConversationError(str(error)) from None
    except OSError as error:
        raise ConversationError(f"receive failed: {error.strerror}") from None
    return message, bytes(raw[frame.HEADER.size :])


async def send_frame(
    target: socket.socket | Stream, fields: Iterable[Field], deadline_s: float, version: int = PROTOCOL_VERSION
) -> None:
    """Send one message. Raises ConversationError; NvError for fields that cannot be sent."""
    payload = b"".join(bytes(part) for part in frame.encode(version, fields))
    try:
        async with asyncio.timeout(deadline_s):
            await _stream(target).send(payload)
    except TimeoutError:
        raise ConversationError(f"message not taken within {deadline_s:g} s") from None
    except OSError as error:
        raise ConversationError(f"send failed: {error.strerror}") from None


def _stream(of: socket.socket | Stream) -> Stream:
    return PlainStream(of) if isinstance(of, socket.socket) else of
