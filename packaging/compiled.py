"""What `make compiled` builds with mypyc, and how. The sources are the same, and run as they are without a build.

The rooms without I/O, where all that is done for each request of a client is decided, and of the workers the modules
that every request goes through.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOMS = ("format", "replication")
WORKER = (
    "buffers.py",
    "outbox.py",
    "reactor.py",
    "worker_base.py",
    "worker_primary.py",
    "worker_secondary.py",
    "disk/provider.py",
    "disk/ring.py",
    "disk/writeback.py",
    "export/export.py",
    "export/export_connection.py",
    "export/fuse.py",
    "export/intake.py",
    "export/receive_memory.py",
    "link/primary_link.py",
)
"""Of the room worker/. What runs in the threads of the disk stays Python: there a compiled class would share between
threads what `threading.local` keeps apart (disk/direct.py)."""
RINGS = ("daemon/io_uring.py",)
"""What a disk past the cache and a ublk device are driven by."""
SOURCE = Path("src")
VARIABLE = "HAST_COMPILED"
"""Set to 1: `pip install .` and `setup.py build` make a compiled build."""


AS_IT_IS = ("nv.py",)
"""Stays Python: Debian 13's mypyc stumbles over one of its aliases, and nothing of it is done for each request."""
LENIENT = ("--disable-error-code=arg-type", "--disable-error-code=misc")
"""`make lint` checks the types; a distribution's older mypy takes the members of some enums for plain str."""


def extensions(debug: bool = False) -> list[Any]:
    """For setuptools; to be asked with the project's folder as working directory."""
    from mypyc.build import mypycify

    modules = [str(path) for room in ROOMS for path in _sources(room)]
    modules += [str(SOURCE / "hast" / "worker" / name) for name in WORKER]
    modules += [str(SOURCE / "hast" / name) for name in RINGS]
    found: list[Any] = mypycify([*LENIENT, *modules], opt_level="3", debug_level="1" if debug else "0")
    return found


def _sources(room: str) -> list[Path]:
    return sorted(path for path in (SOURCE / "hast" / room).rglob("*.py") if path.name not in AS_IT_IS)
