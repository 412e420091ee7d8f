"""hast-devd holds up a shutdown: what it asks of logind in which state, and what happens when a shutdown begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fake_hastd import FakeHastd

from hast.failover.devd import inhibit
from hast.failover.devd.inhibit import Inhibitor, somebody_there

WHOLE = {"connected": True, "peer_whole": True}
LOGIND = {
    "systemd-inhibit": 'echo "$4" >>{dir}/asked\nfor last; do :; done\n"$last"\necho released >>{dir}/asked\n',
    "busctl": "while [ ! -e {dir}/stops ]; do sleep 0.05; done\n"
    'echo \'{{"member":"PrepareForShutdown","payload":{{"type":"b","data":[true]}}}}\'\nexec sleep 30\n',
}


@pytest.fixture
def logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that write down what is asked of logind, and say that a shutdown begins once `stops` is there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in LOGIND.items():
        (programs / name).write_text("#!/bin/sh\n" + script.format(dir=tmp_path))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(inhibit, "RUNNING", tmp_path)
    monkeypatch.setattr(inhibit, "LOOK_S", 0.1)
    monkeypatch.setattr(inhibit, "SESSIONS", tmp_path / "sessions")
    (tmp_path / "sessions").mkdir()
    return tmp_path


def asked(directory: Path) -> list[str]:
    path = directory / "asked"
    return path.read_text().split() if path.exists() else []


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("did not happen in time")


def play(hastd: FakeHastd, scenario: Callable[[Inhibitor], Awaitable[None]], left: list[int] | None = None) -> None:
    async def leave() -> None:
        (left if left is not None else []).append(1)
        hastd.roles = dict.fromkeys(hastd.roles, "secondary")

    async def main() -> None:
        inhibitor = Inhibitor(str(hastd.path), leave)
        running = asyncio.create_task(inhibitor.run())
        try:
            await scenario(inhibitor)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_a_slave_holds_up_nothing_a_master_waits_for_its_hand_over(hastd: FakeHastd, logind: Path) -> None:
    hastd.told = dict(WHOLE)

    async def scenario(inhibitor: Inhibitor) -> None:
        await asyncio.sleep(0.5)
        assert asked(logind) == []
        hastd.roles["disk1"] = "primary"
        inhibitor.wake()
        await until(lambda: asked(logind) == ["--mode=delay"])
        hastd.roles["disk1"] = "secondary"
        await until(lambda: asked(logind) == ["--mode=delay", "released"])

    play(hastd, scenario)


def test_the_only_good_copy_asks_a_person_twice_and_a_machine_alone_not(hastd: FakeHastd, logind: Path) -> None:
    hastd.told = {"connected": False}
    hastd.roles["disk1"] = "primary"

    async def scenario(_inhibitor: Inhibitor) -> None:
        await until(lambda: asked(logind) == ["--mode=delay"])
        (logind / "sessions" / "3").write_text("# not for you\nUID=0\nCLASS=user\nTTY=tty1\n")
        await until(lambda: asked(logind) == ["--mode=delay", "--mode=block", "released"])
        hastd.told = dict(WHOLE)
        await until(lambda: asked(logind)[3:] == ["--mode=delay", "released"])

    play(hastd, scenario)
    assert asked(logind)[-1] == "released"


def test_when_a_shutdown_begins_the_service_leaves_and_then_the_shutdown_goes_on(
    hastd: FakeHastd, logind: Path
) -> None:
    hastd.told = dict(WHOLE)
    hastd.roles["disk1"] = "primary"
    left: list[int] = []

    async def scenario(_inhibitor: Inhibitor) -> None:
        await until(lambda: asked(logind) == ["--mode=delay"])
        (logind / "stops").touch()
        await until(lambda: asked(logind) == ["--mode=delay", "released"])
        assert left == [1]
        await asyncio.sleep(0.5)

    play(hastd, scenario, left)
    assert (left, asked(logind)) == ([1], ["--mode=delay", "released"])


def test_a_logind_that_refuses_is_left_alone(hastd: FakeHastd, logind: Path) -> None:
    (logind / "bin" / "systemd-inhibit").write_text(f"#!/bin/sh\necho tried >>{logind}/asked\nexit 1\n")
    hastd.roles["disk1"] = "primary"

    async def scenario(_inhibitor: Inhibitor) -> None:
        await until(lambda: asked(logind) == ["tried"])
        await asyncio.sleep(1.0)
        assert asked(logind) == ["tried"]

    play(hastd, scenario)


def test_without_systemd_nothing_is_started(hastd: FakeHastd, logind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inhibit, "RUNNING", logind / "no")
    hastd.roles["disk1"] = "primary"

    async def scenario(_inhibitor: Inhibitor) -> None:
        await asyncio.sleep(0.5)

    play(hastd, scenario)
    assert asked(logind) == []


@pytest.mark.parametrize(
    ("session", "expected"), [("CLASS=user\n", True), ("CLASS=manager\n", False), ("CLASS=greeter\nUID=1\n", False)]
)
def test_only_a_person_that_is_logged_in_can_answer(
    session: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inhibit, "SESSIONS", tmp_path)
    assert not somebody_there()
    (tmp_path / "1.ref").write_text("CLASS=user\n")
    (tmp_path / "1").write_text(session)
    assert somebody_there() is expected
