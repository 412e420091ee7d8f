"""What carpd remembers of counters beyond its own life."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from onlooker import never

from hast.election.replay import MEMORY, ReplayGuard
from hast.net.counter_memory import CounterMemory


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAST_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_what_was_heard_is_refused_by_the_carpd_after_this_one() -> None:
    """Nobody closes it: the process is killed."""
    before = CounterMemory("7@eth0")
    guard = ReplayGuard(before.seen(), before.note)
    recorded = [1 << 40, (1 << 40) + 1, 1 << 63]
    assert [guard.refusal(counter, 1.0, 0.0) for counter in recorded] == [None] * 3
    guard.sent(99)
    after = ReplayGuard(CounterMemory("7@eth0").seen())
    assert all(after.refusal(counter, 1.0, 0.0) for counter in [*recorded, 99])
    assert after.refusal((1 << 40) + 2, 1.0, 0.0) is None


def test_each_vhid_has_a_memory_of_its_own(state: Path) -> None:
    CounterMemory("7@eth0").note(5)
    assert CounterMemory("8@eth0").seen() == []
    assert {path.stat().st_mode & 0o777 for path in (state / "carp").iterdir()} == {0o600}


def test_the_oldest_give_way_and_the_order_is_kept() -> None:
    memory = CounterMemory("7@eth0")
    for counter in range(MEMORY + 10):
        memory.note(counter)
    assert CounterMemory("7@eth0").seen() == list(range(10, MEMORY + 10))


def test_a_file_that_is_something_else_is_no_memory(state: Path) -> None:
    CounterMemory("7@eth0").close()
    path = state / "carp" / "7%40eth0.seen"
    path.write_bytes(b"rubbish" * 100)
    assert CounterMemory("7@eth0").seen() == []


def test_a_carpd_that_is_killed_at_any_moment_leaves_a_memory(state: Path) -> None:
    """Another process looks at the file while it is written, as the next carpd does, and the kernel that saves it."""
    memory = CounterMemory("7@eth0")
    memory.note(0)
    with memory.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as seen:
        first = seen[:8]
        with never(lambda: seen[:8] != first or not seen[8:16].strip(b"\0")):
            for counter in range(1, 200_000):
                memory.note(counter)
