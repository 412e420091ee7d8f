"""TLS of NBD over TCP as qemu, nbdkit and libnbd speak it: STARTTLS first, nothing is told before. Holds no socket.

What a client sees before TLS is answered here; hastd's own NBD server gets the client once it is known.
"""

from __future__ import annotations

import re
import ssl
from enum import Enum, auto
from pathlib import Path
from typing import Any

from hast.config.failover_model import NbdTls
from hast.daemon.private_file import complaint
from hast.format import nbd
from hast.format.nbd import NbdError, Option, OptionReply

AUTHORITY, CERTIFICATE, KEY, REVOKED = "ca-cert.pem", "server-cert.pem", "server-key.pem", "ca-crl.pem"
MAX_OPTIONS = 16
PSK_CIPHERS = "kECDHEPSK:kDHEPSK"
"""Those that keep what was recorded secret when the key becomes known."""
KNOWS_PSK = hasattr(ssl.SSLContext, "set_psk_server_callback")
"""Python 3.13."""
NO_PSK = "this Python's ssl has no keys for servers (PSK): Python 3.13 has; use tls-certificates"
_USER_AND_KEY = re.compile(r"([^:\s]{1,128}):([0-9a-fA-F]{16,512})")


class TlsSetupError(Exception):
    """The files cannot be used. `str()` is one line."""


def server_context(tls: NbdTls) -> ssl.SSLContext:
    """Read the files. Raises TlsSetupError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if tls.psk:
        _use_psk(context, read_psk(tls.psk))
    else:
        _use_certificates(context, Path(tls.certificates), tls.verify_peer)
    return context


def _use_certificates(context: ssl.SSLContext, directory: Path, verify_peer: bool) -> None:
    _must_be_private(str(directory / KEY))
    path = directory / CERTIFICATE
    try:
        context.load_cert_chain(path, directory / KEY)
        if verify_peer:
            path = directory / AUTHORITY
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(path)
            if (directory / REVOKED).exists():
                path = directory / REVOKED
                context.load_verify_locations(path)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except ssl.SSLError as error:
        raise TlsSetupError(f"{path} cannot be used: {(error.reason or 'unknown').lower().replace('_', ' ')}") from None
    except OSError as error:
        raise TlsSetupError(f"{path} (or its key {KEY}) cannot be read: {error.strerror}") from None


def _use_psk(context: ssl.SSLContext, keys: dict[str, bytes]) -> None:
    if not KNOWS_PSK:
        raise TlsSetupError(NO_PSK)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(PSK_CIPHERS)
    anything: Any = context
    anything.set_psk_server_callback(lambda user: keys.get(user or "", b""))


def read_psk(path: str) -> dict[str, bytes]:
    """Lines USER:HEXADECIMAL. Raises TlsSetupError."""
    _must_be_private(path)
    try:
        lines = Path(path).read_text().split("\n")
    except (OSError, ValueError) as error:
        raise TlsSetupError(f"{path} cannot be read: {getattr(error, 'strerror', '') or 'no text'}") from None
    keys = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _USER_AND_KEY.fullmatch(line.strip())
        if found is None or len(found[2]) % 2:
            raise TlsSetupError(f"{path}:{number}: expected USER:KEY with 16 to 512 hexadecimal digits")
        keys[found[1]] = bytes.fromhex(found[2])
    if not keys:
        raise TlsSetupError(f"{path} holds no key")
    return keys


def _must_be_private(path: str) -> None:
    problem = complaint(path, "a key")
    if problem:
        raise TlsSetupError(problem)


class Before(Enum):
    """What comes after the bytes seen so far."""

    MORE = auto()
    TLS = auto()
    """Send what is to be sent, then the client's TLS begins."""
    CLOSE = auto()


class BeforeTls:
    """A client from its flags to STARTTLS: everything else is answered that TLS is required. Send
    `nbd.SERVER_GREETING` first."""

    def __init__(self) -> None:
        self.flags: int | None = None
        self._buffer = bytearray()
        self._options = 0

    def receive(self, data: bytes) -> tuple[bytes, Before]:
        """What is to be sent, and what then. Raises NbdError when this is no NBD."""
        self._buffer += data
        out = bytearray()
        if self.flags is None:
            if len(self._buffer) < nbd.CLIENT_FLAGS.size:
                return b"", Before.MORE
            (self.flags,) = nbd.CLIENT_FLAGS.unpack_from(self._buffer)
            del self._buffer[: nbd.CLIENT_FLAGS.size]
            if self.flags & ~(nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE | nbd.HANDSHAKE_FLAG_NO_ZEROES):
                raise NbdError(f"unknown client flags {self.flags:#x}")
        while True:
            request, size = nbd.decode_option(self._buffer, 0, len(self._buffer))
            if request is None:
                return bytes(out), Before.MORE
            del self._buffer[:size]
            answer, then = self._answer(request)
            out += answer
            if then is not Before.MORE:
                return bytes(out), then

    def _answer(self, request: nbd.OptionRequest) -> tuple[bytes, Before]:
        self._options += 1
        if self._options > MAX_OPTIONS:
            raise NbdError(f"more than {MAX_OPTIONS} options before TLS")
        option, data = request
        if option == Option.EXPORT_NAME:
            raise NbdError("a client without TLS")
        if option == Option.ABORT:
            return nbd.option_reply(option, OptionReply.ACK), Before.CLOSE
        if option != Option.STARTTLS:
            return nbd.option_reply(option, OptionReply.ERR_TLS_REQD), Before.MORE
        if data:
            return nbd.option_reply(option, OptionReply.ERR_INVALID), Before.MORE
        if self._buffer:
            raise NbdError("bytes behind STARTTLS that would count as said in TLS")
        return nbd.option_reply(option, OptionReply.ACK), Before.TLS
