"""Messages made by hand for the tests of the formats, in ways that our own encoders would not make them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TypeAlias

from hast.format import nv
from hast.format.frame import HEADER
from hast.format.nv import HEAD, Field, padded

Vector: TypeAlias = Callable[[str], bytes]
"""The fixture `vector`: bytes of the vector whose file name starts with the given number."""


def message(fields: Iterable[Field], data: bytes = b"", version: int = 2, padding_seed: int | None = None) -> bytes:
    """A message of exactly these fields; with a seed, name padding is garbage as the reference leaves it."""
    body = bytearray()
    noise = None if padding_seed is None else random.Random(padding_seed)
    for field in fields:
        element = bytearray(nv.encode_field(*field))
        if noise is not None:
            name_end = HEAD.size + element[1]
            value_at = HEAD.size + padded(element[1])
            element[name_end:value_at] = noise.randbytes(value_at - name_end)
        body += element
    return HEADER.pack(version, len(body)) + bytes(body) + data


def without_name_padding(wire: bytes) -> bytes:
    """A message with the padding of its names zeroed, so that it can be compared to another."""
    _version, body_bytes = HEADER.unpack_from(wire)
    masked = bytearray(wire)
    position, end = HEADER.size, HEADER.size + body_bytes
    while position < end:
        _type, name_size, data_size = HEAD.unpack_from(wire, position)
        name_end = position + HEAD.size + name_size
        value_at = position + HEAD.size + padded(name_size)
        masked[name_end:value_at] = bytes(value_at - name_end)
        position = value_at + padded(data_size)
    return bytes(masked)


def joined(buffers: Iterable[nv.Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)
