"""Messages 1 to 4: vectors, our extra fields, refusals, and what is not a handshake."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector, joined

from hast.format import frame, nv
from hast.format.constants import OUR_FEATURES, SPLIT_BRAIN_TEXT, Compression, SyncSource
from hast.format.frame import FrameDecoder
from hast.format.handshake import (
    HandshakeError,
    Hello,
    HelloReply,
    SecondHello,
    SecondReply,
    read_first,
    read_hello_reply,
    read_second_reply,
    refusal,
)
from hast.format.nv import Field, Nv

TOKEN = bytes(range(0xA0, 0xB0))
RESUID = 0x1122334455667788
DATASIZE, EXTENTSIZE = 1073737216, 2 << 20
BOOT_ID = bytes(range(16))
U64 = st.integers(0, 2**64 - 1)


def read(wire: bytes) -> frame.Frame:
    decoder = FrameDecoder(1 << 16, 1 << 16)
    decoder.feed(wire)
    message = decoder.next()
    assert message is not None
    return message


def fields(*values: Field) -> Nv:
    return nv.decode(nv.encode(values))


DIRTY = bytes([0b101, 0, 0, 0, 0, 0, 0, 0x80]) + bytes(504)
ANSWER = SecondReply(DATASIZE, EXTENTSIZE, syncsrc=SyncSource.PRIMARY)
FIRST_MESSAGES = {
    "01": (1, Hello("shared")),
    "03": (2, SecondHello("shared", TOKEN, RESUID, 0, 0, virgin=True)),
    "04": (2, SecondHello("shared", TOKEN, RESUID, 1, 0)),
}
SECOND_REPLIES = {
    "05": SecondReply(DATASIZE, EXTENTSIZE, syncsrc=SyncSource.PRIMARY, virgin=True),
    "06": SecondReply(DATASIZE, EXTENTSIZE, syncsrc=SyncSource.PRIMARY, mapsize_bytes=512, bitmap=bytes(512)),
    "07": SecondReply(DATASIZE, EXTENTSIZE, localcnt=1, syncsrc=SyncSource.SECONDARY, mapsize_bytes=512, bitmap=DIRTY),
    "08": SecondReply(DATASIZE, EXTENTSIZE, localcnt=1, errmsg=SPLIT_BRAIN_TEXT),
}


@pytest.mark.parametrize("number", FIRST_MESSAGES)
def test_first_messages_of_the_vectors(vector: Vector, number: str) -> None:
    version, expected = FIRST_MESSAGES[number]
    message = read(vector(number))
    assert message.version == version
    assert read_first(message.nv) == expected
    assert joined(frame.encode(version, expected.fields())) == vector(number)


def test_answer_to_the_first_message_of_the_vectors(vector: Vector) -> None:
    assert read_hello_reply(read(vector("02")).nv) == HelloReply(2, TOKEN)
    assert joined(frame.encode(2, HelloReply(2, TOKEN).fields())) == vector("02")


def test_messages_of_a_protocol_1_peer(vector: Vector) -> None:
    assert read_first(read(vector("40")).nv) == Hello("shared", version=1)
    assert read_hello_reply(read(vector("41")).nv) == HelloReply(1, TOKEN)


def test_a_refusal_that_asks_to_wait(vector: Vector) -> None:
    text = "Remote node acts as primary for the resource and not as secondary."
    assert read_hello_reply(read(vector("09")).nv) == HelloReply(errmsg=text, wait=True)
    assert joined(frame.encode(2, refusal(text, wait=True))) == vector("09")
    assert joined(frame.encode(2, HelloReply(errmsg=text, wait=True).fields())) == vector("09")


@pytest.mark.parametrize("number", SECOND_REPLIES)
def test_answers_to_the_second_message_of_the_vectors(vector: Vector, number: str) -> None:
    expected = SECOND_REPLIES[number]
    message = read(vector(number))
    assert read_second_reply(message.nv, message.data) == expected
    written = frame.encode(2, expected.fields(), expected.bitmap, compression=Compression.HOLE)
    assert joined(written) == vector(number)


@given(st.builds(Hello, st.text("abc", min_size=1), st.integers(1, 255), st.integers(0, 2**32 - 1)))
def test_message_1_with_features(hello: Hello) -> None:
    assert read_first(fields(*hello.fields())) == hello


@given(st.builds(HelloReply, st.integers(1, 2), st.just(TOKEN), st.integers(0, 2**32 - 1)))
def test_message_2_with_features(reply: HelloReply) -> None:
    assert read_hello_reply(fields(*reply.fields())) == reply


BOOT_IDS = st.sampled_from([b"", BOOT_ID])


@given(st.builds(SecondHello, st.just("r"), st.just(TOKEN), U64, U64, U64, st.booleans(), BOOT_IDS))
def test_message_3_with_boot_id(hello: SecondHello) -> None:
    assert read_first(fields(*hello.fields())) == hello


@given(
    st.builds(
        SecondReply,
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**31 - 1),
        U64,
        U64,
        st.sampled_from(SyncSource),
        st.booleans(),
        st.just(512),
        st.just(DIRTY),
        BOOT_IDS,
    )
)
def test_message_4_with_boot_id(reply: SecondReply) -> None:
    assert read_second_reply(fields(*reply.fields()), reply.bitmap) == reply


@given(st.builds(SecondHello, st.just("r"), st.just(TOKEN), U64, U64, U64, changes=U64, ahead_since_s=U64))
def test_message_3_with_changes(hello: SecondHello) -> None:
    assert read_first(fields(*hello.fields())) == hello


@given(U64, U64, st.sampled_from(["", "policy manual"]), st.booleans())
def test_the_refusal_of_a_split_brain_with_what_the_secondary_changed(
    changes: int, since_s: int, reason: str, with_map: bool
) -> None:
    reply = SecondReply(
        DATASIZE, EXTENTSIZE, 4, 2, errmsg=SPLIT_BRAIN_TEXT, changes=changes, ahead_since_s=since_s, reason=reason
    )
    if with_map:
        reply = replace(reply, mapsize_bytes=512, bitmap=DIRTY)
    assert read_second_reply(fields(*reply.fields()), reply.bitmap) == reply


def test_a_map_that_is_not_as_long_as_a_refusal_says_is_passed_over() -> None:
    reply = SecondReply(errmsg=SPLIT_BRAIN_TEXT, mapsize_bytes=512)
    assert read_second_reply(fields(*reply.fields()), DIRTY[:100]).bitmap is None
    assert read_second_reply(fields(*reply.fields()), None).mapsize_bytes == 0


def test_message_4_of_a_secondary_that_gives_up_its_changes() -> None:
    reply = SecondReply(DATASIZE, EXTENTSIZE, 3, 2, SyncSource.PRIMARY, mapsize_bytes=512, bitmap=DIRTY, discards=7)
    assert read_second_reply(fields(*reply.fields()), DIRTY) == reply
    assert reply.fields()[-1][0] == "discards"


def test_our_fields_come_last_where_the_reference_does_not_look() -> None:
    names = [name for name, _, _ in Hello("r", 2, OUR_FEATURES).fields()]
    assert names == ["resource", "version", "features"]
    assert [name for name, _, _ in HelloReply(2, TOKEN, OUR_FEATURES).fields()] == ["version", "token", "features"]
    assert SecondHello("r", TOKEN, 1, 2, 3, boot_id=BOOT_ID).fields()[-1][0] == "bootid"
    assert SecondReply(boot_id=BOOT_ID).fields()[-1][0] == "bootid"


def test_extra_fields_of_another_shape_count_as_absent() -> None:
    assert read_first(fields(nv.string("resource", "r"), nv.u8("features", 1))) == Hello("r", version=1)
    hello = SecondHello("r", TOKEN, 1, 2, 3)
    assert read_first(fields(*hello.fields(), nv.u8s("bootid", b"short"))) == hello


def test_a_refusal_by_the_parent_has_no_sizes() -> None:
    reply = read_second_reply(fields(*refusal("Token doesn't match.")), None)
    assert reply == SecondReply(errmsg="Token doesn't match.")


def test_a_refusal_without_text_is_still_a_refusal() -> None:
    assert read_hello_reply(fields(nv.string("errmsg", ""))).errmsg
    assert read_second_reply(fields(nv.u8("errmsg", 1)), None).errmsg


@pytest.mark.parametrize(
    "values",
    [
        [nv.u8("version", 2)],
        [nv.string("resource", ""), nv.u8("version", 2)],
        [nv.u8("resource", 1)],
        [nv.string("resource", "r"), nv.u8s("token", TOKEN[:15])],
        [nv.string("resource", "r"), nv.string("token", "0123456789abcdef")],
    ],
)
def test_what_is_no_first_message_is_dropped(values: list[Field]) -> None:
    with pytest.raises(HandshakeError):
        read_first(fields(*values))


@pytest.mark.parametrize(
    "values",
    [
        [nv.u8("version", 2)],
        [nv.u8("version", 2), nv.u8s("token", TOKEN + b"x")],
        [nv.u8("version", 3), nv.u8s("token", TOKEN)],
    ],
)
def test_what_is_no_answer_to_the_first_message_is_dropped(values: list[Field]) -> None:
    with pytest.raises(HandshakeError):
        read_hello_reply(fields(*values))


@pytest.mark.parametrize("name", ["datasize", "extentsize", "localcnt", "remotecnt", "syncsrc", "mapsize"])
def test_an_answer_to_the_second_message_that_lacks_a_field_is_dropped(name: str) -> None:
    with pytest.raises(HandshakeError, match=name):
        read_second_reply(fields(*[field for field in ANSWER.fields() if field[0] != name]), None)


@pytest.mark.parametrize("data", [None, bytes(4), bytes(1024)])
def test_a_map_of_another_size_than_announced_is_dropped(data: bytes | None) -> None:
    reply = SecondReply(DATASIZE, EXTENTSIZE, syncsrc=SyncSource.PRIMARY, mapsize_bytes=512)
    with pytest.raises(HandshakeError, match="map of 512 bytes"):
        read_second_reply(fields(*reply.fields()), data)


def test_an_unknown_sync_source_is_dropped() -> None:
    values = [nv.u8("syncsrc", 3) if field[0] == "syncsrc" else field for field in ANSWER.fields()]
    with pytest.raises(HandshakeError, match="sync source 3"):
        read_second_reply(fields(*values), None)


@given(st.binary(max_size=120))
def test_garbage_raises_nothing_but_handshake_error(body: bytes) -> None:
    try:
        values = nv.decode(body)
    except nv.NvError:
        return
    for reader in (read_first, read_hello_reply, lambda values: read_second_reply(values, None)):
        try:
            reader(values)
        except HandshakeError:
            pass


def test_the_mode_that_a_primary_tells_is_a_word_of_bounded_length() -> None:
    hello = SecondHello("r", TOKEN, 1, 2, 3, replication="fullsync")
    assert read_first(fields(*hello.fields())) == hello
    read = read_first(fields(*SecondHello("r", TOKEN, 1, 2, 3, replication="x" * 900).fields()))
    assert isinstance(read, SecondHello)
    assert read.replication == "x" * 32
