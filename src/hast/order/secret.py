"""The order token: made here, told once, kept as a hash in a file that is root's alone. Compared in constant time.

The token has 192 random bits, so its SHA-256 needs no salt and no slowness: nobody can try them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from hast.daemon.private_file import is_private

DEFAULT_TOKEN_FILE = Path("/etc/hast-order.token")
TOKEN_BYTES = 24
MAX_FILE_BYTES = 4096
_LINE = re.compile(r"sha256 ([0-9a-f]{64})\s*\Z")


class SecretError(Exception):
    """There is no token that could be right. `str()` is one line."""


def make(path: Path) -> str:
    """A new token, in the place of any former one. Raises OSError."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"sha256 {_hash(token)}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return token


def is_right(path: Path, given: str) -> bool:
    """The file is read each time, so a new token holds at once, and a file that is taken away ends all. Raises
    SecretError."""
    return hmac.compare_digest(_kept(path), _hash(given))


def _kept(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not is_private(status):
                raise SecretError(f"{path} is not a file of root's alone: chown root {path}; chmod 600 {path}")
            content = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}") from None
    found = _LINE.match(content.decode("ascii", "replace"))
    if found is None:
        raise SecretError(f"{path} holds no token: hast-order --make-token makes one")
    return found[1]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
