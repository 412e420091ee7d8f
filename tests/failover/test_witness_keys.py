"""hast-witness with a file of nodes, over real sockets: whom it serves, and what strangers get (finding 3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from test_arbiters import Process, free_port, lease, wait_for_port

from hast.config.model import Arbiter, ArbiterKind
from hast.daemon import node_key
from hast.daemon.tls import TlsError, client_context, known_certificates
from hast.daemon.tls_stream import TlsStream
from hast.election.arbiter import ArbiterError, Lease, Refused
from hast.failover.arbiters import make
from hast.failover.arbiters.witness import WitnessArbiter
from hast.failover.arbiters.witness_link import _connected, _fetch

T = TypeVar("T")
CANNOT_OPEN = "Unable to open configuration file /nowhere"
PAIRS = {"office": ("hast1", "hast2"), "lab": ("x", "y")}


class Keys:
    """Nodes, each with a state directory of its own; `become` makes this process act for one of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._monkeypatch = monkeypatch
        for node in (*(node for pair in PAIRS.values() for node in pair), "stranger"):
            (directory / node).mkdir()
            node_key.generate(directory / node)

    def become(self, node: str) -> None:
        self._monkeypatch.setenv("HAST_STATE", str(self._directory / node))

    def of(self, node: str) -> str:
        return node_key.own_fingerprint(self._directory / node)

    def lines(self) -> str:
        return "".join(
            f"{pair} {' '.join(f'{node}={self.of(node)}' for node in nodes)}\n" for pair, nodes in PAIRS.items()
        )


class Served:
    """hast-witness itself, in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.nodes = directory / "nodes"
        self.process: Process | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def fingerprint(self) -> str:
        return node_key.own_fingerprint(self.directory)

    def start(self, *more: str) -> Served:
        command = [sys.executable, "-m", "hast.cli.hast_witness", "-F", "-l", self.target]
        command += ["-f", str(self.directory / "witness.json"), "-P", str(self.directory / "pid"), *more]
        self.process = Process(command, self.directory / "log")
        wait_for_port(self.port)
        return self

    def start_with(self, lines: str) -> Served:
        self.write(lines)
        return self.start("--nodes", str(self.nodes))

    def write(self, lines: str) -> None:
        self.nodes.write_text(lines)
        self.nodes.chmod(0o644)

    def reload(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGHUP)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "witness.json").read_text())["resources"]
        return found

    def end(self) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None

    def arbiter(self, *fingerprints: str) -> WitnessArbiter:
        """As a node's hast.conf makes it."""
        known = fingerprints or (self.fingerprint,)
        made = make(Arbiter(ArbiterKind.WITNESS, (self.target,), fingerprints=known))
        assert isinstance(made, WitnessArbiter)
        return made


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    (tmp_path / "keys").mkdir()
    return Keys(tmp_path / "keys", monkeypatch)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "witness").mkdir()
    served = Served(tmp_path / "witness")
    try:
        yield served
    finally:
        served.end()


def ask(keys: Keys, node: str, call: Coroutine[Any, Any, T]) -> T:
    keys.become(node)
    return asyncio.run(call)


def lines_told(port: int, first: bytes, deadline_s: float = 3.0) -> bytes:
    """All that somebody hears who sends this."""
    with socket.create_connection(("127.0.0.1", port), deadline_s) as sock:
        sock.settimeout(deadline_s)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            sock.sendall(first)
            while piece := sock.recv(4096):
                heard += piece
        return heard


def held_by_hast1(keys: Keys, witness: Served) -> Lease:
    """A pair whose primary goes on alone: what the attacks of finding 3 were aimed at."""
    held = lease(ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0)))
    return lease(ask(keys, "hast1", witness.arbiter().record_outdated(held, "peer")))


def still_held(keys: Keys, witness: Served, held: Lease) -> bool:
    answer = ask(keys, "hast1", witness.arbiter().keepalive(held))
    return isinstance(answer, Lease) and witness.state()["office%disk1"]["sole"] == "hast1"


