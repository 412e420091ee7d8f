"""Where things lie on a provider, and sizes as people write and read them (specification sections 6.1, 9.1, 9.4).

Bytes [0, 4096) metadata, [4096, offset) activemap, [offset, offset + datasize) data area. No I/O, no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hast.format.constants import METADATA_SIZE_BYTES

MIN_SECTOR_SIZE_BYTES = 512
MAX_SIZE_BYTES = (1 << 63) - 1

_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(?:([bkmgtpeBKMGTPE]).*)?", re.DOTALL)
_SHIFTS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_PREFIXES = ("", "K", "M", "G", "T", "P", "E")


class GeometryError(ValueError):
    """Sizes that make no resource; the text is what `hastctl create` says."""


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def extent_count(area_bytes: int, extentsize_bytes: int) -> int:
    """Extents that cover `area_bytes`; the last one may be short."""
    return -(-area_bytes // extentsize_bytes)


def bitmap_size_bytes(extents: int) -> int:
    """Bytes of a bitmap in memory: one bit an extent, rounded up to 64 bits."""
    return (extents + 63) // 64 * 8


def map_size_bytes(area_bytes: int, extentsize_bytes: int, sectorsize_bytes: int) -> int:
    """Bytes of the activemap on disk: the bitmap rounded up to whole sectors."""
    bitmap = bitmap_size_bytes(extent_count(area_bytes, extentsize_bytes))
    return -(-bitmap // sectorsize_bytes) * sectorsize_bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """The layout that `create` gives a provider of `mediasize_bytes`. Raises GeometryError."""

    mediasize_bytes: int
    extentsize_bytes: int
    sectorsize_bytes: int

    def __post_init__(self) -> None:
        extent, sector = self.extentsize_bytes, self.sectorsize_bytes
        if not is_power_of_two(sector) or sector < MIN_SECTOR_SIZE_BYTES:
            raise GeometryError(f"Sector size ({sector}) is not a power of two of at least {MIN_SECTOR_SIZE_BYTES}.")
        if extent < sector:
            raise GeometryError(f"Extent size ({extent}) is less than sector size ({sector}).")
        if extent % sector != 0:
            raise GeometryError(f"Extent size ({extent}) is not multiple of sector size ({sector}).")
        if not is_power_of_two(extent):
            raise GeometryError(f"Extent size ({extent}) is not a power of two.")
        if self.mediasize_bytes > MAX_SIZE_BYTES:
            raise GeometryError(f"Provided mediasize ({self.mediasize_bytes}) is larger than {MAX_SIZE_BYTES}.")
        if self.mediasize_bytes <= METADATA_SIZE_BYTES or self.datasize_bytes < sector:
            raise GeometryError(f"Provided mediasize ({self.mediasize_bytes}) leaves no room for data.")

    @property
    def map_size_bytes(self) -> int:
        area_bytes = self.mediasize_bytes - METADATA_SIZE_BYTES
        return map_size_bytes(area_bytes, self.extentsize_bytes, self.sectorsize_bytes)

    @property
    def offset_bytes(self) -> int:
        """Where the data area begins (`localoff`)."""
        return METADATA_SIZE_BYTES + self.map_size_bytes

    @property
    def datasize_bytes(self) -> int:
        return self.mediasize_bytes - self.offset_bytes


def mediasize_for(datasize_bytes: int, extentsize_bytes: int, sectorsize_bytes: int) -> int:
    """How large a provider has to be for exactly this data area. Raises GeometryError."""
    size_bytes = datasize_bytes + METADATA_SIZE_BYTES
    while (missing := datasize_bytes - Geometry(size_bytes, extentsize_bytes, sectorsize_bytes).datasize_bytes) > 0:
        size_bytes += missing
    return size_bytes


def human_size(size_bytes: int) -> str:
    """`size_bytes` as status, list and dump show it: 0B, 999B, 1.0KB, 9.8KB, 10KB, 977KB (section 9.4)."""
    value, rest, divisions = size_bytes, 0, 0
    while divisions < len(_PREFIXES) - 1 and (value > 999 or (value == 999 and rest >= 512)):
        value, rest = divmod(value, 1024)
        divisions += 1
    prefix = _PREFIXES[divisions]
    if divisions and (value < 9 or (value == 9 and rest < 973)):
        tenths = (value * 1024 + rest) * 10 + 512 >> 10
        return f"{tenths // 10}.{tenths % 10}{prefix}B"
    return f"{value + (rest >= 512)}{prefix}B"


def parse_size(text: str) -> int:
    """Bytes of a C integer (decimal, 0x hex, 0 octal) with an optional suffix b k m g t p e, powers of 1024.

    Only the first letter of the suffix counts, so 2MB is 2m. Raises ValueError with one line.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write a number with an optional suffix k, m, g, t, p or e")
    digits, suffix = match.groups()
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
    size = int(digits, base) << _SHIFTS[(suffix or "b").lower()]
    if size > MAX_SIZE_BYTES:
        raise ValueError(f"{text!r} is larger than {MAX_SIZE_BYTES} bytes")
    return size
