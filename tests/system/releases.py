"""Packages of two states of this tree: as it is, and as it was before. Kept in build/releases by commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import booted

from hast.daemon.release import ROOMS

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "releases"
GIT_S = 60


class NoHistory(Exception):
    """This tree has no earlier state."""


def earlier_commit() -> str:
    """HAST_UPGRADE_FROM, else the state before the last commit that changed what a worker is. Raises NoHistory."""
    wanted = os.environ.get("HAST_UPGRADE_FROM")
    if not wanted:
        rooms = [f"src/hast/{room}" for room in ROOMS]
        changed = _git("log", "-1", "--format=%H", "HEAD", "--", *rooms)
        wanted = f"{changed}^"
    return _git("rev-parse", "--verify", f"{wanted}^{{commit}}")


def packages_of(commit: str, suite: str) -> Path:
    """`make deb` of this commit, on this release of Debian; their version is less than that of today's packages."""
    kept = KEPT / f"{suite}-{commit[:12]}"
    if kept.is_dir():
        return kept
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as folder:
        tree, built, done = (Path(folder, name) for name in ("tree", "built", "done"))
        tree.mkdir()
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
        renumbered(booted.packages(suite, tree, built), done, f"~{commit[:12]}")
        done.rename(kept)
    return kept


def renumbered(packages: Path, into: Path, suffix: str) -> Path:
    """The same packages, with this at the end of their version."""
    into.mkdir(parents=True, exist_ok=True)
    for package in sorted(packages.glob("*.deb")):
        tree = into / package.stem
        subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
        control = tree / "DEBIAN/control"
        version = next(line.split()[1] for line in control.read_text().splitlines() if line.startswith("Version:"))
        control.write_text(control.read_text().replace(version, f"{version}{suffix}"))
        subprocess.run(["dpkg-deb", "-b", str(tree), str(into)], check=True, capture_output=True)
        shutil.rmtree(tree)
    return into


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False, timeout=GIT_S)
    if done.returncode:
        raise NoHistory(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()
