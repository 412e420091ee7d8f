"""What is not a job of fio alone: a new disk that is filled, one of 8 TiB that joins, and a pair that does nothing.

Each runs on a pair of its own and yields named figures, one a round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.jobs import Outcome, job_named, run
from bench.pairs import Pair, RunningPair
from bench.processes import family, wakeups
from hast.daemon.asking import ask
from hast.daemon.conversation import ConversationError
from hast.lab.loopback import LoopbackPair, Node
from hast.lab.processes import LabError, wait_until

Named = dict[str, list[float]]
DISK = "disk1"
MIB = 1 << 20
RESYNC_BYTES = 2 << 30
FILLED_MIB = 2000
JOIN_BYTES = 8 << 40
JOIN_CLIENT_S, JOIN_AFTER_S = 6.0, 2.0
CLIENT_S = 2.0
"""How long a client works at a time, less than a copy takes."""
SETTLE_S = 10.0
"""After it nothing of what a client did is left to be noted."""
LOOK_S = 0.05
COPY_TIMEOUT_S = 300.0
ASK_TIMEOUT_S = 20.0
CLIENT = job_named("4k randwrite QD1")
SEQUENTIAL = replace(job_named("1m write QD8"), size_mib=FILLED_MIB)
DURABLE = replace(SEQUENTIAL, options=(*SEQUENTIAL.options, "--fsync=12"))
"""Flushed as often as a copy is, after each 12 MiB."""


class Copy(NamedTuple):
    """A copy that was watched: seconds on the clock of time.monotonic, and what was left at its first sight."""

    begin_s: float
    end_s: float
    left_bytes: int

    @property
    def rate_mib_s(self) -> float:
        return self.left_bytes / MIB / max(self.end_s - self.begin_s, LOOK_S)


def resync(pair: Pair, rounds: int, seconds: float) -> Named:
    """A new disk is filled, in each round once with nobody else and once under a client at depth 1; before that what a
    sequential writer gets, without and with flushes, and that client alone. What is flushed begins with nothing that
    another left in the page cache. `covered`: of the client's time, the share that the copy took. Raises LabError."""
    names = ("sequential", "durable", "alone", "loaded", "idle_p99_us", "loaded_p99_us", "loaded_longest_us", "covered")
    figures: Named = {name: [] for name in names}
    with running(replace(pair, size_bytes=RESYNC_BYTES)) as nodes:
        uris = (nodes.one.nbd_uri(DISK),)
        run(SEQUENTIAL, uris, 0)
        for _round in range(rounds):
            figures["sequential"].append(run(SEQUENTIAL, uris, seconds).value)
            os.sync()
            figures["durable"].append(run(DURABLE, uris, seconds).value)
            figures["idle_p99_us"].append(run(CLIENT, uris, CLIENT_S).p99_us)
            os.sync()
            figures["alone"].append(end_of_copy(nodes, *begin_copy(nodes)).rate_mib_s)
            with ThreadPoolExecutor(1) as others:
                begun = begin_copy(nodes)
                client = others.submit(_timed, uris)
                copy = end_of_copy(nodes, *begun)
                begin_s, end_s, outcome = client.result()
            figures["loaded"].append(copy.rate_mib_s)
            figures["loaded_p99_us"].append(outcome.p99_us)
            figures["loaded_longest_us"].append(outcome.longest_us)
            figures["covered"].append(covered(copy, begin_s, end_s))
    return figures


def covered(copy: Copy, begin_s: float, end_s: float) -> float:
    """Of this time, the share during which the copy was made."""
    shared_s = min(copy.end_s, end_s) - max(copy.begin_s, begin_s)
    return max(0.0, shared_s) / (end_s - begin_s)


