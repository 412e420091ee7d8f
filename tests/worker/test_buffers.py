"""The receive buffer: views stay valid, chunks are reused only when nothing refers to them."""

from __future__ import annotations

import socket

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
    chunks = set()
    for _ in range(50):
        buffer.feed(b"z" * 3000)
        buffer.consume(3000)
        chunks.add(id(buffer.view.obj))
    assert len(chunks) <= 3


def test_a_chunk_with_a_living_view_is_not_used_again() -> None:
    buffer = ReceiveBuffer(4096)
    buffer.feed(b"k" * 3000)
    kept = buffer.pending()[10:20]
    owner = kept.obj
    buffer.consume(3000)
    for _ in range(20):
        buffer.feed(b"z" * 3000)
        buffer.consume(3000)
        assert buffer.view.obj is not owner
    assert bytes(kept) == b"k" * 10