def test_s11_the_pair_is_served_by_its_keys(keys: Keys, witness: Served) -> None:
    """F, then S, from both nodes; the rules of the lease are the same as ever."""
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    answer = ask(keys, "hast2", witness.arbiter().acquire("disk1", "hast2", 0))
    assert isinstance(answer, Refused)
    assert answer.reason == "hast1 holds the lease"
    assert lease(ask(keys, "hast1", witness.arbiter().clear_outdated(held, "peer"))).epoch == held.epoch
    ask(keys, "hast1", witness.arbiter().release(held))
    assert lease(ask(keys, "hast2", witness.arbiter().acquire("disk1", "hast2", 0))).epoch == held.epoch + 1


def test_two_nodes_that_fetch_the_certificate_at_once_both_get_it(keys: Keys, witness: Served) -> None:
    """In one process with one directory, as two resources of one hastd do."""
    witness.start_with(keys.lines())

    async def both() -> list[Lease | Refused]:
        asked = (witness.arbiter().acquire(name, "hast1", 0) for name in ("disk1", "disk2"))
        return await asyncio.gather(*asked)

    assert all(isinstance(answer, Lease) for answer in ask(keys, "hast1", both()))
    assert len(known_certificates([witness.fingerprint])) == 1


def test_s11_plain_questions_get_no_answer_from_a_witness_with_keys(keys: Keys, witness: Served) -> None:
    """The two lines that made two masters."""
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    for do in ("keepalive", "clear-outdated", "release", "is-outdated"):
        line = json.dumps({"do": do, "resource": "disk1", "node": "hast1", "epoch": held.epoch, "peer": "x"})
        assert lines_told(witness.port, line.encode() + b"\n") == b""
    forced = {"do": "acquire", "resource": "disk1", "node": "X", "epoch": 0, "ttl_s": 3, "force": True}
    assert lines_told(witness.port, json.dumps(forced).encode() + b"\n") == b""
    assert still_held(keys, witness, held)
    assert witness.log().count("asked without a key and was refused") == 1


def test_a_stranger_without_a_key_hears_nothing_after_s(keys: Keys, witness: Served) -> None:
    """But the beginning of a TLS session that it cannot go on with."""
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    line = json.dumps({"do": "keepalive", "resource": "disk1", "node": "hast1", "epoch": 99}).encode() + b"\n"
    for sent in (b"S" + line, b"S" + b"\x16\x03\x01\x00\x05hello", b"S" + os.urandom(500), b"F" + line):
        heard = lines_told(witness.port, sent, 8.0)
        assert b"hast1" not in heard
        assert b"refused" not in heard
    assert still_held(keys, witness, held)


