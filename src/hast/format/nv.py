"""Name-value lists: the serialisation under every message and under the metadata block (specification section 2).

Turns fields into bytes and back. Knows no message: which names and types a message has is the business of the modules
that use this one. May not do I/O or keep state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Literal, TypeAlias, overload

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_NAME_BYTES = 254
HEAD = struct.Struct("<BBI")
"""Type (bit 7: written in host order), name length with its NUL, data length without padding."""


class NvError(ValueError):
    """Bytes that are no valid list, or a value that its type cannot hold."""


class NvType(IntEnum):
    """Type codes. An array's elements are little-endian; a string ends in its only NUL."""

    INT8 = 1
    UINT8 = 2
    INT16 = 3
    UINT16 = 4
    INT32 = 5
    UINT32 = 6
    INT64 = 7
    UINT64 = 8
    INT8_ARRAY = 9
    UINT8_ARRAY = 10
    INT16_ARRAY = 11
    UINT16_ARRAY = 12
    INT32_ARRAY = 13
    UINT32_ARRAY = 14
    INT64_ARRAY = 15
    UINT64_ARRAY = 16
    STRING = 17


Value: TypeAlias = int | bytes | str | tuple[int, ...]
"""int for the eight integer types, bytes for UINT8_ARRAY, str for STRING, a tuple for the other arrays."""

Field: TypeAlias = tuple[str, NvType, Value]

IntegerType: TypeAlias = Literal[
    NvType.INT8,
    NvType.UINT8,
    NvType.INT16,
    NvType.UINT16,
    NvType.INT32,
    NvType.UINT32,
    NvType.INT64,
    NvType.UINT64,
]

STRUCT_CODES = {
    NvType.INT8: "b",
    NvType.UINT8: "B",
    NvType.INT16: "h",
    NvType.UINT16: "H",
    NvType.INT32: "i",
    NvType.UINT32: "I",
    NvType.INT64: "q",
    NvType.UINT64: "Q",
}
_SCALARS = {kind: struct.Struct(f"<{code}") for kind, code in STRUCT_CODES.items()}
_ARRAY_ELEMENTS = {NvType(kind + 8): code for kind, code in STRUCT_CODES.items()}


def padded(size: int) -> int:
    """`size` rounded up to a multiple of eight."""
    return (size + 7) & ~7


def i8(name: str, value: int) -> Field:
    return name, NvType.INT8, value


def u8(name: str, value: int) -> Field:
    return name, NvType.UINT8, value


def i16(name: str, value: int) -> Field:
    return name, NvType.INT16, value


def i32(name: str, value: int) -> Field:
    return name, NvType.INT32, value


def u32(name: str, value: int) -> Field:
    return name, NvType.UINT32, value


def i64(name: str, value: int) -> Field:
    return name, NvType.INT64, value


def u64(name: str, value: int) -> Field:
    return name, NvType.UINT64, value


def u8s(name: str, value: bytes) -> Field:
    return name, NvType.UINT8_ARRAY, value


def string(name: str, value: str) -> Field:
    return name, NvType.STRING, value


class Nv:
    """A decoded list. Duplicate names are legal: the first one counts. A field of another type counts as missing."""

    __slots__ = ("_first", "fields", "size_bytes")

    def __init__(self, fields: list[Field], size_bytes: int) -> None:
        self.fields = fields
        self.size_bytes = size_bytes
        """Bytes of the elements, without what was dropped as padding after the last one."""
        self._first: dict[str, Field] = {}
        for field in fields:
            self._first.setdefault(field[0], field)

    @overload
    def get(self, name: str, kind: Literal[NvType.STRING]) -> str | None: ...
    @overload
    def get(self, name: str, kind: Literal[NvType.UINT8_ARRAY]) -> bytes | None: ...
    @overload
    def get(self, name: str, kind: IntegerType) -> int | None: ...
    @overload
    def get(self, name: str, kind: NvType) -> Value | None: ...

    def get(self, name: str, kind: NvType) -> Value | None:
        """The value of the first field of that name, or None when there is none or it has another type."""
        field = self._first.get(name)
        return field[2] if field is not None and field[1] == kind else None

    def __contains__(self, name: str) -> bool:
        return name in self._first

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __repr__(self) -> str:
        return f"Nv({', '.join(f'{name}={value!r}' for name, _, value in self.fields)})"


