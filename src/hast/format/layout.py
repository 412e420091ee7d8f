"""Bodies whose names, types and lengths are known beforehand, read with one precompiled struct.

For the hot path: a layout recognises exactly the bytes that the general codec (nv.py) would read as the same fields in
the same order, whatever the name padding holds, and says no to everything else. No I/O, no state.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hast.format.nv import HEAD, STRUCT_CODES, Field, NvType, encode_field, padded


class Layout:
    """A body of `fields` in this order; the values given count only for their length, and for strings, exactly."""

    __slots__ = ("_constant_parts", "_constants", "_struct", "_value_parts", "size")

    def __init__(self, fields: Sequence[Field]) -> None:
        formats: list[str] = []
        constants: list[tuple[int, bytes]] = []
        values: list[int] = []

        def part(code: str, padding: int) -> int:
            formats.append(f"{code}{padding}x" if padding else code)
            return len(formats) - 1

        for name, kind, value in fields:
            encoded = encode_field(name, kind, value)
            name_end = HEAD.size + len(name) + 1
            data_at = HEAD.size + padded(len(name) + 1)
            data_size = HEAD.unpack_from(encoded)[2]
            constants.append((part(f"{name_end}s", data_at - name_end), encoded[:name_end]))
            padding = padded(data_size) - data_size
            if kind == NvType.STRING:
                constants.append((part(f"{data_size}s", padding), encoded[data_at : data_at + data_size]))
            else:
                values.append(part(STRUCT_CODES.get(kind, f"{data_size}s"), padding))
        self._struct = struct.Struct("<" + "".join(formats))
        self.size = self._struct.size
        self._constant_parts: Callable[[Any], Any] = operator.itemgetter(*[index for index, _ in constants])
        constant_bytes = tuple(constant for _, constant in constants)
        self._constants: Any = constant_bytes if len(constant_bytes) > 1 else constant_bytes[0]
        self._value_parts: Callable[[Any], Any] = operator.itemgetter(*values)

    def read(self, buffer: Any, at: int) -> Any:
        """The values (a tuple; the value itself if there is one only), or None for any other body of this size."""
        parts = self._struct.unpack_from(buffer, at)
        if self._constant_parts(parts) == self._constants:
            return self._value_parts(parts)
        return None
