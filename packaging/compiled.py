"""What `make compiled` builds with mypyc, and how. The sources are the same, and run as they are without a build.

The rooms without I/O: all that is done for each request of a client is decided there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOMS = ("format", "replication")
SOURCE = Path("src")
VARIABLE = "HAST_COMPILED"
"""Set to 1: `pip install .` and `setup.py build` make a compiled build."""


def extensions(debug: bool = False) -> list[Any]:
    """For setuptools; to be asked with the project's folder as working directory."""
    from mypyc.build import mypycify

    modules = [str(path) for room in ROOMS for path in sorted((SOURCE / "hast" / room).rglob("*.py"))]
    found: list[Any] = mypycify(modules, opt_level="3", debug_level="1" if debug else "0", group_name="hast_compiled")
    return found
