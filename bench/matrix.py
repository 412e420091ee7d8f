"""What is run on whom: the sections that a person would choose, in two lengths. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.contestant import Maker
from bench.jobs import Job, compressible, job_named
from bench.others import qemu_quorum_direct, qemu_single_direct
from bench.pairs import PAST_CACHE, Pair
from bench.verdict import LEAST_PAIRS

ONE_WAY_MS = 0.5
"""Delay of the emulated cable: 1 ms for the round trip."""
WRITE_MS = 1.0
"""Of a disk that is slower than memory."""
MODE_JOBS = ("4k randwrite QD1", "4k randwrite QD32")
MODES = ("fullsync", "memsync", "async")
NEAREST = ("debian-compiled", "debian", "compiled", "hast")
"""Ours, what users run first."""
THREE = 3
SHORT_S = 3
"""Length of a job outside of the main section, at most."""
WRITES = ("4k randwrite QD1", "4k randwrite QD4", "4k randwrite QD32", "4k randwrite QD128")
LARGE = ("128k write QD8", "1m write QD8")
REST = ("4k randread QD32", "4k 70/30 QD32", "4k write and fsync", "4k randwrite QD32 beyond")
FEW = ("4k randwrite QD32", "4k randwrite QD1", "4k randread QD32", "128k write QD8")
DISKS = ("4k randwrite QD32", "4k randread QD32", "4k randwrite QD1", "128k write QD8", "4k write and fsync")
TWO = ("4k randwrite QD32", "128k write QD8")


@dataclass(frozen=True, slots=True)
class Length:
    """Rounds, seconds of a job in the main section, and whether all of it is run."""

    rounds: int
    seconds: int
    everything: bool


DAILY = Length(3, 2, everything=False)
"""In a quarter of an hour."""
RECORD = Length(6, 4, everything=True)
"""For docs/performance/."""
TRIAL = Length(1, 1, everything=True)
"""Does all of it run? Its figures are worth nothing."""


@dataclass(frozen=True, slots=True)
class Section:
    """Contestants that run in turns. `thorough`: see measure.contest."""

    name: str
    makers: tuple[Maker, ...]
    jobs: tuple[Job, ...]
    rounds: int
    seconds: int
    thorough: bool = False


def sections(
    makers: Mapping[str, Maker], best: Pair, several: Callable[[str, int], Maker], length: Length
) -> Sequence[Section]:
    """`makers`: who can run here; `best`: the build of ours that options and modes are measured on."""

    def chosen(*names: str) -> tuple[Maker, ...]:
        return tuple(makers[name] for name in names if name in makers)

    seconds = min(length.seconds, SHORT_S)
    to_tell = max(length.rounds, LEAST_PAIRS) if length.rounds > 1 else 1
    mode_s = seconds if length.everything else 1

    def modes(write_ms: float) -> tuple[Maker, ...]:
        delayed = replace(best, delay_ms=ONE_WAY_MS, write_ms=write_ms)
        return tuple(replace(delayed, name=mode, settings=(f"replication {mode}",)) for mode in MODES)

    options = (
        replace(best, name="none of them"),
        *(replace(best, name=line, settings=(line,)) for line in ("checksum crc32", "checksum sha256")),
        *(replace(best, name=line, settings=(line,)) for line in ("compression none", "compression lzf")),
        replace(best, name="TLS", secure=True),
    )
    small = _jobs(*(WRITES if length.everything else (WRITES[0], WRITES[2])))
    every = small + _jobs(*LARGE, *(REST if length.everything else REST[:1]))
    found = [
        Section(
            "main",
            chosen(*NEAREST, "floor", "quorum", "single"),
            every,
            length.rounds,
            length.seconds,
            thorough=True,
        ),
        Section("modes", modes(0), _jobs(*MODE_JOBS[: 1 + length.everything]), to_tell, mode_s),
        Section("slow disks", modes(WRITE_MS), _jobs(MODE_JOBS[0]), to_tell, mode_s),
        Section(
            "disks",
            (
                replace(best, name="ours", settings=PAST_CACHE),
                partial(qemu_quorum_direct, name="quorum past the cache"),
                partial(qemu_single_direct, name="one copy past the cache"),
            ),
            _jobs(*(DISKS if length.everything else DISKS[:2])),
            length.rounds,
            seconds,
            thorough=True,
        ),
        Section("options", options, tuple(compressible(job) for job in _jobs(*TWO)), length.rounds, seconds),
        Section(
            "three",
            (best, *(several(name, THREE) for name in (best.name, "floor", "single") if name in makers)),
            _jobs(*TWO),
            length.rounds,
            seconds,
        ),
    ]
    if length.everything:
        sizes = (replace(best, name="1 GiB"), replace(best, name="8 TiB", size_bytes=8 << 40))
        found.append(Section("size", sizes, _jobs(*FEW[:2]), length.rounds, seconds))
    return found


def _jobs(*names: str) -> tuple[Job, ...]:
    return tuple(job_named(name) for name in names)
