"""A drill from beginning to end: read, review, translate, seal, rehearse, simulate, report.

Prints as it goes. What it makes in the lab is gone when it returns, however it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hast.config.model import ArbiterKind, ConfigError
from hast.drill import machine
from hast.drill.decisions import seal
from hast.drill.decisions.outcome import Outcome
from hast.drill.decisions.result import Result, Simulated
from hast.drill.decisions.review import Finding, heaviest_first, review
from hast.drill.decisions.site import Site
from hast.drill.decisions.steps import Step, estimate_s, steps_of
from hast.drill.decisions.translate import Rehearsed, Tools, translate
from hast.drill.pair import Pair, missing_programs
from hast.drill.reading import read_site
from hast.drill.rehearsal import Rehearsal
from hast.drill.report import page, text
from hast.drill.simulated import simulate
from hast.lab.processes import LabError
from hast.sim.campaign import cores

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_OSERR = 71
EX_CANTCREAT = 73
EX_NOPERM = 77
SEEDS = 2000
SIMULATE_S = 90.0
"""For the campaign, where nobody asked for a number of seeds."""
RUNS_A_SECOND = 20


class DrillError(Exception):
    """The drill cannot be held; `str()` is one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Request:
    """`node`: read the files as this node; `peer`: folder with the other node's files; `seeds` 0: no simulator."""

    hast_conf: str
    node: str | None = None
    peer: str | None = None
    rounds: int = 1
    short: bool = False
    seeds: int = SEEDS
    simulate_limit_s: float = SIMULATE_S
    report: str | None = None
    plan: bool = False
    checked: tuple[tuple[bool, str], ...] = ()
    """What `hastctl check` says of this node: whether it is an error, and the text."""


def hold(request: Request) -> int:
    """Returns the exit code. Raises DrillError."""
    began_s = time.monotonic()
    try:
        site = read_site(request.hast_conf, request.node, request.peer)
    except ConfigError as error:
        raise DrillError(str(error), error.exit_code) from None
    tools = Tools(zfs_fuse=bool(shutil.which("zfs-fuse") and shutil.which("zpool")), etcd=bool(shutil.which("etcd")))
    rehearsed = translate(site, tools)
    findings = _findings(site, request)
    steps = list(steps_of(site, request.rounds, request.short, bool(rehearsed.pools)))
    if request.plan:
        seal.check(rehearsed.files)
        seconds = estimate_s(site, steps) + min(request.seeds / RUNS_A_SECOND, request.simulate_limit_s)
        _say(text.plan(site, rehearsed, steps, request.seeds, seconds))
        _say([str(finding) for finding in findings])
        return 0
    _refuse_without_means()
    report = _writable(request.report) if request.report else None
    _say([*text.head(site, rehearsed), *(str(finding) for finding in findings)])
    result = _rehearse(site, rehearsed, findings, steps, request, began_s)
    _say(text.summary(result))
    if report is not None:
        report.write_text(page.page(result), encoding="utf-8")
        _say([f"report: {report}"])
    return EX_FAILED if result.failed else 0


def _findings(site: Site, request: Request) -> tuple[Finding, ...]:
    """Of this machine only where its own files are read as its own."""
    own = [] if request.node is not None else [*machine.look(site.nodes[0]), *machine.checked(list(request.checked))]
    return heaviest_first([*own, *review(site)])


def _rehearse(
    site: Site,
    rehearsed: Rehearsed,
    findings: tuple[Finding, ...],
    steps: list[tuple[int, Step]],
    request: Request,
    began_s: float,
) -> Result:
    told = 0

    def tell(outcome: Outcome) -> None:
        nonlocal told
        told += 1
        _say(text.line(told, len(steps), outcome))

    with _ended_by_signals():
        try:
            with Pair(rehearsed) as pair:
                rehearsal = Rehearsal(site, pair, findings, tell)
                rehearsal.play(steps)
                rehearsal.finish()
        except LabError as error:
            raise DrillError(f"the lab: {str(error).splitlines()[0]}", EX_OSERR) from None
        simulated = None
        if request.seeds:
            simulated = _simulate(site, request)
    return Result(
        site,
        rehearsed,
        findings,
        tuple(rehearsal.outcomes),
        tuple(rehearsal.left_out),
        tuple(rehearsal.acknowledged),
        tuple(rehearsal.rests),
        simulated,
        time.monotonic() - began_s,
        request.rounds,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() - (time.monotonic() - began_s))),
    )


def _simulate(site: Site, request: Request) -> Simulated:
    _say([f"simulator: {request.seeds} seeds, or as many as fit into the time"])
    mode = site.nodes[0].hast.resources[site.resources[0]].replication
    arbitrated = site.arbiter.kind is not ArbiterKind.NONE
    limit_s = request.simulate_limit_s
    return simulate(request.seeds, mode, arbitrated, cores(), limit_s, lambda line: _say([f"  {line}"]))


def _refuse_without_means() -> None:
    """One line each. Raises DrillError."""
    if os.geteuid() != 0:
        raise DrillError("drill needs root: network namespaces, mounts and loop devices of its own", EX_NOPERM)
    missing = missing_programs()
    if missing:
        raise DrillError(f"drill needs {', '.join(missing)} (iproute2, nftables, util-linux)", EX_UNAVAILABLE)
    for node in ("/dev/fuse", "/dev/loop-control"):
        if not Path(node).exists():
            raise DrillError(f"drill needs {node}", EX_UNAVAILABLE)


def _writable(path: str) -> Path:
    """Found out before, not after ten minutes. Raises DrillError."""
    report = Path(path).absolute()
    try:
        report.open("a").close()
    except OSError as error:
        raise DrillError(f"{path}: {error.strerror}", EX_CANTCREAT) from None
    return report


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """TERM and HUP end it as ^C does: everything is taken down."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(lines: list[str]) -> None:
    if lines:
        print("\n".join(lines), flush=True)
