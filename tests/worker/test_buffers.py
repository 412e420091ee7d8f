"""The receive buffer: views stay valid, chunks are reused only when nothing refers to them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import pytest

from hast.format.constants import MAX_DATA_BYTES
from hast.replication.types import WRITE, Request
from hast.worker.buffers import ReceiveBuffer


def test_received_bytes_are_visible_between_start_and_end() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"hello")
        buffer = ReceiveBuffer(4096)
        assert buffer.recv(right) == 5
        assert bytes(buffer.view[buffer.start : buffer.end]) == b"hello"
        buffer.consume(2)
        assert bytes(buffer.pending()) == b"llo"
        assert len(buffer) == 3


def test_nothing_to_receive_is_none_and_end_of_stream_is_zero() -> None:
    left, right = socket.socketpair()
    with right:
        right.setblocking(False)
        buffer = ReceiveBuffer(4096)
        assert buffer.recv(right) is None
        left.close()
        assert buffer.recv(right) == 0


def test_a_partial_message_moves_whole_to_the_next_chunk() -> None:
    buffer = ReceiveBuffer(4096)
    buffer.feed(b"x" * 4000)
    buffer.consume(3990)
    buffer.reserve(2000)
    assert bytes(buffer.pending()) == b"x" * 10
    buffer.feed(b"y" * 1990)
    assert bytes(buffer.pending()) == b"x" * 10 + b"y" * 1990


def test_a_message_larger_than_a_chunk_gets_room() -> None:
    buffer = ReceiveBuffer(4096)
    buffer.feed(b"a" * 100)
    buffer.reserve(10000)
    buffer.feed(b"b" * 9900)
    assert bytes(buffer.pending()) == b"a" * 100 + b"b" * 9900


def test_views_handed_out_never_change_under_their_holder() -> None:
    buffer = ReceiveBuffer(4096)
    held = []
    for value in range(100):
        buffer.feed(bytes([value]) * 1500)
        held.append((value, buffer.pending()))
        buffer.consume(1500)
    assert all(bytes(view) == bytes([value]) * 1500 for value, view in held)


def test_a_chunk_without_views_is_used_again() -> None:
    buffer = ReceiveBuffer(4096)
    assert len(chunks_used(buffer, 50)) <= 3


def kept_by_a_request(view: memoryview) -> object:
    return Request(WRITE, 0, len(view), data=view)


KEEPERS: dict[str, Callable[[memoryview], object]] = {
    "a view": lambda view: view,
    "a slice": lambda view: view[10:20],
    "a view of a view": lambda view: memoryview(view[10:20]),
    "another item format": lambda view: view[:8].cast("Q"),
    "a read-only view": lambda view: view.toreadonly(),
    "a slice in a request": lambda view: kept_by_a_request(view[10:20]),
    "an iterator": lambda view: iter(view),
}


@pytest.mark.parametrize("kind", KEEPERS)
def test_a_chunk_is_used_again_only_when_its_last_view_is_gone(kind: str) -> None:
    buffer = ReceiveBuffer(4096)
    buffer.feed(b"k" * 3000)
    kept = KEEPERS[kind](buffer.pending())
    owner = id(buffer.view.obj)
    buffer.consume(3000)
    for _ in range(20):
        buffer.feed(b"z" * 3000)
        buffer.consume(3000)
        assert id(buffer.view.obj) != owner
    del kept
    assert owner in chunks_held(buffer, 3)


@pytest.mark.parametrize("header_bytes", [28, 130])
def test_the_largest_messages_cost_no_new_memory_once_as_many_were_in_use(header_bytes: int) -> None:
    buffer = ReceiveBuffer()
    message_bytes = header_bytes + MAX_DATA_BYTES
    parts = [bytes(message_bytes - 100_000), bytes(100_000)]
    in_use: deque[memoryview] = deque(maxlen=8)
    chunks: list[object] = []
    for _ in range(40):
        for part in parts:
            buffer.reserve(message_bytes)
            buffer.feed(part)
        in_use.append(buffer.pending()[header_bytes:])
        buffer.consume(message_bytes)
        chunks.append(buffer.view.obj)
    assert {id(chunk) for chunk in chunks[20:]} <= {id(chunk) for chunk in chunks[:20]}
    assert len({id(chunk) for chunk in chunks}) <= 10


def test_a_chunk_that_is_only_named_somewhere_is_used_again() -> None:
    buffer = ReceiveBuffer(4096)
    buffer.feed(b"k" * 3000)
    owner = buffer.view.obj
    buffer.consume(3000)
    assert id(owner) in chunks_used(buffer, 20)


def test_a_chunk_that_is_used_again_has_its_full_size() -> None:
    buffer = ReceiveBuffer(4096)
    for _ in range(20):
        buffer.feed(b"z" * 3000)
        buffer.consume(3000)
        assert len(buffer.view) == 4096


def chunks_held(buffer: ReceiveBuffer, messages: int) -> set[int]:
    """Identities of the chunks that messages of 3000 bytes land in while all of them are in use."""
    held = []
    for _ in range(messages):
        buffer.feed(b"z" * 3000)
        held.append(buffer.pending())
        buffer.consume(3000)
    return {id(view.obj) for view in held}


def chunks_used(buffer: ReceiveBuffer, messages: int) -> set[int]:
    """Identities of the chunks that messages of 3000 bytes land in."""
    used = set()
    for _ in range(messages):
        buffer.feed(b"z" * 3000)
        buffer.consume(3000)
        used.add(id(buffer.view.obj))
    return used