def test_s11_a_stranger_with_a_key_of_its_own_is_not_heard(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    stolen = Lease("disk1", "hast1", held.epoch, 3.0, 0.0)
    with pytest.raises(ArbiterError, match="if it does not serve this node"):
        ask(keys, "stranger", witness.arbiter().keepalive(stolen))
    for call in (witness.arbiter().clear_outdated(stolen, "x"), witness.arbiter().acquire("disk1", "X", 0, True)):
        with pytest.raises(ArbiterError):
            ask(keys, "stranger", call)
    assert f"no pair has the fingerprint {keys.of('stranger')}" in witness.log()
    assert still_held(keys, witness, held)


def test_s11_a_node_of_another_pair_has_no_say(keys: Keys, witness: Served) -> None:
    """Its disk1 is another one, whatever name it gives for itself."""
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    stolen = Lease("disk1", "hast1", held.epoch, 3.0, 0.0)
    answer = ask(keys, "x", witness.arbiter().keepalive(stolen))
    assert isinstance(answer, Refused)
    assert (answer.holder, answer.epoch) == ("", 0)
    assert isinstance(ask(keys, "x", witness.arbiter().clear_outdated(stolen, "x")), Refused)
    ask(keys, "x", witness.arbiter().release(stolen))
    assert still_held(keys, witness, held)
    assert lease(ask(keys, "x", witness.arbiter().acquire("disk1", "hast1", 0, True))).epoch == 1
    assert still_held(keys, witness, held)
    assert witness.state()["lab%disk1"]["holder"] == "x"


def test_s11_the_other_node_of_the_pair_cannot_act_for_the_holder(keys: Keys, witness: Served) -> None:
    """It knows name and epoch; its key says who it is."""
    witness.start_with(keys.lines())
    held = held_by_hast1(keys, witness)
    assert isinstance(ask(keys, "hast2", witness.arbiter().clear_outdated(held, "peer")), Refused)
    ask(keys, "hast2", witness.arbiter().release(held))
    assert still_held(keys, witness, held)
    answer = ask(keys, "hast2", witness.arbiter().acquire("disk1", "hast1", 0))
    assert isinstance(answer, Refused)


def test_s11_force_is_logged_and_is_a_right_that_a_pair_may_do_without(keys: Keys, witness: Served) -> None:
    lab, office = sorted(keys.lines().splitlines())
    witness.start_with(f"{office} no-force\n{lab}\n")
    for one, other in (("hast1", "hast2"), ("x", "y")):
        held = lease(ask(keys, one, witness.arbiter().acquire("disk1", one, 0)))
        lease(ask(keys, one, witness.arbiter().record_outdated(held, "peer")))
        ask(keys, one, witness.arbiter().release(held))
        answer = ask(keys, other, witness.arbiter().acquire("disk1", other, 0, True))
        assert isinstance(answer, Refused if one == "hast1" else Lease)
    assert "hast2 asked for an outdated copy by force, and its pair may not" in witness.log()
    assert "lab%disk1: y takes over an outdated copy by force" in witness.log()


def test_300_idle_connections_do_not_keep_a_node_waiting(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())
    with contextlib.ExitStack() as stack:
        for number in range(300):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", witness.port), 5))
            if number % 3:
                sock.sendall((b"S", b"{")[number % 2])
        started = time.monotonic()
        held = lease(ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0)))
        assert time.monotonic() - started < 0.9
        assert lease(ask(keys, "hast1", witness.arbiter().keepalive(held))).epoch == held.epoch


def test_a_connection_that_says_nothing_is_ended(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())
    started = time.monotonic()
    assert lines_told(witness.port, b"", 10.0) == b""
    assert time.monotonic() - started < 8.0


def test_s11_a_witness_with_another_key_is_asked_nothing(keys: Keys, witness: Served) -> None:
    """Whoever took its address: no certificate is kept, no question sent, and none in plain text."""
    witness.start_with(keys.lines())
    with pytest.raises(ArbiterError, match=r"not the one that hast.conf names"):
        ask(keys, "hast1", witness.arbiter("ab" * 32).acquire("disk1", "hast1", 0))
    assert witness.state() == {}
    assert not list((Path(os.environ["HAST_STATE"])).glob("peers/*"))


