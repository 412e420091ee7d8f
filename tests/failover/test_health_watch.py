"""The watch of hast-devd against a fake hastd: what it makes of a node, and that nothing that hangs holds it up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path

import pytest
from fake_hastd import FakeHastd

from hast.cli.failover import main
from hast.daemon.paths import parts_record
from hast.failover import report
from hast.failover.devd.events import Event
from hast.failover.devd.health_watch import ConfigurationFile, HealthWatch
from hast.failover.pools import zfs


class Node:
    """A node with one service that is a file, its failover.conf and the events of its watch."""

    def __init__(self, tmp_path: Path, hastd: FakeHastd) -> None:
        self.conf = tmp_path / "failover.conf"
        self.service = tmp_path / "service"
        self.hastd = hastd
        self.events: list[Event] = []
        self.carpd = str(tmp_path / "carpd.sock")
        self.write()

    def write(self, *lines: str) -> None:
        head = f"resources disk1\ncontrol {self.hastd.path}\nhealth 0.2\n"
        web = f'service web {{ start "touch {self.service}" stop "rm {self.service}" status "test -e {self.service}" }}'
        self.conf.write_text("\n".join([head, web, *lines]) + "\n")

    async def watch(self, seconds: float, until: str = "") -> int:
        """Watch for so long, at most until an event of this type; returns how often the loop had its turn."""
        watch = asyncio.create_task(HealthWatch(str(self.conf), self.carpd, self.events.append, 30.0).run())
        turns = 0
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and until not in self.kinds():
            turns += 1
            await asyncio.sleep(0.02)
            assert not watch.done()
        watch.cancel()
        return turns

    def kinds(self) -> list[str]:
        return [event.variables["type"] for event in self.events]


@pytest.fixture
def node(tmp_path: Path, hastd: FakeHastd) -> Node:
    return Node(tmp_path, hastd)


def test_a_service_that_ended_is_started_again(node: Node) -> None:
    assert main(["master", "-c", str(node.conf)]) == 0
    node.service.unlink()
    asyncio.run(node.watch(30, "WELL"))
    assert node.kinds() == ["ILL", "WELL"]
    assert node.service.exists()
    assert node.events[0].variables["text"] == "service web: down"
    assert json.loads(parts_record().read_text())["parts"]["service web"] is True


def test_nobody_is_meddled_with_where_failover_never_ran_or_health_is_off(node: Node) -> None:
    asyncio.run(node.watch(0.6))
    assert main(["master", "-c", str(node.conf)]) == 0
    node.service.unlink()
    node.conf.write_text(node.conf.read_text().replace("health 0.2", "health 0"))
    asyncio.run(node.watch(0.6))
    assert node.events == []
    assert not node.service.exists()


def test_a_program_that_hangs_holds_up_nobody(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "CHECK_S", 0.5)
    monkeypatch.setattr(zfs, "LOOK_S", 0.2)
    monkeypatch.setattr(zfs, "LIST_S", 0.2)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "zpool").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "zpool").chmod(0o755)
    node.write("pool zhast")
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    main(["slave", "-c", str(node.conf)])
    turns = asyncio.run(node.watch(20, "ILL"))
    assert turns > 20
    assert "pool zhast: zpool list hangs" in node.events[0].variables["text"]


def test_a_changed_file_is_read_and_one_with_a_mistake_is_told_once(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    file = ConfigurationFile(str(node.conf))
    first = file.get()
    assert first is not None
    assert file.get() is first
    node.conf.write_text("pool {")
    assert file.get() is first
    assert file.get() is first
    assert [message.split(": ", 2)[2] for message in caplog.messages if "failover.conf:1:6" in message] == [
        "found '{'; expected a word or text in double quotes. What was read before counts."
    ]
    node.write("pool mail")
    changed = file.get()
    assert changed is not None
    assert [pool.name for pool in changed.pools] == ["mail"]
    node.conf.unlink()
    assert file.get() is None
    caplog.set_level(logging.ERROR)
