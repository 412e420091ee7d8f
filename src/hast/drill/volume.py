"""`python3 -m hast.drill.volume start|stop|status PATH BYTES HOST PORT PIDFILE`: one file, served by NBD over TCP.

The service that clients of a drill write to: a file in the site's pool. It answers when a write or flush is done by the
file system, and with its error when it failed. Only what `hast.lab.records` says is understood. Ends with `stop`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from hast.format import nbd

FLAGS = nbd.TransmissionFlag.HAS_FLAGS | nbd.TransmissionFlag.SEND_FLUSH
END_S = 5.0
EIO = 5


def main() -> int:
    """See the module's docstring."""
    verb, path, size_bytes, host, port, pidfile = sys.argv[1:]
    if verb == "status":
        return 0 if running(pidfile) else 1
    if verb == "stop":
        return stop(pidfile)
    return start(Path(path), int(size_bytes), host, int(port), pidfile)


def running(pidfile: str) -> int:
    """The process id, 0 where nobody serves."""
    try:
        pid = int(Path(pidfile).read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else pid


def stop(pidfile: str) -> int:
    """1 when it does not end: a flush of a dead device may hold it."""
    pid = running(pidfile)
    if pid:
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + END_S
    while running(pidfile):
        if time.monotonic() > until:
            return 1
        time.sleep(0.02)
    Path(pidfile).unlink(missing_ok=True)
    return 0


def start(path: Path, size_bytes: int, host: str, port: int, pidfile: str) -> int:
    """Returns when clients are let in; a child serves them."""
    with path.open("ab") as file:
        file.truncate(size_bytes)
    listener = socket.create_server((host, port), backlog=16)
    pid = os.fork()
    if pid:
        Path(pidfile).write_text(f"{pid}\n")
        return 0
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    serve(path, size_bytes, listener)
    return 0


def serve(path: Path, size_bytes: int, listener: socket.socket) -> None:
    """Until it is killed; a thread for each client."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    while True:
        sock, _address = listener.accept()
        threading.Thread(target=converse, args=(sock, file, size_bytes), daemon=True).start()


def converse(sock: socket.socket, file: int, size_bytes: int) -> None:
    """One client, until it leaves."""
    try:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(nbd.SERVER_GREETING)
            receive(sock, nbd.CLIENT_FLAGS.size + nbd.OPTION.size)
            sock.sendall(size_bytes.to_bytes(8, "big") + int(FLAGS).to_bytes(2, "big"))
            while True:
                answer(sock, file)
    except OSError:
        return


def answer(sock: socket.socket, file: int) -> None:
    """One request. Raises OSError when the client is gone."""
    _magic, _flags, kind, cookie, offset, length = nbd.REQUEST.unpack(receive(sock, nbd.REQUEST_SIZE_BYTES))
    data = receive(sock, length) if kind == nbd.CommandType.WRITE else b""
    if kind == nbd.CommandType.DISC:
        raise ConnectionResetError("the client leaves")
    content, error = b"", 0
    try:
        if kind == nbd.CommandType.WRITE:
            os.pwrite(file, data, offset)
        elif kind == nbd.CommandType.FLUSH:
            os.fsync(file)
        else:
            content = os.pread(file, length, offset)
    except OSError:
        content, error = b"", EIO
    sock.sendall(nbd.SIMPLE_REPLY.pack(nbd.SIMPLE_REPLY_MAGIC, error, cookie) + content)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises ConnectionError."""
    data = b""
    while len(data) < size:
        part = sock.recv(min(size - len(data), nbd.MAX_PAYLOAD_BYTES))
        if not part:
            raise ConnectionResetError("the client is gone")
        data += part
    return data


if __name__ == "__main__":
    sys.exit(main())
