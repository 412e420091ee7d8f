"""Recorded conversations of genuine peers: every message read, and written again with the same fields and data."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from handmade import joined, without_name_padding

from hast.format import frame, metadata
from hast.format.constants import Checksum, Compression
from hast.format.frame import FrameDecoder, FrameError
from hast.format.handshake import (
    HandshakeError,
    Hello,
    HelloReply,
    SecondHello,
    SecondReply,
    read_first,
    read_hello_reply,
    read_second_reply,
)
from hast.format.metadata import Metadata
from hast.format.nv import NvType
from hast.format.reply import ReplyDecoder, encode_replies
from hast.format.request import RequestDecoder, encode_requests

TYPES = {
    "int8": NvType.INT8,
    "uint8": NvType.UINT8,
    "int16": NvType.INT16,
    "int32": NvType.INT32,
    "uint32": NvType.UINT32,
    "int64": NvType.INT64,
    "uint64": NvType.UINT64,
    "uint8_array": NvType.UINT8_ARRAY,
    "string": NvType.STRING,
}
DATA_FIELDS = {"compression", "checksum", "hash", "size"}
Message = dict[str, Any]


def names(message: Message) -> set[str]:
    return {field[0] for field in message["fields"]}


def is_readable(message: Message) -> bool:
    """False for the hand-made messages of the synthetic probe whose frame is broken on purpose."""
    fields = {name: value for name, _type, value in message["fields"]}
    bad_hash = fields.get("hash") == "01020304" or fields.get("checksum") == "md5"
    return bool(message["ver"] <= 2 and not bad_hash and fields.get("compression") != "zstd")


def algorithms(message: Message) -> tuple[Checksum, Compression]:
    fields = {name: value for name, _type, value in message["fields"]}
    return Checksum(fields.get("checksum", "none")), Compression(fields.get("compression", "none"))


def read(message: Message) -> frame.Frame:
    decoder = FrameDecoder(1 << 16, 1 << 20)
    decoder.feed(message["wire"])
    result = decoder.next()
    assert result is not None
    assert decoder.buffered_bytes == 0
    return result


def same_message(written: bytes, message: Message) -> bool:
    """Equal but for name padding; another lzf encoder may write another stream of the same data."""
    if algorithms(message)[1] == Compression.LZF:
        again = read({**message, "wire": written})
        kinds = [(name, kind) for name, kind, _ in again.nv]
        assert again.data is not None
        digest = hashlib.sha256(again.data).hexdigest()
        return kinds == [(n, TYPES[t]) for n, t, _ in message["fields"]] and digest == message["plain_sha256"]
    return without_name_padding(written) == without_name_padding(message["wire"])


@pytest.fixture(scope="session")
def readable(recorded: list[Message]) -> list[Message]:
    return [message for message in recorded if is_readable(message)]


def test_there_is_something_to_read(recorded: list[Message], readable: list[Message]) -> None:
    assert len(recorded) > 500
    assert 0 < len(recorded) - len(readable) < 10


def test_fields_and_data_are_read_as_the_recorder_read_them(readable: list[Message]) -> None:
    for message in readable:
        result = read(message)
        expected = [
            (name, TYPES[kind], bytes.fromhex(value) if kind == "uint8_array" else value)
            for name, kind, value in message["fields"]
        ]
        assert result.version == message["ver"]
        assert result.nv.fields == expected
        if result.data is None:
            assert message["data_len"] == 0
        else:
            digest = message.get("plain_sha256") or message["data_sha256"]
            assert hashlib.sha256(result.data).hexdigest() == digest


def test_broken_messages_are_refused(recorded: list[Message]) -> None:
    for message in recorded:
        if not is_readable(message):
            with pytest.raises(FrameError):
                read(message)


def test_messages_are_written_again_as_they_were(readable: list[Message]) -> None:
    for message in readable:
        result = read(message)
        fields = [field for field in result.nv if field[0] not in DATA_FIELDS]
        written = joined(frame.encode(result.version, fields, result.data, *algorithms(message)))
        assert same_message(written, message)


def test_requests_are_written_again_as_they_were(readable: list[Message]) -> None:
    count = 0
    for message in readable:
        if message["conn"] != "A" or message["dir"] != "P>S" or "cmd" not in names(message):
            continue
        wire = message["wire"]
        (request,), consumed = RequestDecoder(1 << 20).decode(memoryview(wire), 0, len(wire))
        assert consumed == len(wire)
        complete = request[0] in (1, 2, 3, 4) and {"seq", "offset", "length"} <= names(message)
        if request[0] == 5 or (complete and (request[0] != 2 or request[4] is not None)):
            written = joined(encode_requests([request], message["ver"], *algorithms(message)))
            assert same_message(written, message)
            count += 1
    assert count > 250


def test_replies_are_written_again_as_they_were(readable: list[Message]) -> None:
    count = 0
    for message in readable:
        if message["conn"] != "B" or message["dir"] != "S>P" or "errmsg" in names(message):
            continue
        wire = message["wire"]
        (reply,), consumed = ReplyDecoder(1 << 20).decode(memoryview(wire), 0, len(wire))
        assert consumed == len(wire)
        assert same_message(joined(encode_replies([reply], message["ver"], *algorithms(message))), message)
        count += 1
    assert count > 250


def test_whole_streams_are_cut_into_the_messages_that_were_recorded(readable: list[Message]) -> None:
    wire = b"".join(m["wire"] for m in readable if m["conn"] == "A" and m["dir"] == "P>S" and "cmd" in names(m))
    decoder = RequestDecoder(1 << 20)
    view = memoryview(wire)
    position = count = 0
    end = 0
    while position < len(wire):
        end = min(len(wire), max(end + 4096, position + decoder.needed))
        requests, consumed = decoder.decode(view, position, end)
        position += consumed
        count += len(requests)
    assert count == sum(1 for m in readable if m["conn"] == "A" and m["dir"] == "P>S" and "cmd" in names(m))


def test_handshakes_are_written_again_as_they_were(readable: list[Message]) -> None:
    seen = set()
    for message in readable:
        value: Hello | HelloReply | SecondHello | SecondReply
        bitmap: bytes | None = None
        result = read(message)
        try:
            if message["dir"] == "P>S" and "cmd" not in names(message):
                value = read_first(result.nv)
            elif message["conn"] == "A" and message["dir"] == "S>P" and "datasize" in names(message):
                value = read_second_reply(result.nv, result.data)
                bitmap = value.bitmap
            elif message["conn"] == "A" and message["dir"] == "S>P":
                value = read_hello_reply(result.nv)
            else:
                continue
        except HandshakeError:
            assert message["scenario"].startswith("11-")
            continue
        if "cmd" in names(message) or ("resource" in names(message) and not names(message) & {"version", "token"}):
            continue
        written = joined(frame.encode(message["ver"], value.fields(), bitmap, *algorithms(message)))
        assert same_message(written, message)
        seen.add(type(value))
    assert seen == {Hello, HelloReply, SecondHello, SecondReply}


def test_metadata_of_the_genuine_nodes_is_read(shared_compat: Path) -> None:
    states = sorted((shared_compat / "captures").glob("*/state.*.json"))
    assert len(states) > 20
    for path in states:
        label = path.name.removeprefix("state.").removesuffix(".json")
        for node, state in json.loads(path.read_text()).items():
            block_path = path.parent / f"{node}.meta.{label}.hex"
            if block_path.exists():
                value = metadata.decode(bytes.fromhex("".join(block_path.read_text().split()))[:4096])
                assert value == metadata_of({name: field for name, _, field in state["metadata"]})


def metadata_of(fields: dict[str, Any]) -> Metadata:
    return Metadata(
        resource=fields["resource"],
        datasize_bytes=fields["datasize"],
        extentsize_bytes=fields["extentsize"],
        keepdirty=fields["keepdirty"],
        offset_bytes=fields["offset"],
        resuid=fields["resuid"],
        localcnt=fields["localcnt"],
        remotecnt=fields["remotecnt"],
        prevrole=fields["prevrole"],
    )
