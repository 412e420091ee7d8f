"""A set of small integers as bits, least significant bit first: the form the activemap has on disk (section 6.2).

A map of 64 TiB has 4 MiB, and clients wait while two are combined. So one with few bits is gone through bit by bit, and
others chunk by chunk: where one of the two has no bit, or all, bytes are compared and copied; integers take ten times
as long.
"""

from __future__ import annotations

from collections.abc import Iterator

_CHUNK_BYTES = 1024
_NONE = bytes(_CHUNK_BYTES)
_ALL = b"\xff" * _CHUNK_BYTES
_PIECE_BYTES = 64
_NO_PIECE = bytes(_PIECE_BYTES)
"""In which single bits are looked for."""
_FEW_BITS = 64
_FEW_SHARE = 512
"""Up to _FEW_BITS, and one for so many bytes of the map, are handled one by one."""


class Bitmap:
    """`size` bits, all clear or loaded from bytes; unused bits are never set. `data` may be read, not written."""

    __slots__ = ("count", "data", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray((size + 7) // 8)
        self.count = 0

    def __contains__(self, bit: int) -> bool:
        return bool(self.data[bit >> 3] & (1 << (bit & 7)))

    def __bool__(self) -> bool:
        return self.count > 0

    def __iter__(self) -> Iterator[int]:
        """In ascending order; the map may not be changed meanwhile."""
        if self.count == 0:
            return
        data = self.data
        for start in range(0, len(data), _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            if chunk == _NONE[: len(chunk)]:
                continue
            for place in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[place : place + _PIECE_BYTES]
                if piece == _NO_PIECE:
                    continue
                value = int.from_bytes(piece, "little")
                before = (start + place) * 8 - 1
                while value:
                    low = value & -value
                    yield before + low.bit_length()
                    value ^= low

    def add(self, bit: int) -> bool:
        """Set a bit; True when it was clear. Raises IndexError outside the map."""
        mask = 1 << (bit & 7)
        if bit >= self.size:
            raise IndexError(bit)
        if self.data[bit >> 3] & mask:
            return False
        self.data[bit >> 3] |= mask
        self.count += 1
        return True

    def discard(self, bit: int) -> bool:
        """Clear a bit; True when it was set."""
        mask = 1 << (bit & 7)
        if not self.data[bit >> 3] & mask:
            return False
        self.data[bit >> 3] &= ~mask & 0xFF
        self.count -= 1
        return True

    def copy(self) -> Bitmap:
        """The same bits, in a map of their own."""
        twin = Bitmap(self.size)
        twin.data[:] = self.data
        twin.count = self.count
        return twin

    def merge(self, image: bytes | bytearray) -> None:
        """Set every bit that is set in `image`; bits beyond the size, and bytes missing at its end, are ignored."""
        image = image[: len(self.data)]
        beyond = len(image) * 8 - self.size
        if beyond > 0:
            image = image[:-1] + bytes((image[-1] & (0xFF >> beyond),))
        if self.count == 0:
            self.data[: len(image)] = image
            self.count = sum(
                _weight(image[start : start + _CHUNK_BYTES]) for start in range(0, len(image), _CHUNK_BYTES)
            )
        elif self.count < self.size:
            self._unite(image)

    def unite(self, other: Bitmap) -> None:
        """Set every bit that is set in `other`, a map of the same size."""
        if other._is_sparse():
            for bit in other:
                self.add(bit)
        elif self._is_sparse():
            own = list(self)
            self.data[:] = other.data
            self.count = other.count
            for bit in own:
                self.add(bit)
        elif self.count < self.size:
            self._unite(other.data)

    def _unite(self, image: bytes | bytearray) -> None:
        data = self.data
        for start in range(0, len(image), _CHUNK_BYTES):
            theirs = image[start : start + _CHUNK_BYTES]
            if theirs == _NONE[: len(theirs)]:
                continue
            ours = data[start : start + len(theirs)]
            if ours in (theirs, _ALL):
                continue
            if theirs == _ALL or ours == _NONE[: len(ours)]:
                self._put(start, ours, theirs)
            else:
                self._put(start, ours, _bytes(_integer(ours) | _integer(theirs), len(ours)))

    def unite_but(self, other: Bitmap, excepted: Bitmap) -> None:
        """Set every bit that is set in `other` and clear in `excepted`, maps of the same size."""
        more = other.copy()
        more.subtract(excepted)
        self.unite(more)

    def subtract(self, other: Bitmap) -> None:
        """Clear every bit that is set in `other`, a map of the same size."""
        if self.count == 0:
            return
        if other._is_sparse():
            for bit in other:
                self.discard(bit)
        elif self.data == other.data:
            self.clear()
        else:
            self._subtract(other.data)

    def _subtract(self, image: bytearray) -> None:
        data = self.data
        for start in range(0, len(data), _CHUNK_BYTES):
            ours = data[start : start + _CHUNK_BYTES]
            none = _NONE[: len(ours)]
            if ours == none:
                continue
            theirs = image[start : start + _CHUNK_BYTES]
            if theirs in (ours, _ALL):
                self._put(start, ours, none)
            elif theirs != none:
                self._put(start, ours, _bytes(_integer(ours) & ~_integer(theirs), len(ours)))

    def intersect(self, other: Bitmap) -> None:
        """Clear every bit that is clear in `other`, a map of the same size."""
        data, image = self.data, other.data
        for start in range(0, len(data), _CHUNK_BYTES):
            ours = data[start : start + _CHUNK_BYTES]
            theirs = image[start : start + _CHUNK_BYTES]
            none = _NONE[: len(ours)]
            if ours == none or theirs in (ours, _ALL):
                continue
            if theirs == none or ours == _ALL:
                self._put(start, ours, theirs)
            else:
                self._put(start, ours, _bytes(_integer(ours) & _integer(theirs), len(ours)))

    def _is_sparse(self) -> bool:
        return self.count <= _FEW_BITS + len(self.data) // _FEW_SHARE

    def _put(self, start: int, ours: bytes | bytearray, instead: bytes | bytearray) -> None:
        self.data[start : start + len(ours)] = instead
        self.count += _weight(instead) - _weight(ours)

    def last(self) -> int:
        """The highest set bit, or -1."""
        used = self.data.rstrip(b"\0")
        return len(used) * 8 - 8 + used[-1].bit_length() - 1 if used else -1

    def fill(self) -> None:
        """Set every bit."""
        self.data = bytearray(b"\xff" * len(self.data))
        self.count = self.size
        if self.size & 7:
            self.data[-1] = 0xFF >> (8 - (self.size & 7))

    def clear(self) -> None:
        """Clear every bit."""
        self.data = bytearray(len(self.data))
        self.count = 0

    def next(self, start: int) -> int:
        """The lowest set bit that is at least `start`, or -1."""
        if self.count == 0 or start >= self.size:
            return -1
        data = self.data
        index = start >> 3
        value = data[index] >> (start & 7)
        if value:
            return start + (value & -value).bit_length() - 1
        for place in range(index + 1, len(data), _CHUNK_BYTES):
            chunk = data[place : place + _CHUNK_BYTES]
            if chunk != _NONE[: len(chunk)]:
                value = _integer(chunk)
                return (place << 3) + (value & -value).bit_length() - 1
        return -1


def _integer(chunk: bytes | bytearray) -> int:
    return int.from_bytes(chunk, "little")


def _bytes(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _weight(chunk: bytes | bytearray) -> int:
    """How many bits are set."""
    if chunk == _ALL:
        return 8 * _CHUNK_BYTES
    return 0 if chunk == _NONE[: len(chunk)] else _integer(chunk).bit_count()
