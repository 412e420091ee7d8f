"""TLS sessions whose records the kernel makes and opens (its module tls), once the handshake was done in user space.

What is told to the kernel is decided by format/kernel_tls.py; this file moves secrets and descriptors. The secrets of a
session come from the library's key log, which is a pipe of this process, is read once, and is on for no other session.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
import struct

from hast.daemon.logs import in_words
from hast.daemon.tls import CHANGED, Channel, TlsError
from hast.format.kernel_tls import ALERT_RECORD, CLOSE_NOTIFY, ExactRecords, NotForTheKernel, crypto_info, why_over

log = logging.getLogger("hast.link")

OFF_VARIABLE = "HAST_KERNEL_TLS"
"""`off`: sessions stay in user space, to measure, or around a kernel that has a bug."""
TCP_ULP = 31
SOL_TLS = 282
TLS_TX, TLS_RX, TLS_RX_EXPECT_NO_PAD = 1, 2, 4
TLS_SET_RECORD_TYPE, TLS_GET_RECORD_TYPE = 1, 2
MODULE = b"tls"
KEY_LOG_BYTES = 16384
MOST_CONTROL_BYTES = 16384
_IS_THERE = frozenset({errno.ENOTCONN, 524})
"""What a kernel says that has it, of a socket that is not connected: 524 is ENOTSUPP, of older ones."""
_ABSENT = {
    errno.ENOENT: "the kernel has no module tls, or it is not loaded",
    errno.ENOPROTOOPT: "the kernel is older than 4.13",
}
_IS_NO_DATA = errno.EIO
"""What a plain receive says of a record of another kind, which it leaves where it is."""
_IS_FORGED = frozenset({errno.EBADMSG, errno.EMSGSIZE, errno.EINVAL})


def missing() -> str:
    """Why the kernel takes no session over, or empty. Asked as root with all rights, the kernel loads its module."""
    if os.environ.get(OFF_VARIABLE) == "off":
        return f"{OFF_VARIABLE} is off"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, MODULE)
    except OSError as error:
        if error.errno not in _IS_THERE:
            return _ABSENT.get(error.errno or 0, in_words(error))
    return ""


class KernelSession:
    """A connection whose data is sent and received as if it were plain."""

    def __init__(self, sock: socket.socket, *, receives: bool) -> None:
        self._sock = sock
        self.receives = receives
        """Otherwise what arrives is opened in user space."""

    def recv_into(self, view: memoryview) -> int:
        """As socket.recv_into; 0 also where the other side ended the session. Raises TlsError, OSError."""
        try:
            return self._sock.recv_into(view)
        except OSError as error:
            if error.errno == _IS_NO_DATA:
                return self._no_data()
            raise _in_our_words(error) from None

    def end(self) -> None:
        """Say that nothing more comes from this side, if the socket takes that at once."""
        kind = [(SOL_TLS, TLS_SET_RECORD_TYPE, bytes((ALERT_RECORD,)))]
        with contextlib.suppress(OSError):
            self._sock.sendmsg([CLOSE_NOTIFY], kind, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _no_data(self) -> int:
        try:
            content, found, _flags, _from = self._sock.recvmsg(MOST_CONTROL_BYTES, socket.CMSG_SPACE(1))
        except OSError as error:
            raise _in_our_words(error) from None
        kinds = [data[0] for level, what, data in found if (level, what) == (SOL_TLS, TLS_GET_RECORD_TYPE) and data]
        reason = why_over(kinds[0] if kinds else 0, content)
        if reason:
            raise TlsError(reason)
        return 0


class Handover:
    """One session on its way to the kernel: made with `context` by a Channel, read by whole records. To be closed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context` tells secrets from now on, and is for this session alone. Raises OSError."""
        self._context = context
        self._records = ExactRecords()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            context.keylog_filename = f"/proc/self/fd/{self._write}"
        except OSError:
            self._close_pipe()
            raise

    def __enter__(self) -> Handover:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def wanted_bytes(self) -> int:
        """How much may be read from the socket at once."""
        return self._records.wanted_bytes

    def took(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """What was read. Raises TlsError."""
        try:
            self._records.took(ciphertext)
        except NotForTheKernel as error:
            raise TlsError(str(error)) from None

    def give(self, sock: socket.socket, channel: Channel, *, server: bool) -> KernelSession | None:
        """Let the kernel go on where `channel` stands, directly after its handshake; all that it had to send is sent.
        None: it stays in user space."""
        try:
            if not self._records.between or not channel.is_fresh:
                raise NotForTheKernel("the session is in use")
            told = crypto_info(channel.cipher, os.read(self._read, KEY_LOG_BYTES), server=server)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, MODULE)
            sock.setsockopt(SOL_TLS, TLS_TX, told.sending)
        except (OSError, NotForTheKernel) as error:
            log.debug("TLS stays in user space: %s.", in_words(error))
            return None
        try:
            sock.setsockopt(SOL_TLS, TLS_RX, told.receiving)
        except OSError as error:
            log.debug("The kernel only sends: %s.", in_words(error))
            return KernelSession(sock, receives=False)
        with contextlib.suppress(OSError):  # Linux 6.0; it only spares a copy
            sock.setsockopt(SOL_TLS, TLS_RX_EXPECT_NO_PAD, struct.pack("i", 1))
        return KernelSession(sock, receives=True)

    def close(self) -> None:
        """The context tells no more secrets."""
        if self._read < 0:
            return
        self._context.keylog_filename = None  # type: ignore[assignment]
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._read)
        os.close(self._write)
        self._read = self._write = -1


def begin(context: ssl.SSLContext) -> Handover | None:
    """A session for the kernel; None where it stays in user space."""
    if missing():
        return None
    try:
        return Handover(context)
    except OSError as error:
        log.debug("TLS stays in user space: %s.", in_words(error))
        return None


def _in_our_words(error: OSError) -> OSError:
    return TlsError(CHANGED) if error.errno in _IS_FORGED else error
