"""TLS 1.3 between two nodes that know each other by fingerprint. Moves no bytes: others read and write the socket.

A connection that is handed from one process to another carries two sessions in a row, because a session cannot be
handed on: one with the process that accepts it, ended in order by that side, then one with the process that serves it.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from hast.daemon.node_key import CERTIFICATE, KEY, fingerprint
from hast.daemon.paths import make_state_directory, state_directory

HANDSHAKE_RECORD = 0x16
"""First byte of a connection that speaks TLS; no message of HAST begins with it."""
READ_BYTES = 65536
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which ssl has no name for: a host whose clock is behind still knows its peer."""
NEW_KEYS = "hast-new-keys"
"""Offered and taken (ALPN) by sides that let one session follow another on a connection, for its keys. Not by one whose
records the kernel makes."""
RECORD_BYTES = 16384
CHANGED = "what arrived was changed on its way"
_ALERTS = {
    "UNKNOWN_CA": "the other node does not know this node's key",
    "CERTIFICATE_REQUIRED": "the other node misses this node's key",
    "CERTIFICATE_VERIFY_FAILED": "its key is not one that hast.conf names",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no key",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "NO_PROTOCOLS_AVAILABLE": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": CHANGED,
}


class TlsError(OSError):
    """The session cannot go on. `strerror` is one clause: why."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


def looking_context() -> ssl.SSLContext:
    """For the side that opens a connection to see whom it meets, and shows nothing of itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def client_context(keys: Path | None = None) -> ssl.SSLContext:
    """For the side that opens a connection: whom it met is asked of `Channel.require`. `keys`: the directory of another
    daemon's key than hastd's. Raises TlsError."""
    return _with_own_key(looking_context(), keys)


def showing_context(keys: Path | None = None) -> ssl.SSLContext:
    """For the side that accepts, and shows its certificate to whoever asks. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _with_own_key(context, keys)


def server_context(known: Iterable[str]) -> ssl.SSLContext:
    """For the side that accepts: `known` are the certificates (PEM) of those it may meet. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= NO_CHECK_TIME
    context.num_tickets = 0
    for certificate in known:
        context.load_verify_locations(cadata=certificate)
    return _with_own_key(context)


def known_certificates(fingerprints: Iterable[str]) -> list[str]:
    """The certificates (PEM) behind these fingerprints, as far as this node has seen them."""
    found = []
    for wanted in fingerprints:
        try:
            text = certificate_file(wanted).read_text()
            genuine = fingerprint(ssl.PEM_cert_to_DER_cert(text.strip())) == wanted
        except (OSError, ValueError):
            continue
        if genuine:
            found.append(text)
    return found


def certificate_file(wanted: str) -> Path:
    """Where the certificate of another node is kept."""
    return state_directory() / "peers" / f"{wanted}.crt"


def keep_certificate(der: bytes) -> None:
    """For `known_certificates`. Others may do the same at this moment. Raises OSError."""
    make_state_directory()
    path = certificate_file(fingerprint(der))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as made:
        unfinished = Path(made, path.name)
        unfinished.write_text(ssl.DER_cert_to_PEM_cert(der))
        unfinished.replace(path)


def shown(session: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The certificate that the other side shows, as DER; empty where it shows none."""
    return session.getpeercert(True) or b""


def require(found: str, fingerprints: Iterable[str]) -> None:
    """Raises TlsError unless the fingerprint of the other side is one of these."""
    if found not in fingerprints:
        raise TlsError(f"its key is not the one that hast.conf names: it has {found}")


def offer_new_keys(context: ssl.SSLContext) -> None:
    """Sessions of this context may be followed by others, where the other side says so as well."""
    context.set_alpn_protocols([NEW_KEYS])


def _with_own_key(context: ssl.SSLContext, keys: Path | None = None) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    directory = keys or state_directory()
    try:
        context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
    except FileNotFoundError:
        raise TlsError("this node has no key; make it with: hastctl keygen") from None
    except OSError as error:
        raise TlsError(f"this node's key in {directory} cannot be used: {_reason(error)}") from None
    return context


class Channel:
    """One session. Ciphertext goes in by `receive` and comes out of every call that may have some to send."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self.established = False
        self._is_used = False
        self.ended = False
        """The other side said that nothing more comes in this session."""
        self.sealed_records = self.opened_records = 0
        """The latter at least: what is read in pieces counts for each."""

    def receive(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """What the socket brought."""
        self._incoming.write(ciphertext)

    def handshake(self) -> bytes:
        """Go on as far as possible; see `established`. Raises TlsError."""
        try:
            self._session.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            raise TlsError(_reason(error)) from None
        return self._outgoing.read()

    def last_words(self) -> bytes:
        """After a TlsError: what tells the other side of it."""
        return self._outgoing.read()

    @property
    def certificate(self) -> bytes:
        """What the other side shows, as DER; empty where it shows none."""
        return shown(self._session)

    @property
    def peer(self) -> str:
        """The fingerprint of whom this session is with."""
        return fingerprint(self.certificate)

    @property
    def cipher(self) -> str:
        """By the name that RFC 8446 gives it; empty before the handshake."""
        found = self._session.cipher()
        return found[0] if found else ""

    @property
    def takes_new_keys(self) -> bool:
        """Whether both sides let another session follow this one."""
        return self._session.selected_alpn_protocol() == NEW_KEYS

    @property
    def is_fresh(self) -> bool:
        """Whether the handshake is over and nothing was sent, received or kept beyond it."""
        return self.established and not (self._is_used or self._incoming.pending or self._outgoing.pending)

    def require(self, fingerprints: Iterable[str]) -> None:
        """Raises TlsError unless the other side has one of these keys."""
        require(self.peer, fingerprints)

    def seal(self, pieces: Iterable[bytes | bytearray | memoryview]) -> bytes:
        """Ciphertext of these, each in records of its own. Raises TlsError."""
        self._is_used = True
        try:
            for plaintext in pieces:
                self._session.write(cast(bytes, plaintext))
                self.sealed_records += -(-len(plaintext) // RECORD_BYTES)
        except OSError as error:
            raise TlsError(_reason(error)) from None
        return self._outgoing.read()

    def open_into(self, view: memoryview) -> int:
        """As much plaintext as has arrived and fits; 0 where none has, or `ended`. Raises TlsError."""
        done = 0
        self._is_used = True
        try:
            while done < len(view) and (not done or self._incoming.pending or self._session.pending()):
                count = cast(int, self._session.read(len(view) - done, cast(bytearray, view[done:])))
                if not count:
                    self.ended = True
                    break
                done += count
                self.opened_records += 1
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except OSError as error:
            raise TlsError(_reason(error)) from None
        return done

    def end(self) -> bytes:
        """Say that nothing more comes from this side. Raises TlsError."""
        try:
            self._session.unwrap()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            raise TlsError(_reason(error)) from None
        return self._outgoing.read()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        name = (error.reason or "").upper()
        for word, text in _ALERTS.items():
            if word in name:
                return text
        return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
    return getattr(error, "strerror", None) or str(error)
