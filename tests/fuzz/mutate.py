"""Seeded changes of good bytes into bad ones. The same seed gives the same inputs on every machine."""

from __future__ import annotations

import random
from collections.abc import Sequence

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
MAX_INPUT_BYTES = 4096


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of the corpus, changed in one to four ways; now and then pure noise."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(rng, data, corpus)
    return bytes(data[:MAX_INPUT_BYTES])


def _flip(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _number(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    """An integer of a size and order that formats use."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) >= size:
        at = rng.randrange(len(data) - size + 1)
        value = (rng.choice(EDGES) + rng.randint(-2, 2)) % (1 << 8 * size)
        data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _cut(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        del data[rng.randrange(len(data)) :]


def _drop(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.randint(1, 16)]


def _insert(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.randint(1, 16))


def _repeat(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        at = rng.randrange(len(data))
        piece = data[at : at + rng.randint(1, 64)]
        data[at:at] = piece * rng.randint(1, 8)


def _splice(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = rng.choice(corpus)
    data[rng.randint(0, len(data)) :] = other[rng.randint(0, len(other)) :]


_CHANGES = (_flip, _byte, _number, _number, _cut, _drop, _insert, _repeat, _splice)
