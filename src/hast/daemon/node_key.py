"""This node's key: what it proves its identity with, and the fingerprint by which others know it.

An ECDSA key on P-256 and a certificate over it that nobody else signed, in the state directory, for root alone. Whom to
trust is said by fingerprints in hast.conf, so there is no authority, no date and no name to be checked. Made by the
openssl(1) command; never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import tempfile
from pathlib import Path

from hast.daemon.paths import make_state_directory, state_directory
from hast.daemon.privileges import worker_identity

KEY, CERTIFICATE = "node.key", "node.crt"
NEXT_KEY, NEXT_CERTIFICATE = "node-next.key", "node-next.crt"
"""Of a change of keys that is prepared: the others are told of the new fingerprint first."""
VALID_DAYS = 36500
OPENSSL_LIMIT_S = 30.0


class NodeKeyError(Exception):
    """`str()` is one line: what is missing or wrong, and what to do."""


def fingerprint(der: bytes) -> str:
    """Of a certificate: SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


def read_fingerprint(certificate: Path) -> str:
    """Of a certificate file. Raises NodeKeyError."""
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(certificate.read_text().strip()))
    except FileNotFoundError:
        raise NodeKeyError(f"there is no {certificate}; make the node's key with: hastctl keygen") from None
    except (OSError, ValueError) as error:
        raise NodeKeyError(f"{certificate} cannot be read: {error}") from None


def own_fingerprint(directory: Path | None = None) -> str:
    """Of this node; of another daemon here where `directory` holds its key. Raises NodeKeyError."""
    return read_fingerprint((directory or state_directory()) / CERTIFICATE)


def generate(directory: Path | None = None, *, following: bool = False) -> str:
    """Make the key of this node (`following`: the one to change to later) and return its fingerprint. Raises
    NodeKeyError, also when there is one."""
    names = (NEXT_KEY, NEXT_CERTIFICATE) if following else (KEY, CERTIFICATE)
    try:
        directory = directory or make_state_directory()
        key, certificate = (directory / name for name in names)
        if key.exists() or certificate.exists():
            raise NodeKeyError(f"{key} is there already; it is not overwritten")
        with tempfile.TemporaryDirectory(dir=directory, prefix=".keygen-") as made:
            new_key, new_certificate = Path(made, "key"), Path(made, "crt")
            _openssl(new_key, new_certificate)
            for each in (new_key, new_certificate):
                each.chmod(0o600)
                share(each)
            os.link(new_certificate, certificate)
            os.link(new_key, key)
    except OSError as error:
        raise NodeKeyError(f"no key can be made in {error.filename or directory}: {error.strerror}") from None
    return read_fingerprint(certificate)


def switch(directory: Path | None = None) -> str:
    """Change to the key that `generate(following=True)` made; returns its fingerprint. Links that are up stay up.
    Raises NodeKeyError."""
    directory = directory or state_directory()
    found = read_fingerprint(directory / NEXT_CERTIFICATE)
    try:
        # Between the two a connection fails and is tried again; so is this, where it was cut short there.
        if (directory / NEXT_KEY).exists():
            (directory / NEXT_KEY).replace(directory / KEY)
        (directory / NEXT_CERTIFICATE).replace(directory / CERTIFICATE)
    except OSError as error:
        raise NodeKeyError(f"{error.filename}: {error.strerror}") from None
    return found


def share(path: Path) -> None:
    """hastd's workers make the sessions of links, and read the key; nobody else does. Raises OSError."""
    worker = worker_identity()
    if worker is not None and (path.stat().st_gid, path.stat().st_mode & 0o777) != (worker.gid, 0o640):
        os.chown(path, -1, worker.gid)
        path.chmod(0o640)


def share_own() -> None:
    """The same of the key that is there. Raises OSError."""
    worker, directory = worker_identity(), state_directory()
    if worker is None or not (directory / KEY).exists():
        return
    for name in (KEY, CERTIFICATE, NEXT_KEY, NEXT_CERTIFICATE):
        if (directory / name).exists():
            share(directory / name)


def _openssl(key: Path, certificate: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", str(VALID_DAYS), "-subj", "/CN=hast"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=OPENSSL_LIMIT_S, umask=0o077
        )
    except FileNotFoundError:
        raise NodeKeyError("openssl is not installed, and makes the key (Debian: apt install openssl)") from None
    except subprocess.TimeoutExpired:
        raise NodeKeyError(f"openssl made no key within {OPENSSL_LIMIT_S:g} s") from None
    if done.returncode:
        raise NodeKeyError(f"openssl made no key: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
