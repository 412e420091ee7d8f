"""Whom a name stands for among those that are measured."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.contestant import Maker
from bench.machine import REPOSITORY
from bench.matrix import NEAREST
from bench.others import floor, nbdkit_single, qemu_quorum, qemu_quorum_unix
from bench.pairs import Pair, why_not
from hast.lab.processes import LabError

BUILD = REPOSITORY / "build" / "compiled"
DEBIAN = "/usr/bin/python3"
SOURCE = REPOSITORY / "src"

OURS = {
    "hast": Pair("hast", source=SOURCE),
    "hast-tls": Pair("hast-tls", source=SOURCE, secure=True),
    "compiled": Pair("compiled", source=BUILD),
    "debian": Pair("debian", source=SOURCE, python=DEBIAN),
    "debian-tls": Pair("debian-tls", source=SOURCE, python=DEBIAN, secure=True),
    "debian-compiled": Pair("debian-compiled", source=BUILD, python=DEBIAN),
}
OTHERS: dict[str, Maker] = {
    "floor": floor,
    "quorum": qemu_quorum,
    "quorum-unix": qemu_quorum_unix,
    "single": nbdkit_single,
}
NEEDED = {
    "floor": ("cc",),
    "quorum": ("qemu-storage-daemon", "nbdkit"),
    "quorum-unix": ("qemu-storage-daemon", "nbdkit"),
    "single": ("nbdkit",),
}
NAMES = (*OURS, *OTHERS)
MEANING = {
    "debian-compiled": "our pair under Debian's own python3, compiled (`make compiled`): what users of the package run",
    "debian": "our pair under Debian's own python3, plain Python",
    "compiled": "our pair under this checkout's interpreter, compiled",
    "hast": "our pair under this checkout's interpreter, plain Python",
    "floor": "the same processes, bytes and system calls in C, without any safety (`bench/floor/floor.c`)",
    "quorum": "qemu-storage-daemon, quorum of a file and an nbdkit over TCP",
    "single": "nbdkit with one file: no second copy",
}


@dataclass(frozen=True, slots=True)
class Field:
    """Those that can run here, and why others are left out."""

    makers: dict[str, Maker]
    left_out: tuple[str, ...]

    def best(self) -> Pair:
        """What users run, or what is there of ours that comes nearest to it."""
        return next(OURS[name] for name in NEAREST if name in self.makers)


def maker(name: str) -> Maker:
    """`hast=FOLDER`: the pair over the package in another folder, a build or another commit's src/. Raises LabError."""
    if name.startswith("hast="):
        source = Path(name.partition("=")[2]).resolve()
        if not (source / "hast" / "__init__.py").exists():
            raise LabError(f"{source} holds no package hast")
        return replace(OURS["hast"], name=name, source=source)
    if name not in NAMES:
        raise LabError(f"no such contestant: {name}")
    if reason := lacks(name):
        raise LabError(f"{name} cannot be measured here: {reason}")
    return OURS.get(name) or OTHERS[name]


def lacks(name: str) -> str | None:
    """Why this machine cannot run one of NAMES; None where it can."""
    if pair := OURS.get(name):
        reason = stale(BUILD, SOURCE) if pair.source == BUILD else None
        return reason or why_not(pair.source or SOURCE, pair.python or sys.executable, pair.source == BUILD)
    missing = [program for program in NEEDED[name] if shutil.which(program) is None]
    return f"{', '.join(missing)} not installed" if missing else None


def field() -> Field:
    """All of NAMES, less what this machine has no programs for."""
    reasons = {name: lacks(name) for name in NAMES}
    makers = {name: OURS.get(name) or OTHERS[name] for name, reason in reasons.items() if reason is None}
    left_out = [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
    return Field(makers, tuple(left_out))


def several(name: str, disks: int) -> Maker:
    """The same with several disks, each of its own."""
    label = f"{name} x{disks}"
    if name in OURS:
        return replace(OURS[name], name=label, disks=disks)
    return partial({"floor": floor, "single": nbdkit_single}[name], name=label, disks=disks)


def stale(build: Path, source: Path) -> str | None:
    """Why that build is not one of these sources; None where it is."""
    stamp = build / ".stamp"
    if not stamp.exists():
        return "there is no build (make compiled)"
    made_s = stamp.stat().st_mtime
    newer = [path for path in source.rglob("*.py") if path.stat().st_mtime > made_s]
    return f"the build is older than {newer[0].relative_to(source)} (make compiled)" if newer else None
