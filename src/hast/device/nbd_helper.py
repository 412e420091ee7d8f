"""The kernel's NBD client, driven by generic netlink, in a process of its own: any call may hang in the kernel.

Run by its path with the bare interpreter, standard library only, and given a deadline. Prints `ready`, then one JSON
object; on failure one line on stderr, exit code 1. The kernel adopts connected sockets on which the handshake is done.
`reconfigure` alone is called in a thread of the supervisor: users of the device wait for it.

    nbd_helper.py connect FD SIZE_BYTES BLOCK_BYTES SERVER_FLAGS DEAD_TIMEOUT_S IDENTIFIER    {"index": 3}
    nbd_helper.py disconnect INDEX             users of the device get errors
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import struct
import sys

NETLINK_GENERIC = 16
NLMSG_ERROR = 2
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2
NLM_F_REQUEST_ACK = 1 | 4
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

NBD_CMD_CONNECT = 1
NBD_CMD_DISCONNECT = 2
NBD_CMD_RECONFIGURE = 3
NBD_ATTR_INDEX = 1
NBD_ATTR_SIZE_BYTES = 2
NBD_ATTR_BLOCK_SIZE_BYTES = 3
NBD_ATTR_SERVER_FLAGS = 5
NBD_ATTR_CLIENT_FLAGS = 6
NBD_ATTR_SOCKETS = 7
NBD_ATTR_DEAD_CONN_TIMEOUT = 8
NBD_ATTR_BACKEND_IDENTIFIER = 10
NBD_SOCK_ITEM = 1
NBD_SOCK_FD = 1
NBD_CFLAG_DESTROY_ON_DISCONNECT = 1

NETLINK_HEADER = struct.Struct("=IHHII")
GENERIC_HEADER = struct.Struct("=BBxx")
ATTRIBUTE = struct.Struct("=HH")
IO_TIMEOUT_MS = 1000


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    size = ATTRIBUTE.size + len(data)
    return ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by type, without their flags."""
    found: dict[int, bytes] = {}
    position = 0
    while position + ATTRIBUTE.size <= len(data):
        size, kind = ATTRIBUTE.unpack_from(data, position)
        if size < ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = data[position + ATTRIBUTE.size : position + size]
        position += size + -size % 4
    return found


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=Q", value))


def sockets(descriptor: int) -> bytes:
    """The nested list that hands one socket to the kernel."""
    item = attribute(NBD_SOCK_ITEM | NLA_F_NESTED, u32(NBD_SOCK_FD, descriptor))
    return attribute(NBD_ATTR_SOCKETS | NLA_F_NESTED, item)


class Netlink:
    """A generic netlink socket for the nbd family."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self._socket.bind((0, 0))
        self._sequence = 0
        name = attribute(CTRL_ATTR_FAMILY_NAME, b"nbd\0")
        answer = self._call(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name)
        self._family = int(struct.unpack("=H", answer[CTRL_ATTR_FAMILY_ID])[0])

    def close(self) -> None:
        self._socket.close()

    def call(self, command: int, body: bytes) -> dict[int, bytes]:
        """Send a command, return the attributes of what came back. Raises OSError."""
        return self._call(self._family, command, body)

    def _call(self, kind: int, command: int, body: bytes) -> dict[int, bytes]:
        self._sequence += 1
        message = GENERIC_HEADER.pack(command, 1) + body
        header = NETLINK_HEADER.pack(NETLINK_HEADER.size + len(message), kind, NLM_F_REQUEST_ACK, self._sequence, 0)
        self._socket.send(header + message)
        found: dict[int, bytes] = {}
        while True:
            data = self._socket.recv(65536)
            position = 0
            while position + NETLINK_HEADER.size <= len(data):
                size, answer, _flags, _sequence, _port = NETLINK_HEADER.unpack_from(data, position)
                start = position + NETLINK_HEADER.size
                if answer == NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", data, start)
                    if number:
                        raise OSError(-number, os.strerror(-number))
                    return found
                found |= attributes(data[start + GENERIC_HEADER.size : position + size])
                position += size + -size % 4


def connect(arguments: list[str]) -> dict[str, object]:
    descriptor, size, block, flags, dead_timeout = (int(text) for text in arguments[:5])
    body = (
        u64(NBD_ATTR_SIZE_BYTES, size)
        + u64(NBD_ATTR_BLOCK_SIZE_BYTES, block)
        + u64(NBD_ATTR_SERVER_FLAGS, flags)
        + u64(NBD_ATTR_CLIENT_FLAGS, NBD_CFLAG_DESTROY_ON_DISCONNECT)
        + u64(NBD_ATTR_DEAD_CONN_TIMEOUT, dead_timeout)
        + attribute(NBD_ATTR_BACKEND_IDENTIFIER, arguments[5].encode() + b"\0")
        + sockets(descriptor)
    )
    answer = Netlink().call(NBD_CMD_CONNECT, body)
    index = struct.unpack("=I", answer[NBD_ATTR_INDEX])[0]
    _make_node(index)
    _look_often(index)
    return {"index": index}


def _look_often(index: int) -> None:
    """What was under way when a connection died is sent on the next one when its time is over, and not before: the
    kernel's 30 s are a long pause. A connection that lives is never given up for that time; it is only logged."""
    try:
        with open(f"/sys/block/nbd{index}/queue/io_timeout", "w", encoding="ascii") as file:
            file.write(str(IO_TIMEOUT_MS))
    except OSError:
        pass


def _make_node(index: int) -> None:
    """The device's node, where nobody makes it for us (no devtmpfs)."""
    with open(f"/sys/block/nbd{index}/dev", encoding="ascii") as file:
        major, minor = (int(part) for part in file.read().split(":"))
    try:
        os.mknod(f"/dev/nbd{index}", 0o660 | stat.S_IFBLK, os.makedev(major, minor))
    except FileExistsError:
        pass


def reconfigure(index: int, descriptor: int, identifier: str) -> bool:
    """A new connection in place of the one that died. False: the kernel has not noticed yet that it is dead. Raises
    OSError."""
    body = u32(NBD_ATTR_INDEX, index) + attribute(NBD_ATTR_BACKEND_IDENTIFIER, identifier.encode() + b"\0")
    netlink = Netlink()
    try:
        netlink.call(NBD_CMD_RECONFIGURE, body + sockets(descriptor))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    finally:
        netlink.close()
    return True


def disconnect(arguments: list[str]) -> dict[str, object]:
    try:
        Netlink().call(NBD_CMD_DISCONNECT, u32(NBD_ATTR_INDEX, int(arguments[0])))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENODEV, errno.ENOENT):
            raise
    return {}


def main(arguments: list[str]) -> int:
    print("ready", flush=True)
    commands = {"connect": connect, "disconnect": disconnect}
    try:
        print(json.dumps(commands[arguments[0]](arguments[1:])))
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
