"""Structures and numbers of Linux's ublk driver: control commands, queue descriptors, the user copy area. No I/O.

Source: the kernel's <linux/ublk_cmd.h>, with the command numbers encoded as ioctls (since Linux 6.4) and GET_FEATURES
(since 6.5). Native byte order: the other side is this machine's kernel.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

_READ, _WRITE = 2, 1
_TYPE = ord("u")


def _command(direction: int, number: int, size_bytes: int) -> int:
    return direction << 30 | size_bytes << 16 | _TYPE << 8 | number


CONTROL = struct.Struct("=IHHQQHHI")
"""dev_id, queue_id, len, addr, data, dev_path_len, pad, reserved: 32 bytes of a 128-byte submission."""
NO_QUEUE = 0xFFFF
IO = struct.Struct("=HHiQ")
"""q_id, tag, result, addr: 16 bytes of a submission for a queue."""
DESCRIPTOR = struct.Struct("=IIQQ")
"""op_flags, nr_sectors, start_sector, addr: what is asked under one tag."""
DEVICE_INFO = struct.Struct("=HHHHIIiIQQIIQQ")
"""nr_hw_queues, queue_depth, state, pad, max_io_buf_bytes, dev_id, ublksrv_pid, pad, flags, ublksrv_flags, owner_uid,
owner_gid, reserved twice."""
FEATURES = struct.Struct("=Q")
_PARAMETERS = struct.Struct("=IIIBBBBIIQQIIIIHH")
"""len, types; attrs, shifts of logical, physical, optimal and minimal I/O, max_sectors, chunk_sectors, dev_sectors,
virt_boundary_mask; discard_alignment, discard_granularity, max_discard_sectors, max_write_zeroes_sectors,
max_discard_segments, reserved."""
_BASIC, _DISCARD = 1, 2
_VOLATILE_CACHE, _FUA = 4, 8
SECTOR_SHIFT = 9
QUEUE_DEPTH = 128
MAX_IO_BYTES = 512 * 1024
MAX_ZERO_BYTES = 128 * 1024 * 1024
"""Of our devices: requests at once, and the most of one of them."""


class Control(IntEnum):
    """Commands to /dev/ublk-control."""

    GET_DEV_INFO = _command(_READ, 0x02, CONTROL.size)
    ADD_DEV = _command(_READ | _WRITE, 0x04, CONTROL.size)
    DEL_DEV = _command(_READ | _WRITE, 0x05, CONTROL.size)
    START_DEV = _command(_READ | _WRITE, 0x06, CONTROL.size)
    STOP_DEV = _command(_READ | _WRITE, 0x07, CONTROL.size)
    SET_PARAMS = _command(_READ | _WRITE, 0x08, CONTROL.size)
    START_USER_RECOVERY = _command(_READ | _WRITE, 0x10, CONTROL.size)
    END_USER_RECOVERY = _command(_READ | _WRITE, 0x11, CONTROL.size)
    GET_FEATURES = _command(_READ, 0x13, CONTROL.size)
    DEL_DEV_ASYNC = _command(_READ, 0x14, CONTROL.size)


class QueueCommand(IntEnum):
    """Commands to /dev/ublkcN."""

    FETCH = _command(_READ | _WRITE, 0x20, IO.size)
    COMMIT_AND_FETCH = _command(_READ | _WRITE, 0x21, IO.size)


class Feature(IntFlag):
    """What a driver can do, and what a device is asked to do."""

    USER_RECOVERY = 1 << 3
    """The device waits for another server when one died ..."""
    USER_RECOVERY_REISSUE = 1 << 4
    """... and what that one had not answered is given to the next."""
    CMD_IOCTL_ENCODE = 1 << 6
    USER_COPY = 1 << 7
    """The server copies data by pread and pwrite, whenever it likes before it answers."""


WANTED = Feature.USER_RECOVERY | Feature.USER_RECOVERY_REISSUE | Feature.CMD_IOCTL_ENCODE | Feature.USER_COPY


class State(IntEnum):
    """Of a device."""

    DEAD = 0
    LIVE = 1
    QUIESCED = 2
    """Its server died; it waits."""


class Operation(IntEnum):
    """The low byte of op_flags."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    WRITE_ZEROES = 5


OPERATION_MASK = 0xFF
FLAG_FUA = 1 << 13
RESULT_OK = 0
_COPY_AREA = 0x80000000
_TAG_SHIFT = 25


def copy_offset(tag: int) -> int:
    """Where in /dev/ublkcN the data of a request of queue 0 are."""
    return _COPY_AREA + (tag << _TAG_SHIFT)


class DeviceInfo(NamedTuple):
    """What the kernel knows of a device. `identifier`: 64 bits that its maker chose."""

    number: int
    state: int
    queue_depth: int
    max_io_bytes: int
    server_pid: int
    flags: int
    identifier: int


def encode_info(identifier: int) -> bytes:
    """For ADD_DEV: one queue, and the kernel chooses the number."""
    return DEVICE_INFO.pack(1, QUEUE_DEPTH, 0, 0, MAX_IO_BYTES, 0xFFFFFFFF, 0, 0, int(WANTED), identifier, 0, 0, 0, 0)


def decode_info(data: bytes) -> DeviceInfo:
    """As ADD_DEV and GET_DEV_INFO return it."""
    _queues, depth, state, _, max_io_bytes, number, pid, _, flags, identifier, *_rest = DEVICE_INFO.unpack_from(data)
    return DeviceInfo(number, state, depth, max_io_bytes, pid, flags, identifier)


def encode_parameters(size_bytes: int, block_bytes: int) -> bytes:
    """For SET_PARAMS: a device with a cache that has to be flushed, FUA, discard, and zeroing.

    `block_bytes` is a power of two, the smallest unit.
    """
    shift = block_bytes.bit_length() - 1
    max_zero_sectors = MAX_ZERO_BYTES >> SECTOR_SHIFT
    return _PARAMETERS.pack(
        _PARAMETERS.size,
        _BASIC | _DISCARD,
        _VOLATILE_CACHE | _FUA,
        shift,
        max(shift, 12),
        max(shift, 12),
        max(shift, 12),
        MAX_IO_BYTES >> SECTOR_SHIFT,
        0,
        size_bytes >> SECTOR_SHIFT,
        0,
        0,
        block_bytes,
        max_zero_sectors,
        max_zero_sectors,
        1,
        0,
    )