def test_a_node_that_expects_a_key_never_speaks_plain(keys: Keys, witness: Served) -> None:
    """Nor does a witness without a file of nodes take it for one that does."""
    witness.start()
    with pytest.raises(ArbiterError):
        ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0))
    assert witness.state() == {}
    assert "wants to prove who it is: this witness has no file of nodes" in witness.log()
    heard = []

    async def listening() -> None:
        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(100))
            writer.write(b'{"witness": "x", "epoch": 1, "ttl_s": 3}\n')
            writer.close()

        server = await asyncio.start_server(hear, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        arbiter = WitnessArbiter([f"127.0.0.1:{port}"], fingerprints=[witness.fingerprint])
        for _ in range(2):
            with pytest.raises(ArbiterError):
                await arbiter.acquire("disk1", "hast1", 0)
        server.close()

    ask(keys, "hast1", listening())
    assert all(b"disk1" not in each for each in heard)


def test_a_witness_without_a_file_of_nodes_says_so(witness: Served) -> None:
    witness.start()
    line = json.dumps({"do": "is-outdated", "resource": "disk1", "node": "a"}).encode() + b"\n"
    assert b'"outdated": false' in lines_told(witness.port, line)
    assert "Without a file of nodes whoever reaches this port is believed" in witness.log()


def wait_for_log(witness: Served, text: str, count: int = 1) -> None:
    end = time.monotonic() + 5
    while witness.log().count(text) < count:
        assert time.monotonic() < end, witness.log()
        time.sleep(0.02)


def test_sighup_reads_the_file_again_and_a_mistake_changes_nothing(keys: Keys, witness: Served) -> None:
    lab, office = sorted(keys.lines().splitlines())
    witness.start_with(f"{lab}\n")
    with pytest.raises(ArbiterError):
        ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0))
    witness.write(f"{lab}\n{office}\n")
    witness.reload()
    wait_for_log(witness, "Serving 2 pairs")
    lease(ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0)))
    witness.write("office\n")
    witness.reload()
    wait_for_log(witness, "The file of nodes stays as it was")
    lease(ask(keys, "hast1", witness.arbiter().acquire("disk1", "hast1", 0)))
    witness.nodes.unlink()
    witness.reload()
    wait_for_log(witness, "The file of nodes stays as it was", 2)
    assert lines_told(witness.port, b'{"do": "is-outdated", "resource": "disk1", "node": "a"}\n') == b""


def test_s11_what_was_recorded_before_the_pair_had_keys_counts_on(keys: Keys, witness: Served) -> None:
    witness.start()
    plain = WitnessArbiter([witness.target])
    held = lease(asyncio.run(plain.acquire("disk1", "hast1", 0)))
    lease(asyncio.run(WitnessArbiter([witness.target]).record_outdated(held, "peer")))
    witness.end()
    witness.start_with(keys.lines())
    time.sleep(3.1)
    lease(ask(keys, "x", witness.arbiter().acquire("disk1", "x", 0)))
    answer = ask(keys, "hast2", witness.arbiter().acquire("disk1", "hast2", 0))
    assert isinstance(answer, Refused)
    assert answer.reason == "this copy is outdated: hast1 went on without it"


