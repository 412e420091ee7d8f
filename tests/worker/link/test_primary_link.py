"""The primary's link against scripted peers: every refusal, loss and silence ends one attempt, and only that."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from worker_pair import read_frame

from hast.config.model import Resource
from hast.format import compression, frame, handshake, nv
from hast.format.constants import OUR_FEATURES, Compression, SyncSource
from hast.format.reply import encode_replies
from hast.format.request import RequestDecoder
from hast.replication.splitbrain import Changes
from hast.replication.types import FLUSH, Metadata, Peer, WireReply
from hast.worker.link import primary_link
from hast.worker.link.decisions.key_use import CONNECTION_IS_SPENT
from hast.worker.link.primary_link import Outcome, PrimaryLink, Stage
from hast.worker.reactor import EpollReactor

METADATA = Metadata("disk1", 8 << 20, 65536, 4, 4608, 77, 3, 2, "primary")
ACCEPTANCE = handshake.SecondReply(8 << 20, 65536, 2, 3, SyncSource.PRIMARY, False, 512, bytes(512))


class FakeEngine:
    """What the link needs of the engine."""

    class Core:
        meta = METADATA

    def __init__(self) -> None:
        self.core = self.Core()
        self.hello_ready = True
        self.calls: list[tuple[str, Any]] = []

    def begin_handshake(self, now: float) -> None:
        self.calls.append(("begin", None))

    def second_hello(self) -> tuple[int, int, int, bool]:
        return 77, 3, 2, False

    def changes(self) -> Changes:
        return Changes(5, 1000)

    def attach(self, peer: Peer, now: float) -> None:
        self.calls.append(("attach", peer))

    def detach(self, reason: str, now: float) -> None:
        self.calls.append(("detach", reason))

    def replies(self, batch: list[WireReply], now: float) -> None:
        self.calls.append(("replies", batch))


class ScriptedPeer:
    """Runs `script(self)` in a thread; `a` and `b` are what it accepted. Errors of closed sockets are expected."""

    def __init__(self, script: Callable[[ScriptedPeer], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets: list[socket.socket] = []
        self.failure: BaseException | None = None
        self._script = script
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._script(self)
        except OSError:
            pass
        except BaseException as error:
            self.failure = error

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.settimeout(10)
        self.sockets.append(sock)
        return sock

    def hello(self, features: int = int(OUR_FEATURES)) -> socket.socket:
        """Messages 1 and 2."""
        a = self.accept()
        read_frame(a)
        send(a, handshake.HelloReply(2, b"t" * 16, features).fields())
        return a

    def shake_hands(self) -> tuple[socket.socket, socket.socket]:
        a = self.hello()
        b = self.accept()
        read_frame(b)
        send(a, ACCEPTANCE.fields(), ACCEPTANCE.bitmap)
        return a, b

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for sock in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for sock in [self.listener, *self.sockets]:
            sock.close()
        assert self.failure is None


def send(sock: socket.socket, fields: Any, data: bytes | None = None) -> None:
    sock.sendall(b"".join(bytes(part) for part in frame.encode(2, fields, data)))


def stay(peer: ScriptedPeer) -> None:
    """A good peer that says nothing more."""
    peer.shake_hands()
    peer.accept()


class Bench:
    """A link on a reactor, and the outcomes of its attempts."""

    def __init__(self) -> None:
        self.reactor = EpollReactor()
        self.engine = FakeEngine()
        self.outcomes: list[Outcome] = []
        self.peers: list[ScriptedPeer] = []
        self.link: PrimaryLink | None = None

    def peer(self, script: Callable[[ScriptedPeer], None]) -> str:
        self.peers.append(ScriptedPeer(script))
        return self.peers[-1].address

    def start(self, *remotes: str, timeout_s: int = 5) -> PrimaryLink:
        resource = Resource("disk1", "disk1", "/none", remotes, timeout_s=timeout_s)
        self.link = PrimaryLink(self.reactor, resource, self.engine, self.outcomes.append, b"b" * 16)
        self.reactor.at_round_end(self.link.pump)
        self.link.start()
        return self.link

    def until(self, condition: Callable[[], bool], deadline_s: float = 10) -> None:
        timer = self.reactor.call_later(deadline_s, self.reactor.stop)
        self.reactor._stopped = False
        hook = lambda: self.reactor.stop() if condition() else None  # noqa: E731
        self.reactor.at_round_end(hook)
        if not condition():
            self.reactor.run()
        self.reactor._round_hooks.remove(hook)
        timer.cancel()
        assert condition(), f"outcomes {self.outcomes}, calls {self.engine.calls}"

    def called(self, name: str) -> list[Any]:
        return [value for call, value in self.engine.calls if call == name]

    def close(self) -> None:
        if self.link is not None:
            self.link.close("the test is over")
        for peer in self.peers:
            peer.close()
        self.reactor.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(primary_link, "QUICK_RETRY_S", 0.05)
    bench = Bench()
    yield bench
    bench.close()


def test_a_handshake_attaches_and_requests_and_replies_flow(bench: Bench) -> None:
    got: list[Any] = []

    def script(peer: ScriptedPeer) -> None:
        a, b = peer.shake_hands()
        data = a.recv(1000)
        got.extend(RequestDecoder(1 << 20).decode(memoryview(data), 0, len(data))[0])
        b.sendall(b"".join(bytes(part) for part in encode_replies([(9, 0, False, None)])))
        peer.accept()

    link = bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.called("attach")))
    (peer,) = bench.called("attach")
    assert (peer.features, peer.localcnt, peer.remotecnt, peer.bitmap) == (OUR_FEATURES, 2, 3, bytes(512))
    assert bench.outcomes == [Outcome(True)]
    link.send([(FLUSH, 9, 0, 0, None, False)])
    bench.until(lambda: bool(bench.called("replies")))
    assert got == [(FLUSH, 9, 0, 0, None, False)]
    assert bench.called("replies") == [[(9, 0, False, None)]]
    assert link.status()["stage"] == "up"


def test_a_peer_of_protocol_1_is_spoken_to_in_protocol_1(bench: Bench) -> None:
    """FreeBSD 8.x to 9.1: no version in message 2, and every header must say 1 (section 11)."""
    versions: list[int] = []
    fields: list[list[str]] = []

    def script(peer: ScriptedPeer) -> None:
        a = peer.accept()
        versions.append(read_frame(a).version)
        a.sendall(b"".join(bytes(part) for part in frame.encode(1, [nv.u8s("token", b"t" * 16)])))
        message = read_frame(peer.accept())
        versions.append(message.version)
        fields.append([name for name, _kind, _value in message.nv.fields])
        a.sendall(b"".join(bytes(part) for part in frame.encode(1, ACCEPTANCE.fields(), ACCEPTANCE.bitmap)))
        versions.append(read_frame(a).version)
        peer.accept()

    link = bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.called("attach")))
    link.send([(FLUSH, 9, 0, 0, None, False)])
    bench.until(lambda: len(versions) == 3)
    assert versions == [1, 1, 1]
    assert bench.called("attach")[0].version == 1
    assert fields[0][:5] == ["resource", "token", "resuid", "localcnt", "remotecnt"]


def test_message_3_waits_for_the_engine(bench: Bench) -> None:
    bench.engine.hello_ready = False
    link = bench.start(bench.peer(stay))
    bench.until(lambda: bool(bench.called("begin")))
    bench.reactor.call_later(0.1, lambda: setattr(bench.engine, "hello_ready", True))
    assert link.stage is Stage.SETTLING
    bench.until(lambda: bool(bench.called("attach")))


def test_a_peer_that_asks_to_wait_is_tried_again_soon(bench: Bench) -> None:
    def script(peer: ScriptedPeer) -> None:
        for _ in range(2):
            a = peer.accept()
            read_frame(a)
            send(a, handshake.refusal("Remote node acts as primary for the resource and not as secondary.", True))
        peer.shake_hands()
        peer.accept()

    link = bench.start(bench.peer(script))
    bench.until(lambda: len(bench.outcomes) == 3)
    assert [(outcome.answered, outcome.busy) for outcome in bench.outcomes[:2]] == [(True, True)] * 2
    assert bench.outcomes[2].connected
    assert link.trouble is None


def test_a_connection_whose_keys_are_used_up_is_followed_by_another_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary_link, "QUICK_RETRY_S", 1000.0)

    def script(peer: ScriptedPeer) -> None:
        for _ in range(2):
            peer.shake_hands()
        peer.accept()

    link = bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.called("attach")))
    link._lost("A", CONNECTION_IS_SPENT)
    bench.until(lambda: len(bench.called("attach")) == 2)
    assert bench.called("detach") == ["connection A: its keys are used up"]


def test_a_refusal_on_connection_b_is_noticed_at_once(bench: Bench) -> None:
    def script(peer: ScriptedPeer) -> None:
        peer.hello()
        b = peer.accept()
        read_frame(b)
        send(b, handshake.refusal("Token doesn't match."))
        peer.accept()

    link = bench.start(bench.peer(script), timeout_s=20)
    bench.until(lambda: bool(bench.outcomes), deadline_s=5)
    assert bench.outcomes[0].reason == "Token doesn't match."
    assert link.trouble == ("refused", "Token doesn't match.")
    assert len(bench.called("detach")) == 1


def test_a_peer_of_another_size_is_refused(bench: Bench) -> None:
    def script(peer: ScriptedPeer) -> None:
        a = peer.hello()
        read_frame(peer.accept())
        send(a, handshake.SecondReply(4 << 20, 65536, 0, 0, SyncSource.PRIMARY).fields())
        peer.accept()

    bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.outcomes))
    assert bench.outcomes[0].reason == "Data size differs between nodes (local=8388608, remote=4194304)."
    assert bench.called("attach") == []


@pytest.mark.parametrize("talk", ["nothing", "hello only"])
def test_a_silent_peer_costs_one_timeout(bench: Bench, talk: str) -> None:
    def script(peer: ScriptedPeer) -> None:
        if talk == "nothing":
            peer.accept()
        else:
            peer.hello()
            peer.accept()
        peer.accept()

    bench.start(bench.peer(script), timeout_s=1)
    bench.until(lambda: bool(bench.outcomes), deadline_s=5)
    assert not bench.outcomes[0].answered
    assert "within 1 s" in bench.outcomes[0].reason


def test_the_second_address_is_used_when_the_first_is_dead(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"127.0.0.1:{closed.getsockname()[1]}"
    alive = bench.peer(stay)
    link = bench.start(dead, alive)
    bench.until(lambda: bool(bench.outcomes))
    assert bench.outcomes == [Outcome(True)]
    assert link.peer_address == alive


def test_a_hurried_link_reaches_the_second_address_though_the_first_is_silent(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        alive = bench.peer(stay)
        link = bench.start("127.0.0.1:1", alive)
        link.close("prepared")
        link._resource = replace(link._resource, remotes=(f"127.0.0.1:{full.getsockname()[1]}", alive))
        link.hurry_s = 0.8
        began_s = time.monotonic()
        link.start()
        bench.until(lambda: link.stage is Stage.UP)
        for filler in fillers:
            filler.close()
    assert time.monotonic() - began_s < 3.0
    assert bench.outcomes[-1] == Outcome(True)


@pytest.mark.parametrize("victim", ["A", "B"])
@pytest.mark.parametrize("how", ["close", "garbage"])
def test_losing_either_connection_detaches_and_reconnects(bench: Bench, victim: str, how: str) -> None:
    def script(peer: ScriptedPeer) -> None:
        a, b = peer.shake_hands()
        sock = a if victim == "A" else b
        if how == "close":
            sock.close()
        else:
            sock.sendall(b"\xff" * 64)
        peer.shake_hands()
        peer.accept()

    bench.start(bench.peer(script))
    bench.until(lambda: len(bench.called("attach")) == 2)
    assert len(bench.called("detach")) == 1
    assert victim in bench.called("detach")[0] or "reply" in bench.called("detach")[0]


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_instead_of_message_2_end_the_attempt(bench: Bench, seed: int) -> None:
    def script(peer: ScriptedPeer) -> None:
        for _ in range(3):
            sock = peer.accept()
            sock.sendall(bytes([seed % 3]) + os.urandom(seed * 100 + 30))
            sock.shutdown(socket.SHUT_WR)
        peer.accept()

    bench.start(bench.peer(script))
    bench.until(lambda: len(bench.outcomes) >= 2)
    assert not any(outcome.connected for outcome in bench.outcomes)


def test_a_huge_announced_message_is_refused_not_allocated(bench: Bench) -> None:
    def script(peer: ScriptedPeer) -> None:
        sock = peer.accept()
        sock.sendall(b"\x02\xff\xff\xff\x7f")
        peer.accept()

    bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.outcomes))
    assert "2147483647" in bench.outcomes[0].reason


@pytest.mark.parametrize("message", ["2", "4", "refusal of 3"])
def test_a_peer_cannot_have_more_unpacked_than_a_map_of_our_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    """Security finding 7: 64 MiB of lzf in message 2 were unpacked in the reactor, and clients waited for 20 s."""
    monkeypatch.setattr(compression, "lzf_decompress", lambda *_arguments: pytest.fail("unpacked"))
    bomb = frame.encode(2, ACCEPTANCE.fields(), bytes(range(256)) * 4096, compression=Compression.LZF)

    def script(peer: ScriptedPeer) -> None:
        sock = a = peer.accept() if message == "2" else peer.hello()
        if message != "2":
            b = peer.accept()
            sock = a if message == "4" else b
        read_frame(a if message == "2" else b)
        sock.sendall(b"".join(bytes(part) for part in bomb))
        peer.accept()

    bench.start(bench.peer(script))
    bench.until(lambda: bool(bench.outcomes))
    assert "are taken" in bench.outcomes[0].reason


def test_a_changed_remote_address_moves_the_link(bench: Bench) -> None:
    first = bench.peer(stay)
    second = bench.peer(stay)
    link = bench.start(first)
    bench.until(lambda: bool(bench.outcomes))
    link.reconfigure(Resource("disk1", "disk1", "/none", (second,), timeout_s=5))
    bench.until(lambda: len(bench.outcomes) == 2)
    assert link.peer_address == second
    assert bench.called("detach") == ["the configuration has changed"]


def test_without_a_remote_address_nothing_is_tried(bench: Bench) -> None:
    link = bench.start()
    assert link.stage is Stage.OFF
    assert bench.outcomes == [Outcome(False, "no remote address is configured")]


def test_a_closed_link_tries_no_more(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"127.0.0.1:{closed.getsockname()[1]}"
    link = bench.start(dead)
    bench.until(lambda: bool(bench.outcomes))
    link.close("end")
    count = len(bench.outcomes)
    bench.reactor._stopped = False
    bench.reactor.call_later(0.2, bench.reactor.stop)
    bench.reactor.run()
    assert len(bench.outcomes) == count
