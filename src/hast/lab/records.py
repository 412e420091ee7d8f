"""A client that keeps writing numbered records with fsync through NBD over TCP, and never gives up.

Runs on the client host as `python -m hast.lab.records HOST PORT write|read`. A record is one block at the place that
its number gives; it is acknowledged when the write and a flush after it are. A server that is silent for REPLY_S, or
gone, is connected to again, and the record is written again: what was acknowledged before must be there.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from hast.format import nbd

BLOCK_BYTES = 4096
SLOTS = 4096
"""Records before the first place is written again; 16 MiB."""
RECORD = struct.Struct(">8sQ")
MAGIC = b"hast-rec"
CONNECT_S = 0.4
REPLY_S = 1.0
PAUSE_S = 0.05
PACE_S = 0.02


class Server:
    """One connection. Raises OSError (ConnectionError, TimeoutError among them)."""

    def __init__(self, host: str, port: int) -> None:
        self._sock = socket.create_connection((host, port), CONNECT_S)
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.settimeout(REPLY_S)
            self._receive(len(nbd.SERVER_GREETING))
            self._sock.sendall(nbd.CLIENT_FLAGS.pack(3))
            self._sock.sendall(nbd.OPTION.pack(nbd.OPTION_MAGIC, nbd.Option.EXPORT_NAME, 0))
            self._receive(10)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        self._sock.close()

    def write(self, number: int) -> None:
        """Write a record and flush it."""
        block = (RECORD.pack(MAGIC, number) * (BLOCK_BYTES // RECORD.size))[:BLOCK_BYTES]
        self._ask(nbd.CommandType.WRITE, place(number), BLOCK_BYTES, block)
        self._ask(nbd.CommandType.FLUSH, 0, 0)

    def read(self, slot: int) -> int:
        """The number of the record in this place, 0 for none. Raises ValueError for a damaged one."""
        self._ask(nbd.CommandType.READ, slot * BLOCK_BYTES, BLOCK_BYTES)
        block = self._receive(BLOCK_BYTES)
        if block == bytes(BLOCK_BYTES):
            return 0
        magic, number = RECORD.unpack_from(block)
        if magic != MAGIC or block != RECORD.pack(magic, number) * (BLOCK_BYTES // RECORD.size):
            raise ValueError(f"record in place {slot} is damaged")
        return int(number)

    def _ask(self, command: nbd.CommandType, offset: int, length: int, data: bytes = b"") -> None:
        self._sock.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, command, 1, offset, length) + data)
        magic, error, _cookie = nbd.SIMPLE_REPLY.unpack(self._receive(nbd.SIMPLE_REPLY.size))
        if magic != nbd.SIMPLE_REPLY_MAGIC:
            raise ConnectionError("not a reply")
        if error:
            raise OSError(error, f"command {command.name} failed")

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._sock.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            data += part
        return data


def place(number: int) -> int:
    """Offset of a record in bytes."""
    return number % SLOTS * BLOCK_BYTES


@dataclass(slots=True)
class Journal:
    """What a writer printed: `acknowledged` holds (record, monotonic seconds) in order, `connected` the moments of the
    first acknowledgement over each connection."""

    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Journal:
        """Whole lines only: the last one may still be being written."""
        journal = cls()
        before = ""
        for line in text[: text.rfind("\n") + 1].splitlines():
            number, at, connection = line.split()
            journal.acknowledged.append((int(number), float(at)))
            if connection != before:
                journal.connected.append(float(at))
            before = connection
        return journal

    def __add__(self, later: Journal) -> Journal:
        return Journal(self.acknowledged + later.acknowledged, self.connected + later.connected)

    def first_over_another_connection(self, at_s: float) -> float | None:
        """When the first record was acknowledged over a connection that had acknowledged none by `at_s`."""
        return next((at for at in self.connected if at > at_s), None)

    def missing(self, found: Iterable[int]) -> list[str]:
        """Compare with the records found, place by place; one line for each that is not as acknowledged."""
        newest: dict[int, int] = {}
        for number, _ in self.acknowledged:
            newest[number % SLOTS] = number
        under_way = (self.acknowledged[-1][0] if self.acknowledged else 0) + 1
        wrong = []
        for slot, number in enumerate(found):
            expected = newest.get(slot, 0)
            if number not in (expected, under_way if under_way % SLOTS == slot else expected):
                wrong.append(f"place {slot}: record {number}, {expected} was acknowledged")
        return wrong


def write(host: str, port: int, first: int) -> None:
    """Write records for ever, a line on standard output for each that was acknowledged: number, time, connection."""
    server: Server | None = None
    number = first
    connection = 0
    while True:
        try:
            if server is None:
                server = Server(host, port)
                connection += 1
            server.write(number)
        except OSError:
            if server is not None:
                server.close()
            server = None
            time.sleep(PAUSE_S)
            continue
        sys.stdout.write(f"{number} {time.monotonic():.4f} {connection}\n")
        sys.stdout.flush()
        number += 1
        time.sleep(PACE_S)


def read(host: str, port: int) -> None:
    """Print the number of the record in every place."""
    server = Server(host, port)
    for slot in range(SLOTS):
        sys.stdout.write(f"{server.read(slot)}\n")
    server.close()


def main() -> int:
    """See the module's docstring."""
    host, port, verb, *rest = sys.argv[1:]
    if verb == "read":
        read(host, int(port))
    else:
        write(host, int(port), int(rest[0]) if rest else 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
