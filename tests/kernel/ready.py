"""What the tests of this folder need before a machine starts: the kernel, and what of hastd goes into it."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from kernels import Kernel, MachineError, fetch
from machine import ensure_tools

import hast

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CACHE = REPOSITORY / "build" / "kernel-machine"
LAZY = [
    "importlib.readers",
    "runpy",
    "concurrent.futures.thread",
    "hast.lab.pauses",
    "lark.parsers.lalr_interactive_parser",
]
"""Imported when they are used."""
NOT_NEEDED = ("hast.sim", "hast.lab.", "hast.net", "hast.failover.devd")


def kernel_or_skip() -> Kernel:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        ensure_tools()
        return fetch(CACHE)
    except MachineError as error:
        pytest.skip(str(error))


def hastd_modules() -> list[str]:
    found = (each.name for each in pkgutil.walk_packages(hast.__path__, "hast."))
    return [name for name in found if not name.startswith(NOT_NEEDED) and not name.endswith("__main__")] + LAZY