def join(pair: Pair, rounds: int) -> Named:
    """The longest wait of a client at depth 1 while a node with a new disk of 8 TiB joins; and while none does, which
    is what the machine itself makes it wait. Raises LabError."""
    figures: Named = {"idle_longest_us": [], "longest_us": []}
    for _round in range(rounds):
        with running(replace(pair, size_bytes=JOIN_BYTES)) as nodes, ThreadPoolExecutor(1) as others:
            uris = (nodes.one.nbd_uri(DISK),)
            run(CLIENT, uris, CLIENT_S)
            figures["idle_longest_us"].append(run(CLIENT, uris, JOIN_CLIENT_S).longest_us)
            new_disk(nodes.two)
            client = others.submit(run, CLIENT, uris, JOIN_CLIENT_S)
            time.sleep(JOIN_AFTER_S)
            nodes.two.hastctl("role", "secondary", DISK)
            joined = wait_for(nodes.one, "the other node", lambda status: bool(status["connected"]))
            outcome: Outcome = client.result()
            if not joined["sync"] and joined["status"] == "complete":
                raise LabError("a node with a new disk joined, and nothing was owed to it")
            figures["longest_us"].append(outcome.longest_us)
    return figures


def idle(pair: Pair, rounds: int, seconds: float) -> Named:
    """Wake-ups a second of the busiest worker, and of the busiest other process, while nobody does anything."""
    figures: Named = {"worker": [], "other": []}
    with running(pair) as nodes:
        run(CLIENT, (nodes.one.nbd_uri(DISK),), 1.0)
        workers = {status_of(node)["workerpid"] for node in (nodes.one, nodes.two)}
        time.sleep(SETTLE_S)
        for _round in range(rounds):
            before = {pid: wakeups(pid) for pid in family((nodes.one.pid, nodes.two.pid))}
            time.sleep(seconds)
            rates = {pid: (wakeups(pid) - count) / seconds for pid, count in before.items()}
            figures["worker"].append(max(rate for pid, rate in rates.items() if pid in workers))
            figures["other"].append(max(rate for pid, rate in rates.items() if pid not in workers))
    return figures


@contextlib.contextmanager
def running(pair: Pair) -> Iterator[LoopbackPair]:
    """The nodes, up and complete; gone afterwards with their files. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-") as directory:
        both = RunningPair(pair, Path(directory))
        try:
            both.nodes.bring_up()
            yield both.nodes
        finally:
            both.close()


def new_disk(node: Node) -> None:
    """The node leaves, and its disk is an empty one from now on. Raises LabError."""
    node.hastctl("role", "init", DISK)
    path = node.disk_file(DISK)
    size_bytes = path.stat().st_size
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size_bytes)
    node.hastctl("create", DISK)


def begin_copy(nodes: LoopbackPair) -> tuple[float, int]:
    """node2 gets a new disk and joins: when its filling was first seen, and what was left then. Raises LabError."""
    new_disk(nodes.two)
    nodes.two.hastctl("role", "secondary", DISK)
    sync = wait_for(nodes.one, "a copy", lambda status: status["sync"] is not None)["sync"]
    return time.monotonic(), sync["total_bytes"] - sync["done_bytes"]


def end_of_copy(nodes: LoopbackPair, begin_s: float, left_bytes: int) -> Copy:
    """Wait for it. Raises LabError."""
    wait_for(nodes.one, "the end of a copy", lambda status: status["status"] == "complete")
    return Copy(begin_s, time.monotonic(), left_bytes)


def _timed(uris: tuple[str, ...]) -> tuple[float, float, Outcome]:
    outcome = run(CLIENT, uris, CLIENT_S)
    end_s = time.monotonic()
    return end_s - CLIENT_S, end_s, outcome


def wait_for(node: Node, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status that held. Raises LabError."""
    for _passed in wait_until(f"{what} on {node.name}", COPY_TIMEOUT_S, LOOK_S):
        status = status_of(node)
        if holds(status):
            return status
    raise AssertionError("wait_until ends by LabError")


def status_of(node: Node) -> dict[str, Any]:
    """As docs/control.md has it. Raises LabError."""
    request = {"command": "status", "resources": [DISK]}
    path = str(node.directory / "run" / "hastctl")
    try:
        answer = asyncio.run(ask(path, request, ASK_TIMEOUT_S, ASK_TIMEOUT_S))
        status: dict[str, Any] = answer["resources"][0]
    except (OSError, TimeoutError, ConversationError, ValueError, LookupError, TypeError) as error:
        raise LabError(f"{node.name} does not tell its status: {error}") from None
    return status
