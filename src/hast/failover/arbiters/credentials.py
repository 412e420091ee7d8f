"""What an etcd that does not serve everybody asks for: its CA, our certificate, a user. One file, for root alone.

Lines of a keyword and a value: `ca PATH`, `cert PATH`, `key PATH`, `user NAME`, `password TEXT`; `#` begins a comment.
Opens these files and nothing else.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass

from hast.daemon.private_file import is_private

_KEYWORDS = ("ca", "cert", "key", "user", "password")
_MAX_BYTES = 64 * 1024


class CredentialsError(Exception):
    """The file cannot be used; `str()` is one line that names it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Empty where nothing is asked for. `ca`, `cert` and `key` are paths of PEM files."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password: str = ""

    def context(self) -> ssl.SSLContext:
        """How servers are judged, and what they are shown. Raises CredentialsError."""
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ValueError) as error:
            raise CredentialsError(f"certificates of the arbiter ({self.ca} {self.cert}): {error}") from None
        return context


def load(path: str) -> Credentials:
    """Raises CredentialsError: absent, readable by others, or not understood."""
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if not is_private(status):
                mode = stat.filemode(status.st_mode)
                raise CredentialsError(f"{path} holds a secret and others may read it ({mode}): chmod 600 {path}")
            text = file.read(_MAX_BYTES)
    except (OSError, UnicodeError) as error:
        raise CredentialsError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    return _parse(path, text)


def _parse(path: str, text: str) -> Credentials:
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        keyword, _, value = line.strip().partition(" ")
        if keyword not in _KEYWORDS or not value.strip() or keyword in values:
            raise CredentialsError(
                f"{path}:{number}: one of {', '.join(_KEYWORDS)} with a value is expected, each once"
            )
        values[keyword] = value.strip()
    if ("user" in values) != ("password" in values) or ("key" in values and "cert" not in values):
        raise CredentialsError(f"{path}: user and password belong together, and a key to its cert")
    return Credentials(**values)
