"""The metadata block: 4096 bytes at the start of a provider (specification section 7.2) and our extra fields.

After the reference's nine fields come ours, which the reference ignores and loses at its next write: `flags` (u32),
`bootid` (u8[16], absent until the copy was primary), `aheadsince` (u64, absent while 0) and, last of all, `crc` (u32),
the CRC-32 of every byte before the element `crc`. A block without them is the reference's. No I/O, no state.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntFlag

from hast.format import nv
from hast.format.constants import METADATA_SIZE_BYTES, Role
from hast.format.geometry import MAX_SIZE_BYTES, is_power_of_two
from hast.format.nv import Buffer, IntegerType, Nv, NvError, NvType

SECTOR_BYTES = 512
"""The block is written in one piece; all that is not zero lies in one sector for names of usual length."""
MAX_NAME_BYTES_IN_SECTOR = 151
BOOT_ID_BYTES = 16


class Flag(IntFlag):
    """Bits of `flags`; see Metadata."""

    INCONSISTENT = 1
    STALE = 2
    DISCARD = 4
    UNFLUSHED = 8


class MetadataError(ValueError):
    """A block that holds no usable metadata. `str()` is the reason, without the path.

    `missing`: there is a list, but a field is not there or makes no sense, as on a provider that was never created.
    """

    def __init__(self, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing

    def describe(self, path: str) -> str:
        """The line for the operator, beginning as in section 7.2."""
        if self.missing:
            return f"Unable to read metadata from {path}: {self}."
        return f"Metadata read from {path} is invalid: {self}."


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata block (section 7.2) and our extra fields, as values.

    `inconsistent`: a sync into this copy has begun and not ended (S7). `stale`: this copy missed acknowledged writes
    (S6). Both live in extra fields that the reference daemon ignores.
    """

    resource: str
    datasize_bytes: int
    extentsize_bytes: int
    keepdirty: int
    offset_bytes: int
    resuid: int = 0
    localcnt: int = 0
    remotecnt: int = 0
    prevrole: str = "init"
    inconsistent: bool = False
    stale: bool = False
    boot_id: bytes = b""
    """Which boot of this host's kernel last used the copy as primary: another one means that its cache was lost."""
    ahead_since_s: int = 0
    """When this copy first took writes that the other lacks, in seconds since 1970; 0 when it holds none."""
    discard: bool = False
    """The operator's order: at the next split brain the changes of this copy are thrown away."""
    unflushed: bool = False
    """A flush of this copy failed (S2): a read may show what the medium lacks, until it is written again."""


_ROLES = frozenset(Role)
_CRC_ELEMENT_BYTES = len(nv.encode([nv.u32("crc", 0)]))


def encode(metadata: Metadata) -> bytes:
    """The block, METADATA_SIZE_BYTES long. Raises NvError for values that the fields cannot hold."""
    flags = sum(flag for flag, is_set in zip(Flag, _flags_of(metadata), strict=True) if is_set)
    body = nv.encode(
        [
            nv.string("resource", metadata.resource),
            nv.u64("datasize", metadata.datasize_bytes),
            nv.u32("extentsize", metadata.extentsize_bytes),
            nv.u32("keepdirty", metadata.keepdirty),
            nv.u64("offset", metadata.offset_bytes),
            nv.u64("resuid", metadata.resuid),
            nv.u64("localcnt", metadata.localcnt),
            nv.u64("remotecnt", metadata.remotecnt),
            nv.string("prevrole", metadata.prevrole),
            nv.u32("flags", flags),
            *([nv.u8s("bootid", metadata.boot_id)] if metadata.boot_id else []),
            *([nv.u64("aheadsince", metadata.ahead_since_s)] if metadata.ahead_since_s else []),
        ]
    )
    body += nv.encode([nv.u32("crc", zlib.crc32(body))])
    name = metadata.resource.encode("utf-8", "surrogateescape")
    if len(name) <= MAX_NAME_BYTES_IN_SECTOR and metadata.prevrole in _ROLES:
        assert len(body) <= SECTOR_BYTES, "metadata has outgrown one sector"
    if len(body) > METADATA_SIZE_BYTES:
        raise NvError(f"metadata of {len(body)} bytes, at most {METADATA_SIZE_BYTES} fit")
    return body.ljust(METADATA_SIZE_BYTES, b"\0")


def decode(block: Buffer) -> Metadata:
    """Read a block. Raises MetadataError."""
    block = bytes(block)
    try:
        fields = nv.decode(block)
    except NvError as error:
        raise MetadataError(str(error)) from None
    if block.count(0, fields.size_bytes) != len(block) - fields.size_bytes:
        raise MetadataError(f"there are bytes that are not zero behind the last field at byte {fields.size_bytes}")
    flags = _check_extra_fields(fields, block)
    metadata = Metadata(
        resource=_string(fields, "resource"),
        datasize_bytes=_number(fields, "datasize", NvType.UINT64),
        extentsize_bytes=_number(fields, "extentsize", NvType.UINT32),
        keepdirty=_number(fields, "keepdirty", NvType.UINT32),
        offset_bytes=_number(fields, "offset", NvType.UINT64),
        resuid=_number(fields, "resuid", NvType.UINT64),
        localcnt=_number(fields, "localcnt", NvType.UINT64),
        remotecnt=_number(fields, "remotecnt", NvType.UINT64),
        prevrole=_string(fields, "prevrole"),
        inconsistent=bool(flags & Flag.INCONSISTENT),
        stale=bool(flags & Flag.STALE),
        boot_id=bytes(fields.get("bootid", NvType.UINT8_ARRAY) or b""),
        ahead_since_s=fields.get("aheadsince", NvType.UINT64) or 0,
        discard=bool(flags & Flag.DISCARD),
        unflushed=bool(flags & Flag.UNFLUSHED),
    )
    _check_sizes(metadata)
    return metadata


def _flags_of(metadata: Metadata) -> tuple[bool, bool, bool, bool]:
    """In the order of `Flag`."""
    return metadata.inconsistent, metadata.stale, metadata.discard, metadata.unflushed


def _check_extra_fields(fields: Nv, block: bytes) -> int:
    """The flags, after checking the crc; 0 for a block of the reference's."""
    flags = fields.get("flags", NvType.UINT32)
    crc = fields.get("crc", NvType.UINT32)
    if crc is None and "flags" not in fields and "crc" not in fields:
        return 0
    if flags is None or crc is None or fields.fields[-1][0] != "crc":
        raise MetadataError("the fields flags and crc are damaged")
    if zlib.crc32(block[: fields.size_bytes - _CRC_ELEMENT_BYTES]) != crc:
        raise MetadataError("the checksum does not match")
    return flags


def _number(fields: Nv, name: str, kind: IntegerType) -> int:
    value = fields.get(name, kind)
    if value is None:
        raise MetadataError(f"field {name} is missing", missing=True)
    return value


def _string(fields: Nv, name: str) -> str:
    value = fields.get(name, NvType.STRING)
    if value is None:
        raise MetadataError(f"field {name} is missing", missing=True)
    return value


def _check_sizes(metadata: Metadata) -> None:
    if not is_power_of_two(metadata.extentsize_bytes):
        raise MetadataError(f"extentsize {metadata.extentsize_bytes} is not a power of two")
    if metadata.offset_bytes <= METADATA_SIZE_BYTES:
        raise MetadataError(f"offset {metadata.offset_bytes} leaves no room for the activemap")
    if metadata.datasize_bytes == 0 or metadata.offset_bytes + metadata.datasize_bytes > MAX_SIZE_BYTES:
        raise MetadataError(f"datasize {metadata.datasize_bytes} is out of range")