def test_s11_a_witness_that_knows_pairs_does_not_start_without_their_keys(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())
    held_by_hast1(keys, witness)
    witness.end()
    command = [sys.executable, "-m", "hast.cli.hast_witness", "-F", "-l", witness.target]
    command += ["-f", str(witness.directory / "witness.json"), "-P", str(witness.directory / "pid")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert "remembers pairs that have keys, and there is no /etc/hast-witness.nodes" in done.stderr
    done = subprocess.run([*command, "--nodes", "/nowhere"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (72, f"hast-witness: {CANNOT_OPEN}: No such file or directory.\n")


def test_the_witness_changes_its_key_and_no_node_is_refused(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())

    def manage(option: str) -> str:
        command = [sys.executable, "-m", "hast.cli.hast_witness", "-f", str(witness.directory / "witness.json"), option]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()[0]

    present, following = manage("--show-key"), manage("--next-key")
    assert present == witness.fingerprint != following
    arbiter = witness.arbiter(present, following)
    held = lease(ask(keys, "hast1", arbiter.acquire("disk1", "hast1", 0)))
    assert manage("--switch-key") == following == witness.fingerprint
    assert lease(ask(keys, "hast1", arbiter.keepalive(held))).epoch == held.epoch
    assert lease(ask(keys, "hast1", witness.arbiter(following).keepalive(held))).epoch == held.epoch


def test_a_node_with_two_keys_is_the_same_node(keys: Keys, witness: Served) -> None:
    """While its key is changed: the lease that it got with one it keeps with the other."""
    lab, office = sorted(keys.lines().splitlines())
    witness.start_with(f"{lab}\n{office} hast1={keys.of('stranger')}\n")
    held = held_by_hast1(keys, witness)
    assert lease(ask(keys, "stranger", witness.arbiter().keepalive(held))).epoch == held.epoch


def test_a_host_in_the_middle_gets_no_question_and_no_answer(keys: Keys, witness: Served) -> None:
    """It lets the certificate of the true witness pass, and then plays the witness with a key of its own."""
    witness.start_with(keys.lines())
    keys.become("stranger")
    context, fetched = client_context(), []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)

        async def play() -> None:
            sock, _where = await loop.sock_accept(listening)
            assert await loop.sock_recv(sock, 1) == b"S"
            stream = TlsStream(sock, context, server=False)
            await stream.handshake()
            with contextlib.suppress(OSError):
                fetched.append(await stream.receive(1000))

        keys.become("hast1")
        await _fetch(witness.arbiter()._targets[0], [witness.fingerprint])
        playing = asyncio.create_task(play())
        arbiter = WitnessArbiter([f"127.0.0.1:{listening.getsockname()[1]}"], fingerprints=[witness.fingerprint])
        with pytest.raises(ArbiterError, match=r"its key is not one that hast.conf names"):
            await arbiter.acquire("disk1", "hast1", 0)
        await playing
        listening.close()

    asyncio.run(story())
    assert [each for each in fetched if each] == []


def test_who_fetches_the_certificate_hears_nothing_else(keys: Keys, witness: Served) -> None:
    witness.start_with(keys.lines())
    keys.become("hast1")

    async def story() -> None:
        with await _connected(witness.arbiter()._targets[0]) as sock:
            sock.send(b"F")
            stream = TlsStream(sock, client_context(), server=False)
            await stream.handshake()
            assert stream.peer == witness.fingerprint
            with pytest.raises((TlsError, OSError)):
                await stream.receive(10)

    asyncio.run(story())


def test_the_key_of_a_witness_is_for_its_user_alone(witness: Served) -> None:
    witness.start()
    for name in (node_key.KEY, node_key.CERTIFICATE, "witness.json"):
        assert (witness.directory / name).stat().st_mode & 0o077 == 0
    assert ssl.PEM_cert_to_DER_cert((witness.directory / node_key.CERTIFICATE).read_text())


def test_questions_share_a_session_and_a_new_one_is_made_when_the_witness_was_restarted(
    keys: Keys, witness: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.start_with(keys.lines())
    handshakes = []
    counted = TlsStream.handshake

    async def handshake(stream: TlsStream) -> None:
        handshakes.append(stream)
        await counted(stream)

    monkeypatch.setattr(TlsStream, "handshake", handshake)

    async def story() -> None:
        one, two = witness.arbiter(), witness.arbiter()
        held = lease(await one.acquire("disk1", "hast1", 0))
        for _ in range(20):
            lease(await one.keepalive(held))
            assert not await two.is_outdated("disk2", "hast1")
        assert len(handshakes) == 2, "one to fetch the certificate, one to ask"
        witness.end()
        witness.start("--nodes", str(witness.nodes))
        assert lease(await one.keepalive(held)).epoch == held.epoch

    ask(keys, "hast1", story())
    assert len(handshakes) == 3


def test_s11_a_node_that_was_taken_out_of_the_file_is_not_heard_in_its_old_session_either(
    keys: Keys, witness: Served
) -> None:
    lab, office = sorted(keys.lines().splitlines())
    witness.start_with(f"{lab}\n{office}\n")

    async def story() -> None:
        arbiter = witness.arbiter()
        held = lease(await arbiter.acquire("disk1", "hast1", 0))
        witness.write(f"{lab}\n")
        witness.reload()
        wait_for_log(witness, "Serving one pair")
        with pytest.raises(ArbiterError):
            await arbiter.keepalive(held)

    ask(keys, "hast1", story())
