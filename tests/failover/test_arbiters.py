"""Arbiters, arbitration and fencing: a real witness, a real etcd, ping; dead, slow and partitioned arbiters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hast.config.model import Arbiter as Configured
from hast.config.model import ArbiterKind
from hast.daemon import launch
from hast.election.arbiter import Arbiter, ArbiterError, Lease, LeaseTable, Refused, Verdict
from hast.failover import arbitration
from hast.failover.arbiters import make
from hast.failover.arbiters.etcd import EtcdArbiter
from hast.failover.arbiters.ping import PingArbiter, ping
from hast.failover.arbiters.witness import WitnessArbiter
from hast.failover.arbiters.witness_listener import WitnessServer
from hast.failover.arbiters.witness_server import Witness
from hast.failover.arbiters.witness_state import StateFile
from hast.failover.arbitration import Arbitration
from hast.failover.fencing import fence


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A child that is killed at the end; `restart` starts the same command again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.restart()

    def restart(self) -> None:
        with self._log.open("ab") as output:
            self.child = subprocess.Popen(self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        self.child.wait(10)


def wait_for_port(port: int, deadline_s: float = 15.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    port = free_port()
    command = [
        sys.executable, "-m", "hast.cli.hast_witness", "-F", "-l", f"127.0.0.1:{port}",
        "-f", str(tmp_path / "witness.json"), "-P", str(tmp_path / "witness.pid"),
    ]  # fmt: skip
    process = Process(command, tmp_path / "witness.log")
    try:
        wait_for_port(port)
        yield process, port
    finally:
        process.end()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd")
    port, peer = free_port(), free_port()
    command = [
        "etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{port}",
        "--advertise-client-urls", f"http://127.0.0.1:{port}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        "--heartbeat-interval=50", "--election-timeout=250", "--unsafe-no-fsync",
    ]  # fmt: skip
    process = Process(command, tmp_path / "etcd.log")
    try:
        wait_for_port(port)
        yield process, port
    finally:
        process.end()


def lease(answer: Lease | Refused) -> Lease:
    assert isinstance(answer, Lease), answer
    return answer


async def the_rules(one: Arbiter, other: Arbiter) -> None:
    """What a witness and etcd must both do, seen from two nodes."""
    first = lease(await one.acquire("disk1", "a", 7))
    assert first.epoch == 8
    answer = await other.acquire("disk1", "b", 0)
    assert isinstance(answer, Refused)
    assert (answer.holder, answer.reason) == ("a", "a holds the lease")
    assert lease(await one.keepalive(first)).epoch == 8
    assert not await other.is_outdated("disk1", "b")
    lease(await one.record_outdated(first, "b"))
    assert await other.is_outdated("disk1", "b")
    assert not await other.is_outdated("disk1", "a")
    await one.release(first)
    answer = await other.acquire("disk1", "b", 0)
    assert isinstance(answer, Refused)
    assert answer.reason == "this copy is outdated: a went on without it"
    again = lease(await one.acquire("disk1", "a", 0))
    assert again.epoch == 9
    assert isinstance(await one.keepalive(first), Refused)
    assert isinstance(await one.record_outdated(first, "b"), Refused)
    lease(await one.clear_outdated(again, "b"))
    assert not await other.is_outdated("disk1", "b")
    await one.release(again)
    third = lease(await other.acquire("disk1", "b", 0))
    assert third.epoch == 10
    lease(await other.record_outdated(third, "a"))
    await other.release(third)
    assert isinstance(await one.acquire("disk1", "a", 0), Refused)
    lease(await one.acquire("disk1", "a", 0, force=True))
    assert not await one.is_outdated("disk1", "a")
    lease(await other.acquire("disk/ü 2", "b", 0))


async def a_lease_ends_by_itself(one: Arbiter, other: Arbiter) -> None:
    first = lease(await one.acquire("disk1", "a", 0))
    started = time.monotonic()
    while isinstance(await other.acquire("disk1", "b", 0), Refused):
        assert time.monotonic() - started < 8
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() > first.until_s
    assert isinstance(await one.keepalive(first), Refused)


def test_a_witness_keeps_the_rules(witness: tuple[Process, int]) -> None:
    target = f"127.0.0.1:{witness[1]}"
    asyncio.run(the_rules(WitnessArbiter([target]), WitnessArbiter([target])))


def test_etcd_keeps_the_rules(etcd: tuple[Process, int]) -> None:
    url = f"http://127.0.0.1:{etcd[1]}"
    asyncio.run(the_rules(EtcdArbiter([url], 3.0), EtcdArbiter([url], 3.0)))


def test_a_lease_of_a_witness_ends_after_the_holder_knows(witness: tuple[Process, int]) -> None:
    target = f"127.0.0.1:{witness[1]}"
    asyncio.run(a_lease_ends_by_itself(WitnessArbiter([target], ttl_s=1.0), WitnessArbiter([target])))


def test_a_lease_of_etcd_ends_after_the_holder_knows(etcd: tuple[Process, int]) -> None:
    url = f"http://127.0.0.1:{etcd[1]}"
    asyncio.run(a_lease_ends_by_itself(EtcdArbiter([url], 3.0, 1.0), EtcdArbiter([url], 3.0)))


def test_of_many_who_ask_etcd_at_once_one_gets_the_lease(etcd: tuple[Process, int]) -> None:
    url = f"http://127.0.0.1:{etcd[1]}"

    async def race() -> None:
        answers = await asyncio.gather(*(EtcdArbiter([url], 5.0).acquire("disk1", f"n{n}", 0) for n in range(8)))
        assert sum(isinstance(answer, Lease) for answer in answers) == 1

    asyncio.run(race())


def test_a_killed_witness_remembers_everything(witness: tuple[Process, int]) -> None:
    process, port = witness
    target = f"127.0.0.1:{port}"

    async def before() -> Lease:
        held = lease(await WitnessArbiter([target]).acquire("disk1", "a", 0))
        return lease(await WitnessArbiter([target]).record_outdated(held, "b"))

    held = asyncio.run(before())
    process.signal(signal.SIGKILL)
    process.child.wait(5)
    with pytest.raises(ArbiterError, match="no witness answers"):
        asyncio.run(WitnessArbiter([target]).keepalive(held))
    process.restart()
    wait_for_port(port)

    async def after() -> None:
        assert lease(await WitnessArbiter([target]).keepalive(held)).epoch == held.epoch
        assert await WitnessArbiter([target]).is_outdated("disk1", "b")

    asyncio.run(after())


@pytest.mark.parametrize("kind", ["witness", "etcd"])
def test_a_stopped_arbiter_gives_an_error_by_the_deadline(kind: str, request: pytest.FixtureRequest) -> None:
    process, port = request.getfixturevalue(kind)
    arbiter: Arbiter
    if kind == "witness":
        arbiter = WitnessArbiter([f"127.0.0.1:{port}"], 0.5)
    else:
        arbiter = EtcdArbiter([f"http://127.0.0.1:{port}"], 0.5)
    process.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ArbiterError, match="no answer within"):
            asyncio.run(arbiter.acquire("disk1", "a", 0))
        assert time.monotonic() - started < 2
    finally:
        process.signal(signal.SIGCONT)


def test_the_second_way_to_the_witness_is_taken_and_a_second_witness_is_not_believed(
    tmp_path: Path, witness: tuple[Process, int]
) -> None:
    async def story() -> None:
        arbiter = WitnessArbiter([f"127.0.0.1:{free_port()}", f"127.0.0.1:{witness[1]}"])
        held = lease(await arbiter.acquire("disk1", "a", 0))
        impostor = Witness(StateFile(tmp_path / "other.json"), 0.0)
        server = await WitnessServer(impostor).start("127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        arbiter._targets = [arbiter._targets[1].__class__(arbiter._targets[1].kind, host="127.0.0.1", port=port)]
        with pytest.raises(ArbiterError, match="another witness"):
            await arbiter.keepalive(held)
        server.close()

    asyncio.run(story())


BAD_REQUESTS: list[bytes] = [
    b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"do": "acquire", "resource": "", "node": "a"}\n',
    b'{"do": "acquire", "resource": "d", "node": "a", "epoch": -1, "ttl_s": 3}\n',
    b'{"do": "acquire", "resource": "d", "node": "a", "epoch": 0, "ttl_s": 1e9}\n',
    b'{"do": "acquire", "resource": "d", "node": "a", "epoch": 0, "ttl_s": NaN}\n',
    b'{"do": "acquire", "resource": 5, "node": "a"}\n', b'{"do": "dance", "resource": "d", "node": "a"}\n',
    b"[" * 10_000 + b"\n", b"x" * 100_000 + b"\n", b"\xff\xfe\n",
    b'{"do": "keepalive", "resource": "' + b"r" * 300 + b'", "node": "a", "epoch": 1}\n',
]  # fmt: skip


def test_bad_requests_get_an_error_and_disturb_nothing(witness: tuple[Process, int]) -> None:
    for bad in BAD_REQUESTS:
        with socket.create_connection(("127.0.0.1", witness[1]), 5) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(bad)
            with contextlib.suppress(ConnectionResetError):
                assert b'"error"' in sock.makefile("rb").readline()
    assert asyncio.run(WitnessArbiter([f"127.0.0.1:{witness[1]}"]).is_outdated("disk1", "a")) is False


def test_a_witness_with_a_broken_state_file_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    path.write_text('{"witness": "x", "resources": {"d": 5}}')
    command = [sys.executable, "-m", "hast.cli.hast_witness", "-F", "-f", str(path), "-P", str(tmp_path / "pid")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert done.stderr.startswith(f"hast-witness: {path} is not a witness state file")
    assert done.stderr.count("\n") == 1


async def lying_server(answer: bytes) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\n", b"nonsense\n", b"HTTP/1.1 200 OK\r\n\r\n[]", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'{"witness": "x"}\n', b'{"witness": "x", "epoch": "many", "ttl_s": 1}\n', b"x" * 200_000,
    ],
)  # fmt: skip
def test_whatever_answers_in_place_of_an_arbiter_gives_an_arbiter_error(answer: bytes) -> None:
    async def story() -> None:
        server, port = await lying_server(answer)
        for arbiter in (WitnessArbiter([f"127.0.0.1:{port}"], 1.0), EtcdArbiter([f"http://127.0.0.1:{port}"], 1.0)):
            with pytest.raises(ArbiterError):
                await arbiter.acquire("disk1", "a", 0)
        server.close()

    asyncio.run(story())


def test_make_gives_the_adapter_that_is_configured() -> None:
    assert make(Configured()) is None
    assert isinstance(make(Configured(ArbiterKind.PING, ("127.0.0.1",))), PingArbiter)
    assert isinstance(make(Configured(ArbiterKind.WITNESS, ("127.0.0.1",))), WitnessArbiter)
    assert isinstance(make(Configured(ArbiterKind.ETCD, ("http://127.0.0.1:2379",))), EtcdArbiter)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs raw sockets")
def test_ping_lets_a_host_go_on_that_reaches_its_target_and_refuses_one_that_does_not() -> None:
    async def story() -> None:
        assert await ping("127.0.0.1", 1.0)
        reached, cut_off = PingArbiter(["127.0.0.1"]), PingArbiter(["255.255.255.255"])
        held = lease(await reached.acquire("disk1", "a", 0))
        lease(await reached.record_outdated(held, "b"))
        answer = await cut_off.acquire("disk1", "a", 0)
        assert isinstance(answer, Refused)
        assert "cut off" in answer.reason
        with pytest.raises(ArbiterError):
            await cut_off.keepalive(held)

    asyncio.run(story())


# One resource's dealings


@contextlib.asynccontextmanager
async def node(name: str, arbiter: Arbiter | None, fence_path: str | None = None) -> AsyncIterator[Any]:
    verdicts: list[tuple[Verdict, str]] = []
    mine = Arbitration("disk1", name, arbiter, fence_path, lambda verdict, why: verdicts.append((verdict, why)))
    mine.verdicts = verdicts  # type: ignore[attr-defined]
    try:
        yield mine
    finally:
        await mine.demoted()


async def until(what: Any, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.02)


def test_a_primary_that_loses_peer_and_witness_freezes_then_steps_down_and_the_other_takes_over(
    witness: tuple[Process, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _process, port = witness
    monkeypatch.setattr("hast.election.arbiter.STEP_DOWN_S", 1.0)
    monkeypatch.setattr(arbitration, "OUTDATE_DEADLINE_S", 1.0)

    async def story() -> None:
        cut_off = WitnessArbiter([f"127.0.0.1:{port}"], ttl_s=1.0)
        async with node("a", cut_off) as a, node("b", WitnessArbiter([f"127.0.0.1:{port}"])) as b:
            lease(await a.promote())
            a.peer_connected(True)
            await asyncio.sleep(0.3)
            cut_off._targets = [cut_off._targets[0].__class__(cut_off._targets[0].kind, host="127.0.0.1", port=1)]
            await asyncio.sleep(2.0)
            assert a.verdicts == []
            a.peer_connected(False)
            assert [verdict for verdict, _ in a.verdicts] == [Verdict.FREEZE]
            assert "no witness answers" in await a.outdate_peer()
            await until(lambda: a.verdicts[-1][0] is Verdict.STEP_DOWN, 3)
            lease(await b.promote())
            assert await b.outdate_peer() is None
            assert b.verdicts == []

    asyncio.run(story())


def test_a_primary_that_is_sole_holds_writes_while_the_witness_is_dead_and_the_peer_stays_outdated(
    witness: tuple[Process, int],
) -> None:
    process, port = witness

    async def story() -> None:
        a_arbiter, b_arbiter = (WitnessArbiter([f"127.0.0.1:{port}"], ttl_s=1.0) for _ in range(2))
        async with node("a", a_arbiter) as a, node("b", b_arbiter) as b:
            lease(await a.promote())
            assert await a.outdate_peer() is None
            process.signal(signal.SIGKILL)
            process.child.wait(5)
            await asyncio.sleep(1.6)
            assert [verdict for verdict, _ in a.verdicts] == [Verdict.FREEZE]
            process.restart()
            await asyncio.to_thread(wait_for_port, port)
            answer = await b.promote()
            assert isinstance(answer, Refused)
            await until(lambda: a.verdicts[-1][0] is Verdict.SERVE, 5)
            a.peer_connected(True)
            a.peer_in_step()
            end = time.monotonic() + 5
            while await b_arbiter.is_outdated("disk1", "b"):
                assert time.monotonic() < end
                await asyncio.sleep(0.1)
            await a.demoted()
            lease(await b.promote())

    asyncio.run(story())


def test_promotion_waits_for_the_lease_of_a_dead_primary(witness: tuple[Process, int]) -> None:
    async def story() -> None:
        target = f"127.0.0.1:{witness[1]}"
        lease(await WitnessArbiter([target], ttl_s=1.5).acquire("disk1", "a", 0))
        async with node("b", WitnessArbiter([target])) as b:
            started = time.monotonic()
            assert lease(await b.promote(epoch=30)).epoch == 31
            assert 1.0 < time.monotonic() - started < 3.5
            assert b.epoch == 31

    asyncio.run(story())


def test_by_hand_a_node_is_promoted_without_an_answer_of_the_arbiter() -> None:
    async def story() -> None:
        async with node("a", WitnessArbiter([f"127.0.0.1:{free_port()}"])) as a:
            assert isinstance(await a.promote(), Refused)
            lease(await a.promote(force=True))
            assert await a.outdate_peer() is None
            assert a.verdicts == []

    asyncio.run(story())


def test_without_arbiter_everything_is_allowed() -> None:
    async def story() -> None:
        async with node("a", None) as a:
            lease(await a.promote())
            a.peer_connected(False)
            a.peer_in_step()
            assert await a.outdate_peer() is None

    asyncio.run(story())


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_exit_code_of_the_fence_program_decides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        good = script(tmp_path / "good", f'echo "$@" >{tmp_path}/said')
        assert await fence(good, "disk1", "a")
        assert (tmp_path / "said").read_text() == "disk1 a\n"
        assert not await fence(script(tmp_path / "bad", "echo no; exit 3"), "disk1", "a")
        assert not await fence(str(tmp_path / "none"), "disk1", "a")
        assert f"fence program {tmp_path}/none cannot be run: not found" in caplog.text
        started = time.monotonic()
        assert not await fence(script(tmp_path / "slow", "sleep 30 & wait"), "disk1", "a", 0.3)
        assert time.monotonic() - started < 3
        async with node("a", None, str(tmp_path / "bad")) as a:
            lease(await a.promote())
            assert "did not confirm" in await a.outdate_peer()

    asyncio.run(story())


def test_a_fence_program_is_read_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a frozen file system it is never read, and who reads it waits for ever."""
    started: list[Sequence[str]] = []
    monkeypatch.setattr(launch, "by_shell", lambda argv: started.append(argv) or ["/bin/sleep", "30"])

    async def story() -> None:
        began = time.monotonic()
        assert not await fence("/frozen/fence", "disk1", "a", 0.3)
        assert time.monotonic() - began < 3

    asyncio.run(story())
    assert started == [["/frozen/fence", "disk1", "a"]]


