"""Sizes: the specification's table, what people read and what they write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.format import geometry
from hast.format.geometry import Geometry, GeometryError, human_size, parse_size

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40


@pytest.mark.parametrize(
    ("mediasize", "extentsize", "sector", "map_size", "offset", "datasize"),
    [
        (MIB, 2 * MIB, 512, 512, 4608, 1043968),
        (10 * MIB, 2 * MIB, 512, 512, 4608, 10481152),
        (GIB, 2 * MIB, 512, 512, 4608, 1073737216),
        (8 * GIB, 2 * MIB, 512, 512, 4608, 8589929984),
        (8 * GIB + 4096, 2 * MIB, 512, 512, 4608, 8589934080),
        (10 * GIB, 2 * MIB, 512, 1024, 5120, 10737413120),
        (100 * GIB, 2 * MIB, 512, 6656, 10752, 107374171648),
        (TIB, 2 * MIB, 512, 65536, 69632, 1099511558144),
        (GIB, 2 * MIB, 4096, 4096, 8192, 1073733632),
        (100 * GIB, 2 * MIB, 4096, 8192, 12288, 107374170112),
        (GIB, 64 * KIB, 512, 2048, 6144, 1073735680),
        (TIB, 64 * KIB, 512, 2097152, 2101248, 1099509526528),
    ],
)
def test_the_table_of_the_specification(
    mediasize: int, extentsize: int, sector: int, map_size: int, offset: int, datasize: int
) -> None:
    layout = Geometry(mediasize, extentsize, sector)
    assert (layout.map_size_bytes, layout.offset_bytes, layout.datasize_bytes) == (map_size, offset, datasize)


@given(st.integers(1, 2**50), st.integers(9, 30), st.integers(9, 12))
def test_the_map_has_a_bit_for_every_extent_of_the_data_area(area: int, extent_bits: int, sector_bits: int) -> None:
    extents = geometry.extent_count(area, 1 << extent_bits)
    size = geometry.map_size_bytes(area, 1 << extent_bits, 1 << sector_bits)
    assert (extents - 1) << extent_bits < area <= extents << extent_bits
    assert size * 8 >= extents
    assert size % (1 << sector_bits) == 0
    assert geometry.bitmap_size_bytes(extents) % 8 == 0


@pytest.mark.parametrize(
    ("mediasize", "extentsize", "sector", "text"),
    [
        (GIB, 256, 512, "Extent size (256) is less than sector size (512)."),
        (GIB, 1000, 512, "Extent size (1000) is not multiple of sector size (512)."),
        (GIB, 1536, 512, "Extent size (1536) is not a power of two."),
        (GIB, 4096, 520, "Sector size (520) is not a power of two of at least 512."),
        (GIB, 4096, 0, "Sector size (0) is not a power of two of at least 512."),
        (4096, 4096, 512, "Provided mediasize (4096) leaves no room for data."),
        (4608, 4096, 512, "Provided mediasize (4608) leaves no room for data."),
        (-1, 4096, 512, "Provided mediasize (-1) leaves no room for data."),
        (1 << 63, 4096, 512, "Provided mediasize (9223372036854775808) is larger than 9223372036854775807."),
    ],
)
def test_sizes_that_make_no_resource_are_refused(mediasize: int, extentsize: int, sector: int, text: str) -> None:
    with pytest.raises(GeometryError) as caught:
        Geometry(mediasize, extentsize, sector)
    assert str(caught.value) == text


def test_one_sector_of_data_is_enough() -> None:
    assert Geometry(4096 + 512 + 512, 4096, 512).datasize_bytes == 512


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (999, "999B"),
        (1000, "1.0KB"),
        (1536, "1.5KB"),
        (9999, "9.8KB"),
        (9 * 1024 + 972, "9.9KB"),
        (9 * 1024 + 973, "10KB"),
        (10240, "10KB"),
        (102400, "100KB"),
        (999 * 1024 + 511, "999KB"),
        (999 * 1024 + 512, "1.0MB"),
        (1000000, "977KB"),
        (2097152, "2.0MB"),
        (999999999, "954MB"),
        (1073737216, "1.0GB"),
        (1500000000000, "1.4TB"),
        (2**64 - 1, "16EB"),
    ],
)
def test_sizes_are_shown_as_in_the_specification(size: int, text: str) -> None:
    assert human_size(size) == text


@given(st.integers(0, 2**64 - 1))
def test_a_shown_size_is_never_longer_than_five_characters(size: int) -> None:
    assert len(human_size(size)) <= 5


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("64k", 64 * KIB),
        ("2M", 2 * MIB),
        ("2MB", 2 * MIB),
        ("2MiB", 2 * MIB),
        ("1g", GIB),
        ("0x10", 16),
        ("0x10k", 16 * KIB),
        ("010", 8),
        ("010m", 8 * MIB),
        ("5b", 5),
        ("0x5b", 0x5B),
        ("3t", 3 * TIB),
        ("1p", 2**50),
        ("1e", 2**60),
        ("7E", 7 * 2**60),
        (" 4096 ", 4096),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes_are_read_as_c_integers_with_a_suffix(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "+1", "1.5g", "1x", "0x", "09", "1 k", "8e", "١", "2\nk"])
def test_what_is_no_size_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError:
        pass