def encode(fields: Iterable[Field]) -> bytes:
    """The list as bytes, padding zero. Raises NvError for a value or name that cannot be sent."""
    return b"".join([encode_field(*field) for field in fields])


def encode_field(name: str, kind: NvType, value: Value) -> bytes:
    """One element. Raises NvError."""
    raw = name.encode("utf-8", "surrogateescape")
    if not raw or len(raw) > MAX_NAME_BYTES or 0 in raw:
        raise NvError(f"{name!r} cannot be the name of a field")
    data = _encode_value(name, kind, value)
    return b"".join(
        (
            HEAD.pack(kind, len(raw) + 1, len(data)),
            raw.ljust(padded(len(raw) + 1), b"\0"),
            data.ljust(padded(len(data)), b"\0"),
        )
    )


def _encode_value(name: str, kind: NvType, value: Value) -> bytes:
    try:
        if kind in _SCALARS:
            return _SCALARS[kind].pack(value)
        if kind == NvType.STRING and isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            if 0 in data:
                raise NvError(f"field {name}: a string may not contain NUL")
            return data + b"\0"
        if kind == NvType.UINT8_ARRAY and isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
        elif kind in _ARRAY_ELEMENTS and isinstance(value, tuple):
            data = struct.pack(f"<{len(value)}{_ARRAY_ELEMENTS[kind]}", *value)
        else:
            raise NvError(f"field {name}: {type(value).__name__} is no value for {kind.name}")
    except (struct.error, UnicodeEncodeError) as error:
        raise NvError(f"field {name}: {value!r} does not fit {kind.name}: {error}") from None
    if not data:
        raise NvError(f"field {name}: an empty array cannot be sent")
    return data


def decode(buffer: Buffer) -> Nv:
    """Read a list that fills `buffer`; a zero byte where an element would start ends it. Raises NvError.

    Name and value padding are not looked at: the reference leaves garbage in the former.
    """
    data = bytes(buffer)
    fields: list[Field] = []
    position = 0
    end = len(data)
    while position < end and data[position] != 0:
        if end - position < 8:
            raise NvError(f"{end - position} bytes left at byte {position}, too few for a field")
        code, name_size, data_size = HEAD.unpack_from(data, position)
        value_at = position + HEAD.size + padded(name_size)
        next_at = value_at + padded(data_size)
        if next_at > end:
            raise NvError(f"field at byte {position} reaches {next_at - end} bytes beyond the end")
        name = data[position + HEAD.size : position + HEAD.size + name_size]
        if name_size < 2 or name.find(0) != name_size - 1:
            raise NvError(f"field at byte {position} has a bad name")
        fields.append(_decode_field(name[:-1], code & 0x7F, data[value_at : value_at + data_size]))
        position = next_at
    return Nv(fields, position)


def _decode_field(raw_name: bytes, code: int, data: bytes) -> Field:
    name = raw_name.decode("utf-8", "surrogateescape")
    if not data:
        raise NvError(f"field {name!r} is empty")
    scalar = _SCALARS.get(code)  # type: ignore[call-overload]
    if scalar is not None:
        if len(data) != scalar.size:
            raise NvError(f"field {name!r}: {len(data)} bytes for a {NvType(code).name}")
        return name, NvType(code), scalar.unpack(data)[0]
    if code == NvType.STRING:
        if data.find(0) != len(data) - 1:
            raise NvError(f"field {name!r}: a string must end in its only NUL")
        return name, NvType.STRING, data[:-1].decode("utf-8", "surrogateescape")
    if code == NvType.UINT8_ARRAY:
        return name, NvType.UINT8_ARRAY, data
    element = _ARRAY_ELEMENTS.get(code)  # type: ignore[call-overload]
    if element is None:
        raise NvError(f"field {name!r} has unknown type {code}")
    count, rest = divmod(len(data), struct.calcsize(f"<{element}"))
    if rest:
        raise NvError(f"field {name!r}: {len(data)} bytes are no whole elements of {NvType(code).name}")
    return name, NvType(code), struct.unpack(f"<{count}{element}", data)