def test_the_fence_program_is_not_run_when_the_arbiter_says_no(tmp_path: Path, witness: tuple[Process, int]) -> None:
    async def story() -> None:
        path = script(tmp_path / "fence", f"touch {tmp_path}/fenced")
        target = f"127.0.0.1:{witness[1]}"
        async with node("a", WitnessArbiter([target], ttl_s=1.0), path) as a:
            lease(await a.promote())
            a._keeper.cancel()
            await asyncio.sleep(1.2)
            lease(await WitnessArbiter([target]).acquire("disk1", "b", 0))
            assert "b holds the lease" in await a.outdate_peer()
            assert not (tmp_path / "fenced").exists()

    asyncio.run(story())


def test_state_of_a_witness_is_readable_json(tmp_path: Path) -> None:
    one = Witness(StateFile(tmp_path / "w.json"), 0.0)
    asked = {"do": "acquire", "resource": "d", "node": "a", "epoch": 0, "ttl_s": 3}
    reply = asyncio.run(one.answer(asked, 1.0))
    assert reply["epoch"] == 1
    state = json.loads((tmp_path / "w.json").read_text())
    assert state["resources"]["d"]["holder"] == "a"
    assert state["witness"] == reply["witness"]


class SilentArbiter:
    """Answers as a true table until it is told to fall silent."""

    def __init__(self) -> None:
        self.table = LeaseTable()
        self.silent = False

    def _heard(self, answer: Lease | Refused) -> Lease | Refused:
        if self.silent:
            raise ArbiterError("no answer")
        return answer

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        return self._heard(self.table.acquire(resource, node, epoch, 1.2, time.monotonic(), force))

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        return self._heard(self.table.keepalive(lease.resource, lease.node, lease.epoch, time.monotonic()))

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return self._heard(self.table.record_outdated(lease.resource, lease.node, lease.epoch, peer, time.monotonic()))

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return self._heard(self.table.clear_outdated(lease.resource, lease.node, lease.epoch, time.monotonic()))

    async def is_outdated(self, resource: str, node: str) -> bool:
        return self.table.is_outdated(resource, node)

    async def release(self, lease: Lease) -> None:
        self.table.release(lease.resource, lease.node, lease.epoch)

    async def close(self) -> None: ...


@pytest.mark.parametrize("confirms", [True, False])
def test_a_fence_that_confirms_keeps_the_only_good_copy_serving_while_the_witness_is_silent(
    tmp_path: Path, confirms: bool
) -> None:
    async def story() -> None:
        calls = tmp_path / "calls"
        path = script(tmp_path / "fence", f"echo >>{calls}; test ! -e {tmp_path}/on")
        arbiter = SilentArbiter()
        async with node("a", arbiter, path) as a:
            lease(await a.promote())
            assert await a.outdate_peer() is None
            if not confirms:
                (tmp_path / "on").touch()
            arbiter.silent = True
            await until(lambda: len(a.verdicts) >= 1 + confirms, 5)
            assert [verdict for verdict, _ in a.verdicts] == [Verdict.FREEZE, Verdict.SERVE][: 1 + confirms]
            await asyncio.sleep(0.7)
            assert len(a.verdicts) == 1 + confirms
            assert calls.read_text() == "\n\n"  # when it went alone, and once in the silence
            arbiter.silent = False
            await until(lambda: a.verdicts[-1][0] is Verdict.SERVE, 5)

    asyncio.run(story())
