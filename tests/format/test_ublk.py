"""Bytes for the kernel's ublk driver, against the header's sizes and numbers."""

from __future__ import annotations

import struct

import pytest

from hast.format import ublk


def test_sizes_are_those_of_the_kernel() -> None:
    assert (ublk.CONTROL.size, ublk.IO.size, ublk.DESCRIPTOR.size, ublk.DEVICE_INFO.size) == (32, 16, 24, 64)
    assert len(ublk.encode_parameters(1 << 30, 512)) == 8 + 32 + 20


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (ublk.Control.ADD_DEV, 0xC0207504),
        (ublk.Control.GET_DEV_INFO, 0x80207502),
        (ublk.Control.GET_FEATURES, 0x80207513),
        (ublk.Control.DEL_DEV_ASYNC, 0x80207514),
        (ublk.QueueCommand.FETCH, 0xC0107520),
        (ublk.QueueCommand.COMMIT_AND_FETCH, 0xC0107521),
    ],
)
def test_commands_are_encoded_as_ioctls(command: int, number: int) -> None:
    assert int(command) == number


def test_a_device_is_described_and_read_back() -> None:
    info = ublk.decode_info(ublk.encode_info(0x1122334455667788))
    assert (info.queue_depth, info.max_io_bytes) == (128, 1 << 19)
    assert (info.identifier, info.flags) == (0x1122334455667788, 0xD8)


def test_the_kernel_chooses_the_number_when_it_is_asked_to() -> None:
    assert struct.unpack_from("=I", ublk.encode_info(0), 12)[0] == 0xFFFFFFFF


def test_parameters_say_size_block_cache_and_discard() -> None:
    data = ublk.encode_parameters(1 << 30, 4096)
    length, types, attributes, logical, physical, *_shifts = struct.unpack_from("=IIIBBBB", data)
    assert (length, types, attributes, logical, physical) == (len(data), 3, 12, 12, 12)
    max_sectors, _chunk, sectors = struct.unpack_from("=IIQ", data, 16)
    assert (max_sectors, sectors) == (1024, 1 << 21)
    assert struct.unpack_from("=IIIIHH", data, 40) == (0, 4096, 1 << 18, 1 << 18, 1, 0)


def test_each_tag_has_room_of_its_own_for_data() -> None:
    assert ublk.copy_offset(0) == 0x80000000
    assert ublk.copy_offset(5) - ublk.copy_offset(4) == 1 << 25
