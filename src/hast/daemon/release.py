"""Which code this process runs, told apart from other installations of the same version: a version and a digest.

Taken when this module is imported, from the files that the process is made of; a file that is replaced later changes
what the next process says, not this one.
"""

from __future__ import annotations

import hashlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from hast import __version__

ROOMS = ("format", "config", "election", "replication", "daemon", "worker")
"""What a worker is made of."""
_ROOT = Path(__file__).resolve().parent.parent


def _digest() -> str:
    """Of names, sizes and times: reading every file would cost more than a start may."""
    known = hashlib.sha256()
    for room in ROOMS:
        for path in sorted(each for each in (_ROOT / room).rglob("*") if each.suffix in (".py", ".so")):
            status = path.stat()
            known.update(f"{path.relative_to(_ROOT)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return known.hexdigest()[:12]


def is_compiled() -> bool:
    """Whether this interpreter takes what every request goes through as machine code (docs/performance.md, "Compiled"):
    a library that was built for another one lies beside the sources and is not loaded."""
    return any((_ROOT / "replication" / f"writes{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


RELEASE = f"{__version__}+{_digest()}"
