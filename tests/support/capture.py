"""Recorded conversations of genuine peers, read from the shared material (see its INDEX.md)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hast.format import frame, nv


@dataclass
class Message:
    """One recorded message; `raw` is all of it as it was on the wire."""

    connection: str
    to_secondary: bool
    version: int
    fields: dict[str, Any]
    raw: bytes
    data: bytes
    """The data block, decompressed."""


@dataclass
class Session:
    """The messages of one pair of connections."""

    initiator: str
    number: int
    messages: list[Message] = field(default_factory=list)

    def sent(self, connection: str, to_secondary: bool) -> list[Message]:
        return [m for m in self.messages if (m.connection, m.to_secondary) == (connection, to_secondary)]

    @property
    def requests(self) -> list[Message]:
        return self.sent("A", True)[1:]

    @property
    def replies(self) -> list[Message]:
        return self.sent("B", False)


class Scenario:
    """One directory of the captures."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with (directory / "conv.jsonl").open() as file:
            self.lines: list[dict[str, Any]] = [json.loads(line) for line in file]

    def after(self, mark: str) -> list[dict[str, Any]]:
        index = next(i for i, line in enumerate(self.lines) if line.get("mark") == mark)
        return self.lines[index + 1 :]

    def sessions(self, mark: str = "snapshot before") -> list[Session]:
        """The sessions that began after a mark and got as far as message 3, in order."""
        found: dict[tuple[str, int], Session] = {}
        opened: set[tuple[str, int]] = set()
        for line in self.after(mark):
            if "conn" not in line:
                continue
            key = line["init"], line["sess"]
            if line.get("event") == "open" and line["conn"] == "A":
                opened.add(key)
            if "fields" in line and key in opened and line.get("delivered", True):
                session = found.setdefault(key, Session(*key))
                session.messages.append(_message(line))
        return [session for session in found.values() if session.sent("B", True)]

    def image(self, node: str, label: str) -> bytes:
        return gzip.decompress((self.directory / f"{node}.img.{label}.gz").read_bytes())

    def settings(self, node: str) -> dict[str, str]:
        """The statements of one word and one value in a node's configuration."""
        words = (self.directory / f"{node}.conf").read_text().split()
        return {name: words[words.index(name) + 1] for name in ("replication", "checksum", "compression", "timeout")}


def _message(line: dict[str, Any]) -> Message:
    raw = bytes.fromhex(line["hex"])
    for chunk, count in line.get("data_rle", ()):
        raw += bytes.fromhex(chunk) * count
    decoder = frame.FrameDecoder(65536, 4 * 1024 * 1024)
    decoder.feed(raw)
    try:
        message = decoder.next()
    except frame.FrameError:
        message = None
    data = bytes(message.data) if message is not None and message.data is not None else b""
    values = {name: value for name, _kind, value in line["fields"]}
    return Message(line["conn"], line["dir"] == "P>S", line["ver"], values, raw, data)


def body(message: Message) -> bytes:
    """The name-value part of a message."""
    _version, size = frame.HEADER.unpack_from(message.raw)
    return message.raw[frame.HEADER_BYTES : frame.HEADER_BYTES + size]


def values(fields: nv.Nv) -> dict[str, Any]:
    """Fields as they stand in a recording: arrays in hex."""
    return {f[0]: f[2].hex() if isinstance(f[2], bytes) else f[2] for f in fields.fields}


def pattern(offset: int, length: int, kind: Any) -> bytes:
    """The data of a recorded client write."""
    if kind == "rnd":
        blocks: Iterator[bytes] = (hashlib.sha256(f"rnd:{n}".encode()).digest() for n in range(length // 32 + 1))
        return b"".join(blocks)[:length]
    if kind == 0:
        return bytes(length)
    sectors = range(offset // 512, (offset + length) // 512)
    return b"".join(bytes([(sector + kind) % 255 + 1]) * 512 for sector in sectors)
