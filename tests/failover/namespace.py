"""Runs a function in a forked child with a mount namespace of its own; nothing it mounts outlives it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000


def run_in_namespace(function: Callable[[], None]) -> None:
    """Raises AssertionError with the child's traceback when `function` raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
            assert libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) == 0, os.strerror(ctypes.get_errno())
            function()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, text.decode()


class Loops:
    """Loop devices over sparse files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.devices: list[str] = []

    def make(self, size_mib: int) -> str:
        path = self._directory / f"loop{len(self.devices)}.img"
        with path.open("wb") as file:
            file.truncate(size_mib * 1024 * 1024)
        done = subprocess.run(["losetup", "-f", "--show", str(path)], capture_output=True, text=True, check=True)
        self.devices.append(done.stdout.strip())
        return self.devices[-1]

    def close(self) -> None:
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)


def sh(*argv: str) -> str:
    """Run a program that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
    assert done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}"
    return done.stdout
