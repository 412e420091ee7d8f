"""Runs the whole matrix and yields the record: each figure of each round, with the machine, versions and the commit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from bench import events
from bench.contestants import DEBIAN, Field, field, several
from bench.machine import describe
from bench.matrix import ONE_WAY_MS, Length, sections
from bench.measure import as_json, contest, rounded
from bench.pairs import PAST_CACHE
from bench.processes import busy_share
from hast.lab.processes import LabError

VERSIONS = {
    "debian_python": [DEBIAN, "--version"],
    "fio": ["fio", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "qemu": ["qemu-storage-daemon", "--version"],
    "cc": ["cc", "--version"],
}
IDLE_S = 5.0
LOOK_S = 1.0
"""How long is looked at what others do on the machine, before each part."""


def measure_all(length: Length, say: Callable[[str], None], keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Section after section; `keep` gets after each what there is so far. Raises LabError where not even the first
    could be measured."""

    def done() -> None:
        record["minutes"] = round((time.monotonic() - began_s) / 60, 1)
        keep(record)

    began_s = time.monotonic()
    ground = field()
    left_out = list(ground.left_out)
    for line in left_out:
        say(f"left out: {line}")
    record: dict[str, Any] = {
        "machine": describe(),
        "versions": versions(ground.best().python or sys.executable),
        "length": asdict(length),
        "best": ground.best().name,
        "sections": {},
        "events": {},
        "left_out": left_out,
        "others": [],
    }
    for section in sections(ground.makers, ground.best(), several, length):
        say(f"-- {section.name}")
        record["others"].append(round(busy_share(LOOK_S), 2))
        try:
            figures = contest(section.makers, section.jobs, section.rounds, section.seconds, section.thorough)
            record["sections"][section.name] = as_json(figures)
            done()
        except LabError as error:
            if not record["sections"]:
                raise
            left_out.append(f"{section.name}: {error}")
            say(left_out[-1])
    for name, measure in _events(ground, length).items():
        say(f"-- {name}")
        record["others"].append(round(busy_share(LOOK_S), 2))
        try:
            record["events"][name] = {figure: rounded(values) for figure, values in measure().items()}
            say(f"{record['events'][name]}")
            done()
        except LabError as error:
            left_out.append(f"{name}: {error}")
            say(left_out[-1])
    done()
    return record


def _events(ground: Field, length: Length) -> dict[str, Callable[[], events.Named]]:
    best = ground.best()
    delayed = replace(best, delay_ms=ONE_WAY_MS)
    rounds = min(length.rounds, 5) if length.everything else 2
    return {
        "resync": lambda: events.resync(best, rounds, length.seconds),
        "resync with 1 ms": lambda: events.resync(delayed, rounds, length.seconds),
        "join": lambda: events.join(best, rounds),
        "join past the cache": lambda: events.join(replace(best, settings=PAST_CACHE), rounds),
        "idle": lambda: events.idle(best, rounds, IDLE_S),
    }


def versions(python: str) -> dict[str, str]:
    """Of the programs that are measured or measure; `python`: the interpreter of ours that options are measured on."""
    has_lzf = subprocess.run([python, "-c", "import lzf"], capture_output=True, timeout=20).returncode == 0
    coder = "python-lzf" if has_lzf else "our own coder in Python"
    return {**{name: version(command) for name, command in VERSIONS.items()}, "lzf": coder}


def version(command: list[str]) -> str:
    """The first line that a program prints of itself; empty where it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]
