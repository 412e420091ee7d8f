"""What is measured: a running server of one or several replicated disks, each on an NBD socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

SIZE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Contestant:
    """`uris`: of its disks. `close` ends it; `pids` are its processes, without those that they started."""

    name: str
    uris: tuple[str, ...]
    close: Callable[[], None]
    pids: tuple[int, ...]


Maker: TypeAlias = Callable[[Path], Contestant]
"""Starts one in this directory. Raises LabError."""
