"""TLS 1.3 as the kernel takes a session over (linux/tls.h): which ciphers, which keys, and what becomes of a record.

Of the secrets of a session (RFC 8446, 7.3) it makes what setsockopt(2) is given. A record that is no data comes with
its type; here it is decided whether that is the end in order. Opens no socket, and keeps no secret.
"""

from __future__ import annotations

import hmac
import struct
from typing import NamedTuple

TLS_1_3 = 0x0304
ALERT_RECORD, HANDSHAKE_RECORD, DATA_RECORD = 21, 22, 23
CLOSE_NOTIFY = bytes((1, 0))
"""The alert that ends a session in order: a warning, of kind 0."""
NONCE_BYTES = 12
RECORD_HEADER_BYTES = 5
MAX_RECORD_BYTES = 16384 + 256
"""What follows the header: RFC 8446, 5.2."""
_INFO = struct.Struct("=HH")
_SEQUENCE = struct.Struct(">Q")
_CLIENT, _SERVER = b"CLIENT_TRAFFIC_SECRET_0", b"SERVER_TRAFFIC_SECRET_0"
_FATAL = 2
_BAD_RECORD_MAC = 20
_NEW_TICKET, _KEY_UPDATE = 4, 24


class NotForTheKernel(ValueError):
    """This session stays in user space. `str()` is one clause: why."""


class _Cipher(NamedTuple):
    number: int
    digest: str
    key_bytes: int
    salt_bytes: int
    """How much of the nonce the kernel wants apart."""


_CIPHERS = {
    "TLS_AES_128_GCM_SHA256": _Cipher(51, "sha256", 16, 4),
    "TLS_AES_256_GCM_SHA384": _Cipher(52, "sha384", 32, 4),
    "TLS_CHACHA20_POLY1305_SHA256": _Cipher(54, "sha256", 32, 0),
}


class CryptoInfo(NamedTuple):
    """What TLS_TX and TLS_RX are given."""

    sending: bytes
    receiving: bytes


def crypto_info(cipher: str, key_log: bytes, *, server: bool, sent: int = 0, received: int = 0) -> CryptoInfo:
    """Of one side of a session after its handshake. `key_log` is what the library wrote of it and of no other; `sent`
    and `received` are records of data that went over it before. Raises NotForTheKernel."""
    known = _CIPHERS.get(cipher)
    if known is None:
        raise NotForTheKernel(f"the kernel has no {cipher}")
    client_secret, server_secret = _secrets(key_log, known)
    outward, inward = (server_secret, client_secret) if server else (client_secret, server_secret)
    return CryptoInfo(_one_way(known, outward, sent), _one_way(known, inward, received))


def why_over(record_type: int, content: bytes) -> str:
    """What a record means that is no data: empty where the other side ended the session in order, else one clause that
    says why the connection cannot go on."""
    if record_type == ALERT_RECORD and len(content) == len(CLOSE_NOTIFY):
        return _of_alert(content[1])
    if record_type == HANDSHAKE_RECORD and content[:1] == bytes((_KEY_UPDATE,)):
        return "it wants other TLS keys in the middle of a session"
    if record_type == HANDSHAKE_RECORD and content[:1] == bytes((_NEW_TICKET,)):
        return "it sent a TLS ticket, which nobody asked for"
    return f"it sent a TLS record of type {record_type}, which does not belong here"


class ExactRecords:
    """How much may be read so that no byte is taken from a record that is another's to open."""

    def __init__(self) -> None:
        self._header = bytearray()
        self.wanted_bytes = RECORD_HEADER_BYTES

    def took(self, data: bytes | bytearray | memoryview) -> None:
        """What was read, at most `wanted_bytes`. Raises NotForTheKernel where that is no TLS."""
        self.wanted_bytes -= len(data)
        if len(self._header) < RECORD_HEADER_BYTES:
            self._header += data
            if not self.wanted_bytes:
                self.wanted_bytes = self._size()
        if not self.wanted_bytes:
            self._header.clear()
            self.wanted_bytes = RECORD_HEADER_BYTES

    @property
    def between(self) -> bool:
        """Whether what was read ends where a record does."""
        return not self._header

    def _size(self) -> int:
        size = int.from_bytes(self._header[3:5], "big")
        if size > MAX_RECORD_BYTES:
            raise NotForTheKernel("it does not speak TLS")
        return size


def _of_alert(kind: int) -> str:
    if kind == CLOSE_NOTIFY[1]:
        return ""
    if kind == _BAD_RECORD_MAC:
        return "the other node found that what it received was changed on its way"
    return f"the other node gave the session up (TLS alert {kind})"


def _secrets(key_log: bytes, cipher: _Cipher) -> tuple[bytes, bytes]:
    """Of the client and of the server."""
    found: dict[bytes, list[bytes]] = {_CLIENT: [], _SERVER: []}
    for line in key_log.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] in found:
            found[words[0]].append(_unhex(words[2]))
    size = hmac.new(b"", digestmod=cipher.digest).digest_size
    if any(len(each) != 1 or len(each[0]) != size for each in found.values()):
        raise NotForTheKernel("the TLS library does not tell the secrets of the session")
    return found[_CLIENT][0], found[_SERVER][0]


def _unhex(word: bytes) -> bytes:
    try:
        return bytes.fromhex(word.decode("ascii"))
    except ValueError:
        return b""


def _one_way(cipher: _Cipher, secret: bytes, sequence: int) -> bytes:
    key = _expand(cipher.digest, secret, b"key", cipher.key_bytes)
    nonce = _expand(cipher.digest, secret, b"iv", NONCE_BYTES)
    salt, rest = nonce[: cipher.salt_bytes], nonce[cipher.salt_bytes :]
    return _INFO.pack(TLS_1_3, cipher.number) + rest + key + salt + _SEQUENCE.pack(sequence)


def _expand(digest: str, secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with an empty context; one block is enough for every key."""
    full = b"tls13 " + label
    info = struct.pack(">HB", size, len(full)) + full + b"\0"
    return hmac.digest(secret, info + b"\1", digest)[:size]
