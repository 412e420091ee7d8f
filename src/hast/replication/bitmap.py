"""A set of small integers as bits, least significant bit first: the form the activemap has on disk (section 6.2)."""

from __future__ import annotations

from collections.abc import Iterator

_SCAN_BYTES = 4096
_ZEROS = bytes(_SCAN_BYTES)
_FEW_BITS = 64
"""Up to so many bits are handled one by one; more are handled with the map as one integer."""


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
        bit = self.next(0)
        while bit >= 0:
            yield bit
            bit = self.next(bit + 1)

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
        length = len(self.data)
        value = int.from_bytes(image[:length], "little") & ((1 << self.size) - 1)
        value |= int.from_bytes(self.data, "little")
        self._load(value)

    def unite(self, other: Bitmap) -> None:
        """Set every bit that is set in `other`, a map of the same size."""
        if other.count > _FEW_BITS:
            self._load(int.from_bytes(self.data, "little") | int.from_bytes(other.data, "little"))
        else:
            for bit in other:
                self.add(bit)

    def unite_but(self, other: Bitmap, excepted: Bitmap) -> None:
        """Set every bit that is set in `other` and clear in `excepted`, maps of the same size."""
        more = other.copy()
        more.subtract(excepted)
        self.unite(more)

    def subtract(self, other: Bitmap) -> None:
        """Clear every bit that is set in `other`, a map of the same size."""
        if other.count > _FEW_BITS:
            self._load(int.from_bytes(self.data, "little") & ~int.from_bytes(other.data, "little"))
        else:
            for bit in other:
                self.discard(bit)

    def intersect(self, other: Bitmap) -> None:
        """Clear every bit that is clear in `other`, a map of the same size."""
        self._load(int.from_bytes(self.data, "little") & int.from_bytes(other.data, "little"))

    def last(self) -> int:
        """The highest set bit, or -1."""
        return int.from_bytes(self.data, "little").bit_length() - 1

    def fill(self) -> None:
        """Set every bit."""
        self._load((1 << self.size) - 1)

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
        index += 1
        length = len(data)
        while index < length:
            chunk = data[index : index + _SCAN_BYTES]
            if chunk != _ZEROS[: len(chunk)]:
                value = int.from_bytes(chunk, "little")
                return (index << 3) + (value & -value).bit_length() - 1
            index += _SCAN_BYTES
        return -1

    def _load(self, value: int) -> None:
        self.data = bytearray(value.to_bytes(len(self.data), "little"))
        self.count = value.bit_count()
