"""One message at a time over a socket, within a deadline, and never a byte too many."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.format import frame, nv

FIELDS = [nv.string("resource", "disk1")]
MESSAGE = b"".join(bytes(part) for part in frame.encode(2, FIELDS))


def converse(body: Callable[[socket.socket, socket.socket], Awaitable[None]]) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await body(ours, theirs)

    asyncio.run(run())


def test_reads_exactly_one_message() -> None:
    async def body(ours: socket.socket, theirs: socket.socket) -> None:
        theirs.sendall(MESSAGE + b"rest")
        message, raw = await receive_frame(ours, 65536, 5)
        assert message.nv.get("resource", nv.NvType.STRING) == "disk1"
        assert raw == MESSAGE[5:]
        assert ours.recv(100) == b"rest"

    converse(body)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"", "no message"),
        (MESSAGE[:3], "in the middle"),
        (MESSAGE[:-1], "in the middle"),
        (b"\x02\xff\xff\xff\xff", "body of"),
        (b"\x07" + MESSAGE[1:], "version"),
    ],
)
def test_what_is_no_message_is_one_line(sent: bytes, text: str) -> None:
    async def body(ours: socket.socket, theirs: socket.socket) -> None:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConversationError, match=text):
            await receive_frame(ours, 65536, 5)

    converse(body)


def test_silence_has_a_deadline() -> None:
    async def body(ours: socket.socket, theirs: socket.socket) -> None:
        theirs.sendall(MESSAGE[:7])
        with pytest.raises(ConversationError, match="no whole message within"):
            await receive_frame(ours, 65536, 0.05)

    converse(body)


def test_receiver_that_does_not_read_has_a_deadline() -> None:
    async def body(ours: socket.socket, theirs: socket.socket) -> None:
        with pytest.raises(ConversationError, match="not taken within"):
            await send_frame(ours, [nv.string("json", "x" * 4_000_000)], 0.1)

    converse(body)


def test_closed_receiver_is_one_line() -> None:
    async def body(ours: socket.socket, theirs: socket.socket) -> None:
        theirs.close()
        with pytest.raises(ConversationError, match="send failed"):
            await send_frame(ours, FIELDS, 1)

    converse(body)
