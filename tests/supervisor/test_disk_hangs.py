"""Two real hastd, and a disk under one of them that hangs: clients go on, nothing is lost, nobody is stuck."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import DATA_OFFSET, Pair, problems
from hanging_disk import HangingDisk, missing_for_hangs
from writing_client import BLOCK, Writer

from daemon import Daemon, wait_for

pytestmark = pytest.mark.skipif(bool(missing_for_hangs()), reason=missing_for_hangs())

DISK_TIMEOUT_S = 3


class HangingPair(Pair):
    """Both disks can hang."""

    complete_s = 30.0

    def __init__(self, one: Daemon, two: Daemon, disks: list[HangingDisk]) -> None:
        super().__init__(one, two)
        self.disks = disks

    def check_equal(self, writer: Writer) -> None:
        first, second = self.images()
        assert first == second
        for block, data in writer.content.items():
            assert first[block * BLOCK :][:BLOCK] == data


@pytest.fixture(params=["on", "off"])
def pair(request: pytest.FixtureRequest, make_daemon: MakeDaemon) -> Iterator[HangingPair]:
    """Through the page cache, and past it. Whatever of the undoing fails, the rest of it is done: a disk that stays
    mounted is never let go."""
    nodes = [make_daemon(fake=False), make_daemon(fake=False)]
    disks: list[HangingDisk] = []
    with ExitStack() as undoing:
        for node, peer in (nodes, reversed(nodes)):
            node.write_config(
                {"disk1": f"remote tcp4://127.0.0.1:{peer.port}\n local {node.directory}/fuse/disk"},
                inside=f"timeout 5\n disk-timeout {DISK_TIMEOUT_S}\n disk-cache {request.param}",
            )
            disks.append(HangingDisk(node.directory / "fuse", node.directory / "disk1.img"))
            undoing.callback(disks[-1].close)
        for node in reversed(nodes):
            undoing.callback(node.stop)
        for disk in disks:
            undoing.callback(disk.answer)
            undoing.callback(disk.be_quick)
        made = HangingPair(nodes[0], nodes[1], disks)
        made.bring_up()
        assert made.one.status()["disk_cache"] is (request.param == "on")
        yield made
        made.check_logs()


def in_time(action: Callable[[], object], limit_s: float) -> float:
    began_s = time.monotonic()
    action()
    taken_s = time.monotonic() - began_s
    assert taken_s < limit_s, f"{taken_s:.1f} s"
    return taken_s


def test_the_disk_of_the_primary_hangs_and_clients_go_on_with_the_peers_copy(pair: HangingPair, writer: Writer) -> None:
    pair.disks[0].hang()
    taken_s = writer.goes_on(DISK_TIMEOUT_S + 2)
    print(f"primary: first acknowledged write {taken_s:.2f} s after the hang")
    status = pair.one.status()
    assert status["status"] == "degraded"
    assert "does not answer since" in problems(pair.one, "disk")
    assert sum(event["event"] == "disk-hung" for event in status["history"]) == 1
    writer.stop()
    assert writer.longest_s < DISK_TIMEOUT_S + 2
    in_time(pair.one.status, 1)
    in_time(lambda: pair.one.role("secondary"), 10)
    assert pair.one.status()["role"] == "secondary"
    assert "does not answer since" in problems(pair.one, "disk")
    assert "does not answer since" in str(pair.one.role("primary")["error"])
    assert pair.one.role("init")["error"] is None
    pair.disks[0].answer()
    wait_for(lambda: not problems(pair.one, "disk"), "the end of the hung worker", 10)
    assert pair.one.role("secondary")["error"] is None
    assert pair.two.role("primary")["error"] is None
    pair.wait_complete()
    pair.check_equal(writer)


@pytest.mark.slow
def test_the_disk_of_the_secondary_hangs_and_the_primary_goes_on_alone(pair: HangingPair, writer: Writer) -> None:
    pair.disks[1].hang()
    taken_s = writer.goes_on(DISK_TIMEOUT_S + 2)
    print(f"secondary: first acknowledged write {taken_s:.2f} s after the hang")
    wait_for(lambda: "does not answer since" in problems(pair.one, "refused"), "the reason on the primary")
    assert pair.one.status()["status"] == "degraded"
    assert "does not answer since" in problems(pair.two, "disk")
    in_time(pair.two.status, 1)
    pair.disks[1].answer()
    wait_for(lambda: pair.two.status()["connected"], "the secondary back by itself", 30)
    writer.goes_on(10)
    writer.stop()
    assert writer.longest_s < DISK_TIMEOUT_S + 2
    pair.wait_complete()
    pair.check_equal(writer)


@pytest.mark.slow
def test_a_disk_that_hangs_at_the_start_is_refused_in_time_and_nobody_is_stuck(pair: HangingPair) -> None:
    assert pair.one.role("init")["error"] is None
    pair.disks[0].hang()
    answer: list[str] = []
    in_time(lambda: answer.append(str(pair.one.role("primary")["error"])), DISK_TIMEOUT_S + 5)
    assert "does not answer" in answer[0]
    in_time(lambda: pair.one.role("secondary"), 5)
    pair.disks[0].answer()
    wait_for(lambda: not problems(pair.one, "disk"), "the end of the hung worker", 10)
    assert pair.one.role("primary")["error"] is None
    pair.wait_complete()


def test_hastd_ends_in_time_over_a_disk_that_hangs(pair: HangingPair, writer: Writer) -> None:
    pair.disks[0].hang()
    writer.goes_on(DISK_TIMEOUT_S + 2)
    writer.stop()
    in_time(pair.one.stop, 15)


def test_disk_timeout_is_taken_while_the_disk_hangs_already(pair: HangingPair, writer: Writer) -> None:
    config = pair.one.config
    config.write_text(config.read_text().replace(f"disk-timeout {DISK_TIMEOUT_S}", "disk-timeout 0"))
    assert pair.one.ask({"command": "reload"})["error"] is None
    pair.disks[0].hang()
    time.sleep(DISK_TIMEOUT_S + 1)
    assert not problems(pair.one, "disk")
    config.write_text(config.read_text().replace("disk-timeout 0", "disk-timeout 1"))
    assert pair.one.ask({"command": "reload"})["error"] is None
    writer.goes_on(2)
    assert "does not answer since" in problems(pair.one, "disk")
    writer.stop()


@pytest.mark.slow
def test_a_worker_killed_over_its_hung_disk_is_replaced_when_the_disk_is_back(
    pair: HangingPair, writer: Writer
) -> None:
    pair.disks[0].hang()
    time.sleep(1)
    os.kill(pair.one.status()["workerpid"], signal.SIGKILL)
    time.sleep(DISK_TIMEOUT_S * 2)
    in_time(pair.one.status, 3)
    assert pair.one.status()["role"] == "primary"
    writer.give_up()
    pair.disks[0].answer()
    wait_for(lambda: pair.one.status()["restarts"] == 1, "another worker", 60)
    pair.wait_complete()
    first, second = pair.images()
    assert first == second


def test_a_disk_that_answers_again_is_attached_to_a_primary_that_serves(pair: HangingPair, writer: Writer) -> None:
    pair.disks[0].hang()
    writer.goes_on(DISK_TIMEOUT_S + 2)
    assert "does not answer yet" in pair.one.hastctl("attach", "disk1").stderr
    pair.disks[0].answer()
    wait_for(lambda: pair.one.hastctl("attach", "disk1").returncode == 0, "the disk attached", 20)
    writer.goes_on(5)
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    pair.check_equal(writer)


def test_a_disk_that_hangs_is_replaced_under_a_primary_that_serves(pair: HangingPair, writer: Writer) -> None:
    pair.disks[0].hang()
    writer.goes_on(DISK_TIMEOUT_S + 2)
    path = pair.one.directory / "new.img"
    path.write_bytes(bytes((pair.one.directory / "disk1.img").stat().st_size))
    assert pair.one.hastctl("replace", "disk1", str(path)).stderr == ""
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    second = (pair.two.directory / "disk1.img").read_bytes()[DATA_OFFSET:]
    assert path.read_bytes()[DATA_OFFSET:] == second
    assert not problems(pair.one, "disk")


@pytest.mark.slow
def test_a_disk_that_alone_has_everything_is_attached_by_another_worker(pair: HangingPair, writer: Writer) -> None:
    """The other node lacks what was written while it was away, and must not fill this disk."""
    assert pair.two.role("init")["error"] is None
    wait_for(lambda: pair.one.status()["status"] == "degraded", "the loss of the peer")
    writer.goes_on(10)
    worker = pair.one.status()["workerpid"]
    pair.disks[0].hang()
    wait_for(lambda: "does not answer since" in problems(pair.one, "disk"), "the disk given up", DISK_TIMEOUT_S + 5)
    wait_for(lambda: writer.error, "the error of the write that no copy took")
    pair.disks[0].answer()
    assert pair.two.role("secondary")["error"] is None
    refused = pair.one.hastctl("replace", "disk1", str(pair.one.directory / "new.img")).stderr
    assert "does not have everything" in refused
    wait_for(lambda: pair.one.hastctl("attach", "disk1").returncode == 0, "the disk attached", 20)
    wait_for(lambda: pair.one.status()["workerpid"] not in (0, worker), "another worker", 20)
    pair.wait_complete()
    first, second = pair.images()
    assert first == second
    lost = [block for block, data in writer.content.items() if first[block * BLOCK :][:BLOCK] != data]
    assert len(lost) <= 1, "only the one that was told to have failed"


@pytest.mark.slow
@pytest.mark.parametrize("node", ["one", "two"])
def test_a_slow_disk_is_named_with_its_node_and_figures(pair: HangingPair, writer: Writer, node: str) -> None:
    local = node == "one"
    pair.disks[0 if local else 1].be_slow(0.2)
    wait_for(lambda: problems(pair.one, "slow-disk") or writer.error, "the slow disk named", 300)
    status = pair.one.status()
    assert status["slow_disk"]["copy"] == ("local" if local else "peer")
    assert status["slow_disk"]["p99_s"] > 0.1
    assert status["slow_disk"]["p99_s"] > 8 * status["slow_disk"]["other_p99_s"]
    assert status["status"] == "complete", "slow is not broken"
    text = problems(pair.one, "slow-disk")
    assert ("The local disk" if local else "The disk of the other node") in text
    assert status["localpath"] in text
    assert " ms" in text or " s" in text
    assert f"problem: slow-disk: {text}" in pair.one.hastctl("status", "disk1").stdout
    assert [event["event"] for event in status["history"]].count("slow-disk") == 1
    assert pair.one.log().count(text.split(":")[0]) == 1, "logged once"
    pair.disks[0 if local else 1].be_quick()
    writer.stop()
    pair.wait_complete()
    pair.check_equal(writer)
