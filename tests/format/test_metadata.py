"""The metadata block: the reference's bytes, our extra fields, damage recognised."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector

from hast.format import metadata as codec
from hast.format import nv
from hast.format.metadata import MAX_NAME_BYTES_IN_SECTOR, Metadata, MetadataError
from hast.format.nv import Field, NvError

CREATED = Metadata("shared", 1073737216, 2 << 20, 64, 4608)
PRIMARY = dataclasses.replace(CREATED, resuid=0x1122334455667788, localcnt=1, prevrole="primary")
SECONDARY = dataclasses.replace(CREATED, resuid=0x1122334455667788, prevrole="secondary")
VECTORS = {"50": CREATED, "51": PRIMARY, "52": SECONDARY}

U64 = st.integers(0, 2**64 - 1)
VALUES = st.builds(
    Metadata,
    resource=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
    datasize_bytes=st.integers(1, 2**62),
    extentsize_bytes=st.integers(9, 31).map(lambda bits: 1 << bits),
    keepdirty=st.integers(0, 2**32 - 1),
    offset_bytes=st.integers(4097, 2**62 - 1),
    resuid=U64,
    localcnt=U64,
    remotecnt=U64,
    prevrole=st.sampled_from(["init", "primary", "secondary"]),
    inconsistent=st.booleans(),
    stale=st.booleans(),
    boot_id=st.sampled_from([b"", bytes(range(16))]),
    ahead_since_s=U64,
    discard=st.booleans(),
)


@pytest.mark.parametrize("number", VECTORS)
def test_blocks_of_the_reference_are_read(vector: Vector, number: str) -> None:
    assert codec.decode(vector(number)) == VECTORS[number]


@pytest.mark.parametrize("number", VECTORS)
def test_blocks_begin_bit_for_bit_as_those_of_the_reference(vector: Vector, number: str) -> None:
    reference = vector(number)
    size = nv.decode(reference).size_bytes
    block = codec.encode(VECTORS[number])
    assert len(block) == len(reference) == 4096
    assert block[:size] == reference[:size]
    assert [name for name, _, _ in nv.decode(block)][-2:] == ["flags", "crc"]


@given(VALUES)
def test_what_is_written_is_read(value: Metadata) -> None:
    block = codec.encode(value)
    assert len(block) == 4096
    assert codec.decode(memoryview(block)) == value


def test_all_of_it_lies_in_one_sector_for_names_that_fit() -> None:
    value = dataclasses.replace(CREATED, localcnt=2**64 - 1, prevrole="secondary", stale=True, boot_id=b"b" * 16)
    value = dataclasses.replace(value, ahead_since_s=2**64 - 1, discard=True)
    longest = dataclasses.replace(value, resource="n" * MAX_NAME_BYTES_IN_SECTOR)
    assert not any(codec.encode(longest)[512:])
    assert codec.decode(codec.encode(longest)[:512]) == longest
    longer = dataclasses.replace(value, resource="n" * (MAX_NAME_BYTES_IN_SECTOR + 1))
    assert any(codec.encode(longer)[512:])
    assert codec.decode(codec.encode(longer)) == longer


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NvError):
        codec.encode(dataclasses.replace(CREATED, localcnt=-1))
    with pytest.raises(NvError, match="at most 4096"):
        codec.encode(dataclasses.replace(CREATED, resource="n" * 4000))


@settings(max_examples=300)
@given(VALUES, st.integers(0, 4095), st.integers(0, 7))
def test_a_flipped_bit_is_recognised_or_harmless(value: Metadata, at: int, bit: int) -> None:
    block = bytearray(codec.encode(value))
    block[at] ^= 1 << bit
    try:
        assert codec.decode(block) == value
    except MetadataError:
        pass


@given(VALUES, VALUES, st.integers(1, 7))
def test_a_torn_write_is_recognised_or_one_of_the_two(old: Metadata, new: Metadata, sectors: int) -> None:
    block = codec.encode(new)[: sectors * 512] + codec.encode(old)[sectors * 512 :]
    try:
        assert codec.decode(block) in (old, new)
    except MetadataError:
        pass


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_metadata_error(block: bytes) -> None:
    try:
        codec.decode(block.ljust(4096, b"\0"))
    except MetadataError:
        pass


def reference_fields(**other: Field | None) -> list[Field]:
    """The nine fields, some replaced or (None) left out."""
    values: dict[str, Field | None] = {
        "resource": nv.string("resource", "shared"),
        "datasize": nv.u64("datasize", 1 << 20),
        "extentsize": nv.u32("extentsize", 1 << 16),
        "keepdirty": nv.u32("keepdirty", 64),
        "offset": nv.u64("offset", 4608),
        "resuid": nv.u64("resuid", 0),
        "localcnt": nv.u64("localcnt", 0),
        "remotecnt": nv.u64("remotecnt", 0),
        "prevrole": nv.string("prevrole", "init"),
    }
    return [field for field in (values | other).values() if field is not None]


@pytest.mark.parametrize("name", [name for name, _, _ in reference_fields()])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(MetadataError, match=f"field {name} is missing") as caught:
        codec.decode(nv.encode(reference_fields(**{name: None})))
    assert caught.value.missing
    assert caught.value.describe("/dev/sdb") == f"Unable to read metadata from /dev/sdb: field {name} is missing."


def test_an_empty_provider_says_so() -> None:
    with pytest.raises(MetadataError) as caught:
        codec.decode(bytes(4096))
    assert caught.value.missing


def test_unknown_fields_of_others_are_ignored() -> None:
    fields = [*reference_fields(), nv.string("future", "field")]
    assert codec.decode(nv.encode(fields).ljust(4096, b"\0")).resource == "shared"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x11\x09", id="no list"),
        pytest.param(nv.encode(reference_fields(extentsize=nv.u32("extentsize", 3 << 16))), id="extentsize"),
        pytest.param(nv.encode(reference_fields(extentsize=nv.u32("extentsize", 0))), id="extentsize 0"),
        pytest.param(nv.encode(reference_fields(datasize=nv.u64("datasize", 0))), id="datasize 0"),
        pytest.param(nv.encode(reference_fields(datasize=nv.u64("datasize", 2**63))), id="datasize too large"),
        pytest.param(nv.encode(reference_fields(offset=nv.u64("offset", 4096))), id="offset"),
        pytest.param(nv.encode(reference_fields()) + b"\0\0\0\1", id="bytes behind the list"),
        pytest.param(nv.encode([*reference_fields(), nv.u32("flags", 1)]), id="flags without crc"),
        pytest.param(nv.encode([*reference_fields(), nv.u32("crc", 1)]), id="crc without flags"),
        pytest.param(nv.encode([*reference_fields(), nv.u32("flags", 0), nv.u32("crc", 1)]), id="wrong crc"),
        pytest.param(nv.encode([*reference_fields(), nv.u32("crc", 1), nv.u32("flags", 0)]), id="crc is not the last"),
    ],
)
def test_damaged_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(MetadataError) as caught:
        codec.decode(block.ljust(4096, b"\0"))
    assert caught.value.describe("/dev/sdb").startswith("Metadata read from /dev/sdb is invalid: ")
