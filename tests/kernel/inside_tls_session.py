"""Inside the virtual machine: single sessions over a socket, each side in the kernel or in user space in turn.

Run by inside_tls.py once for each cipher, which OPENSSL_CONF chooses.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from enum import Enum, auto
from pathlib import Path

from hast.daemon import kernel_tls, node_key
from hast.daemon.kernel_tls import Handover, KernelSession
from hast.daemon.tls import CHANGED, Channel, TlsError, client_context, server_context

SIZES = (1, 19, 4096, 16384, 16385, 100_000)
LIMIT_S = 30.0


class Kernel(Enum):
    """What it does for one end."""

    BOTH_WAYS = auto()
    SENDS = auto()
    NO = auto()


class SendsOnly(socket.socket):
    """On a kernel that opens no records of TLS 1.3."""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:  # type: ignore[override]
        if (level, option) == (kernel_tls.SOL_TLS, kernel_tls.TLS_RX):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().setsockopt(level, option, value)


class Side:
    """One end of a session: in the kernel, or not."""

    def __init__(self, sock: socket.socket, *, server: bool, kernel: Kernel) -> None:
        self.sock = sock
        sock.settimeout(LIMIT_S)
        certificate = Path(os.environ["HAST_STATE"], node_key.CERTIFICATE).read_text()
        context = server_context([certificate]) if server else client_context()
        self.channel = Channel(context, server=server)
        self.kernel: KernelSession | None = None
        with Handover(context) as handover:
            if not server:
                self._send(self.channel.handshake())
            while not self.channel.established:
                self._record(handover)
                self._send(self.channel.handshake())
            assert self.channel.cipher == os.environ["CIPHER"], self.channel.cipher
            if kernel is not Kernel.NO:
                taken = sock if kernel is Kernel.BOTH_WAYS else SendsOnly(sock.family, fileno=os.dup(sock.fileno()))
                self.kernel = handover.give(taken, self.channel, server=server)
                assert self.kernel is not None
                assert self.kernel.receives is (kernel is Kernel.BOTH_WAYS)
        assert context.keylog_filename is None

    def _record(self, handover: Handover) -> None:
        while True:
            data = self.sock.recv(handover.wanted_bytes)
            assert data, "the other side closed"
            handover.took(data)
            self.channel.receive(data)
            if handover.wanted_bytes == 5:
                return

    def _send(self, data: bytes) -> None:
        if data:
            self.sock.sendall(data)

    def send(self, data: bytes) -> None:
        if self.kernel is not None:
            self.sock.sendall(data)
        else:
            self.sock.sendall(self.channel.seal([data]))

    def end(self) -> None:
        if self.kernel is not None:
            self.kernel.end()
        else:
            self.sock.sendall(self.channel.end())

    def receive(self, size: int) -> bytes:
        """So many bytes, less at the end in order."""
        view = memoryview(bytearray(size))
        done = 0
        while done < size:
            if self.kernel is not None and self.kernel.receives:
                count = self.kernel.recv_into(view[done:])
                if not count:
                    break
            else:
                count = self.channel.open_into(view[done:])
                if self.channel.ended:
                    break
                if not count:
                    data = self.sock.recv(65536)
                    assert data, "the connection ended without an alert"
                    self.channel.receive(data)
            done += count
        return bytes(view[:done])


def between(server: Kernel, client: Kernel) -> tuple[Side, Side, socket.socket, socket.socket]:
    """A session through a middle of which both ends are returned, too: nothing passes by itself."""
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _where = listener.accept()
    made: list[Side] = []
    thread = threading.Thread(target=lambda: made.append(Side(far, server=True, kernel=server)))
    thread.start()
    calling = Side(near, server=False, kernel=client)
    thread.join(LIMIT_S)
    listener.close()
    return made[0], calling, far, near


def goes_both_ways(server: Kernel, client: Kernel) -> None:
    accepting, calling, far, near = between(server, client)
    for size in SIZES:
        data = os.urandom(size)
        for source, target in ((calling, accepting), (accepting, calling)):
            sender = threading.Thread(target=source.send, args=(data,))
            sender.start()
            assert target.receive(size) == data, (server, client, size)
            sender.join(LIMIT_S)
    calling.end()
    assert accepting.receive(1) == b"", "an end in order"
    accepting.end()
    assert calling.receive(1) == b""
    far.close()
    near.close()


def why_refused(side: Side) -> str:
    try:
        side.receive(1)
    except TlsError as error:
        return str(error.strerror)
    return "it was taken"


def what_is_forged_is_refused() -> None:
    """What the kernel gets to read is put there by somebody without keys."""
    for forged in (b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x01\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff"):
        accepting, _calling, far, near = between(Kernel.BOTH_WAYS, Kernel.NO)
        near.sendall(forged)
        assert why_refused(accepting) == CHANGED
        far.close()
        near.close()


def what_is_no_data_ends_it() -> None:
    """A record of another kind, from one who has the keys."""
    for kind, content, words in (
        (22, b"\x18\0\0\x01\0", "other TLS keys"),
        (21, b"\x02\x14", "was changed on its way"),
    ):
        accepting, calling, far, near = between(Kernel.BOTH_WAYS, Kernel.BOTH_WAYS)
        calling.send(b"before")
        near.sendmsg([content], [(kernel_tls.SOL_TLS, kernel_tls.TLS_SET_RECORD_TYPE, bytes((kind,)))])
        assert accepting.receive(6) == b"before"
        assert words in why_refused(accepting)
        far.close()
        near.close()


def main() -> None:
    assert not kernel_tls.missing(), kernel_tls.missing()
    if not Path(os.environ["HAST_STATE"]).exists():
        node_key.generate()
    for server, client in itertools.product(Kernel, repeat=2):
        goes_both_ways(server, client)
    what_is_forged_is_refused()
    what_is_no_data_ends_it()
    print("both ways, kernel and user space with each other; ended in order; forged and foreign records end it")


if __name__ == "__main__":
    main()
