"""The FUSE protocol of one file: sizes and values that the kernel expects."""

from __future__ import annotations

import stat
import struct

import pytest

from hast.format import fuse

KERNEL_FLAGS = (1 << 0) | (1 << 5) | (1 << 22) | (1 << 30)


def init_in(flags: int, flags2: int = 0) -> bytes:
    return struct.pack("=IIIII", 7, 45, 131072, flags, flags2) + bytes(44)


def test_sizes_of_the_structures_are_those_of_the_kernel() -> None:
    assert (fuse.IN_HEADER.size, fuse.OUT_HEADER.size, fuse.HOT_IN_SIZE_BYTES) == (40, 16, 80)
    assert len(fuse.init_reply(init_in(0))) == 64
    assert len(fuse.attributes(fuse.FILE_NODE, 0)) == 88
    assert len(fuse.attributes_reply(fuse.ROOT_NODE, 0)) == 104
    assert len(fuse.entry_reply(0)) == 128
    assert len(fuse.open_reply()) == len(fuse.opendir_reply()) == 16
    assert len(fuse.statfs_reply(1 << 20)) == 80


def test_the_short_form_of_a_read_agrees_with_the_long_one() -> None:
    header = fuse.IN_HEADER.pack(80, fuse.Opcode.READ, 77, fuse.FILE_NODE, 0, 0, 1, 0, 0)
    message = header + fuse.READ_WRITE_IN.pack(fuse.FILE_HANDLE, 8192, 4096) + bytes(20)
    assert fuse.HOT_IN.unpack_from(message) == (80, fuse.Opcode.READ, 77, 8192, 4096)


def test_only_flags_that_the_kernel_offers_are_taken() -> None:
    reply = fuse.init_reply(init_in(KERNEL_FLAGS, 1 << 7))
    major, minor, _readahead, flags = struct.unpack_from("=IIII", reply)
    (flags2,) = struct.unpack_from("=I", reply, 32)
    assert (major, minor, flags, flags2) == (7, 31, KERNEL_FLAGS, 1 << 7)
    assert fuse.flags_offered(init_in(1 << 5, 1 << 7)) == 1 << 5
    assert fuse.flags_offered(init_in(KERNEL_FLAGS)[:16]) == KERNEL_FLAGS


def test_init_replies_are_the_same_for_every_worker() -> None:
    assert fuse.init_reply(init_in(KERNEL_FLAGS, 1 << 7)) == fuse.init_reply(init_in(KERNEL_FLAGS, 1 << 7))


def test_the_file_has_the_size_of_the_data_area() -> None:
    _node, size, blocks = struct.unpack_from("=QQQ", fuse.attributes(fuse.FILE_NODE, 1 << 20))
    assert (size, blocks) == (1 << 20, 2048)
    mode = struct.unpack_from("=I", fuse.attributes(fuse.FILE_NODE, 1 << 20), 60)[0]
    assert stat.S_ISREG(mode)
    mode = struct.unpack_from("=I", fuse.attributes(fuse.ROOT_NODE, 1 << 20), 60)[0]
    assert stat.S_ISDIR(mode)


def test_the_directory_lists_the_file_once() -> None:
    first = fuse.readdir_reply(fuse.READDIR_IN.pack(fuse.DIRECTORY_HANDLE, 0, 4096))
    assert first == struct.pack("=QQII", fuse.FILE_NODE, 1, 4, 8) + b"disk\0\0\0\0"
    assert fuse.readdir_reply(fuse.READDIR_IN.pack(fuse.DIRECTORY_HANDLE, 1, 4096)) == b""


def test_a_resend_message_is_the_sixteen_bytes_that_the_kernel_wants() -> None:
    assert struct.pack("=IiQ", 16, 7, 0) == fuse.RESEND_MESSAGE


def test_short_arguments_raise_struct_error() -> None:
    for reader in (fuse.init_reply, fuse.readdir_reply):
        with pytest.raises(struct.error):
            reader(b"\0" * 7)
