"""A small blocking NBD client for tests: fixed newstyle, simple replies, one request at a time or pipelined."""

from __future__ import annotations

import select
import socket
import struct
from pathlib import Path

REQUEST = struct.Struct(">IHHQQI")
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1


class NbdClient:
    """Raises OSError and AssertionError."""

    def __init__(self, path: Path, timeout_s: float = 20) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(timeout_s)
        self._sock.connect(str(path))
        magic, option_magic, _flags = struct.unpack(">8s8sH", self._receive(18))
        assert (magic, option_magic) == (b"NBDMAGIC", b"IHAVEOPT")
        self._sock.sendall(struct.pack(">I", 3))
        self._sock.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 0))
        self.size, self.flags = struct.unpack(">QH", self._receive(10))
        self._handle = 0

    def close(self) -> None:
        self._sock.close()

    def send(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0) -> int:
        """Send a request; returns its handle."""
        self._handle += 1
        self._sock.sendall(REQUEST.pack(0x25609513, flags, command, self._handle, offset, length or len(data)) + data)
        return self._handle

    def readable(self, timeout_s: float) -> bool:
        """Whether a reply comes within `timeout_s`."""
        return bool(select.select([self._sock], [], [], timeout_s)[0])

    def receive(self, data_bytes: int = 0) -> tuple[int, int, bytes]:
        """(handle, error, data) of the next simple reply."""
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        assert magic == 0x67446698
        return handle, error, self._receive(data_bytes) if data_bytes and not error else b""

    def write(self, offset: int, data: bytes, fua: bool = False) -> int:
        """Returns the error number."""
        self.send(WRITE, offset, data=data, flags=FUA if fua else 0)
        return self.receive()[1]

    def read(self, offset: int, length: int) -> bytes:
        self.send(READ, offset, length)
        _handle, error, data = self.receive(length)
        if error:
            raise OSError(error, "read failed")
        return data

    def flush(self) -> int:
        self.send(FLUSH)
        return self.receive()[1]

    def zero(self, offset: int, length: int) -> int:
        self.send(WRITE_ZEROES, offset, length)
        return self.receive()[1]

    def trim(self, offset: int, length: int) -> int:
        self.send(TRIM, offset, length)
        return self.receive()[1]

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._sock.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            data += part
        return data
