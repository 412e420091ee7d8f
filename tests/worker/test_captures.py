"""Recorded conversations of two genuine daemons, replayed against our workers in both roles."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from capture import Message, Scenario, Session, body, pattern, values
from nbd_client import FLUSH, READ, TRIM, WRITE, NbdClient
from worker_pair import Worker, read_frame, start_primary, wait_until

from hast.config.model import Device, Resource
from hast.format import frame, nv
from hast.format import metadata as metadata_format
from hast.format.constants import Checksum, Command, Compression, Replication
from hast.format.reply import ReplyDecoder
from hast.worker import messages

AREA_OFFSET = 4608


def scenario(shared_compat: Path, name: str) -> Scenario:
    return Scenario(shared_compat / "captures" / name)


def settings(of: Scenario, node: str) -> dict[str, Any]:
    found = of.settings(node)
    return {
        "replication": Replication(found["replication"]),
        "checksum": Checksum(found["checksum"]),
        "compression": Compression(found["compression"]),
        "timeout_s": int(found["timeout"]),
    }


# The secondary


class Replay:
    """A secondary worker on the image of a recorded node; the test plays the recorded primary."""

    def __init__(self, of: Scenario, session: Session, image: Path) -> None:
        node = "nodeb" if session.initiator == "nodea" else "nodea"
        self.session = session
        self.a, theirs_a = socket.socketpair()
        self.b, theirs_b = socket.socketpair()
        hello = session.sent("B", True)[0]
        resource = Resource("r0", "r0", str(image), (), device=Device.NONE, **settings(of, node))
        start = {"role": "secondary", "resource": messages.resource_to_json(resource), "hello": body(hello).hex()}
        start |= {"version": min(2, hello.version), "features": 0, "peer": "recorded"}
        with theirs_a, theirs_b:
            self.worker = Worker(start, [theirs_a.fileno(), theirs_b.fileno()])
        for sock in (self.a, self.b):
            sock.settimeout(20)

    def fourth(self) -> frame.Frame:
        return read_frame(self.a)

    def run(self) -> list[tuple[int, int, bool, bytes]]:
        """Send the recorded requests; returns as many replies as were recorded."""
        expected = len(self.session.replies)
        got: list[tuple[int, int, bool, bytes]] = []
        decoder, buffer = ReplyDecoder(1 << 20), bytearray()
        for request in self.session.requests:
            self.a.sendall(request.raw)
        while len(got) < expected:
            assert select.select([self.b], [], [], 20)[0], f"{len(got)} of {expected} replies"
            data = self.b.recv(1 << 20)
            assert data, "the worker closed connection B"
            buffer += data
            batch, used = decoder.decode(memoryview(bytes(buffer)), 0, len(buffer))
            del buffer[:used]
            got += [(seq, error, received, bytes(data or b"")) for seq, error, received, data in batch]
        return got

    def end(self) -> None:
        self.a.close()
        self.b.close()
        self.worker.process.wait(20)
        self.worker.kill()


def recorded_reply(message: Message) -> tuple[int, int, bool, bytes]:
    return message.fields["seq"], message.fields.get("error", 0), "received" in message.fields, message.data


def check_fourth(got: frame.Frame, recorded: Message) -> None:
    """Same fields in the same order, same map."""
    fields = values(got.nv)
    for name in ("size", "hash"):
        assert (name in fields) == (name in recorded.fields)
    assert list(fields) == list(recorded.fields)
    assert {n: v for n, v in fields.items() if n != "errmsg"} == {
        n: v for n, v in recorded.fields.items() if n != "errmsg"
    }
    assert fields.get("errmsg") == recorded.fields.get("errmsg")
    assert bytes(got.data or b"") == recorded.data
    assert got.version == recorded.version


def deleted_ranges(session: Session) -> list[tuple[int, int]]:
    return [
        (message.fields["offset"], message.fields["length"])
        for message in session.requests
        if message.fields["cmd"] == Command.DELETE
    ]


ANSWERED = [
    ("01-virgin-fullsync", "before"),
    ("02-virgin-memsync-crc32-lzf", "before"),
    ("03-sha256-hole", "before"),
    ("04-fresh-secondary-full-sync", "before"),
    ("04a-alone-then-fresh-secondary", "before"),
    ("05-outage-resync", "before"),
    ("05b-outage-inflight-lost", "before"),
    ("05c-outage-inflight-keepdirty64", "before"),
    ("06a-failover", "before"),
    ("06b-syncsrc2", "before"),
    ("06c-syncsrc2-busy", "before"),
    ("07-split-brain", "before"),
    ("08d-datasize", "before"),
    ("08e-extentsize", "before"),
    ("08f-resuid", "before"),
    ("09-reconnect-fullsync", "cut"),
]
"""Scenario, and the snapshot of the secondary from which it is replayed."""


@pytest.mark.parametrize(("name", "label"), ANSWERED)
def test_the_secondary_answers_as_the_genuine_one_did(
    shared_compat: Path, tmp_path: Path, name: str, label: str
) -> None:
    of = scenario(shared_compat, name)
    sessions = of.sessions(f"snapshot {label}")
    assert sessions
    image, node = tmp_path / "image", ""
    for session in sessions:
        secondary = "nodeb" if session.initiator == "nodea" else "nodea"
        if node != secondary:
            image.write_bytes(of.image(secondary, label))
            node = secondary
        replay = Replay(of, session, image)
        try:
            recorded = session.sent("A", False)
            if len(recorded) > 1:
                check_fourth(replay.fourth(), recorded[1])
            got = replay.run()
        finally:
            replay.end()
        assert Counter(got) == Counter(map(recorded_reply, session.replies))
    area = bytearray(image.read_bytes()[AREA_OFFSET:])
    expected = bytearray(of.image(node, "after")[AREA_OFFSET:])
    for session in sessions:
        for offset, length in deleted_ranges(session):
            area[offset : offset + length] = expected[offset : offset + length] = bytes(length)
    assert area == expected


@pytest.mark.parametrize(
    ("name", "session_number", "inconsistent"),
    [
        ("01-virgin-fullsync", 0, False),
        ("02-virgin-memsync-crc32-lzf", 0, False),
        ("05-outage-resync", -1, True),
    ],
)
def test_only_a_synchronisation_of_what_is_lacking_leaves_the_copy_inconsistent_when_the_primary_dies(
    shared_compat: Path, tmp_path: Path, name: str, session_number: int, inconsistent: bool
) -> None:
    of = scenario(shared_compat, name)
    session = of.sessions()[session_number]
    image = tmp_path / "image"
    node = "nodeb" if session.initiator == "nodea" else "nodea"
    image.write_bytes(of.image(node, "before"))
    replay = Replay(of, session, image)
    replay.fourth()
    replay.run()
    replay.end()
    assert metadata_format.decode(image.read_bytes()[:4096]).inconsistent is inconsistent


def test_no_hand_made_message_is_worse_than_a_closed_connection(shared_compat: Path, tmp_path: Path) -> None:
    """The probe of section 11: bad requests, bad hashes, unknown commands. The worker closes, it never breaks."""
    of = scenario(shared_compat, "11-synthetic-probe")
    image = tmp_path / "image"
    image.write_bytes(of.image("nodeb", "before"))
    for session in of.sessions():
        replay = Replay(of, session, image)
        for request in session.requests:
            try:
                replay.a.sendall(request.raw)
            except OSError:
                break
        replay.a.close()
        assert replay.worker.process.wait(20) in (0, 75, 78)
        assert "Internal error" not in replay.worker.log()
        replay.end()


# The primary


class RecordedSecondary:
    """Plays a genuine secondary in a thread: the recorded handshake, then its own disk in memory."""

    def __init__(self, session: Session, image: bytes) -> None:
        self.session = session
        self.area = bytearray(image[AREA_OFFSET:])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp4://127.0.0.1:{self.listener.getsockname()[1]}"
        self.first: frame.Frame | None = None
        self.third: frame.Frame | None = None
        self.requests: list[tuple[dict[str, Any], bytes]] = []
        self.failure: Exception | None = None
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _run(self) -> None:
        try:
            self._converse()
        except (OSError, ConnectionError):
            pass
        except Exception as error:
            self.failure = error

    def _accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        self._sockets.append(sock)
        return sock

    def _converse(self) -> None:
        a = self._accept()
        self.first = read_frame(a)
        answers = self.session.sent("A", False)
        a.sendall(answers[0].raw)
        b = self._accept()
        self.third = read_frame(b)
        a.sendall(answers[1].raw)
        while True:
            message = read_frame(a)
            fields = values(message.nv)
            self.requests.append((fields, bytes(message.data or b"")))
            if fields["cmd"] != Command.KEEPALIVE:
                b.sendall(self._answer(fields, bytes(message.data or b"")))

    def _answer(self, fields: dict[str, Any], data: bytes) -> bytes:
        offset, length, seq = fields["offset"], fields["length"], nv.u64("seq", fields["seq"])
        if fields["cmd"] == Command.READ:
            return b"".join(bytes(part) for part in frame.encode(2, [seq], bytes(self.area[offset:][:length])))
        if fields["cmd"] == Command.WRITE:
            self.area[offset : offset + length] = data
        if fields["cmd"] == Command.DELETE:
            self.area[offset : offset + length] = bytes(length)
        received = frame.encode(2, [seq, nv.i8("received", 1)]) if "memsync" in fields else []
        return b"".join(bytes(part) for part in [*received, *frame.encode(2, [seq])])


def drive(client: NbdClient, lines: list[dict[str, Any]], node: str) -> None:
    """Do what the recorded client did."""
    lengths: dict[int, int] = {}
    for line in lines:
        words = str(line.get("mark", "")).split()
        if words[:2] == ["client", "done"]:
            _handle, error, _data = client.receive(lengths.get(line["id"], 0))
            assert error == 0
        elif words[:1] == ["client"] and line.get("node") == node:
            offset, length = line["off"], line["len"]
            if words[1] == "WRITE":
                client.send(WRITE, offset, data=pattern(offset, length, line["pattern"]))
            elif words[1] == "READ":
                lengths[line["id"]] = length
                client.send(READ, offset, length)
            else:
                client.send({"FLUSH": FLUSH, "TRIM": TRIM}[words[1]], offset, length)


def comparable(fields: dict[str, Any], data: bytes) -> tuple[Any, ...]:
    """A request without what may differ: its number and, where another encoder was at work, the compressed bytes."""
    free = {"seq", "hash", "size"} if fields.get("compression") == "lzf" else {"seq"}
    return (*((name, value) for name, value in fields.items() if name not in free), data)


def sent(requests: list[tuple[dict[str, Any], bytes]]) -> list[tuple[Any, ...]]:
    """What concerns data: flushes and keepalives are each implementation's own."""
    kept = [item for item in requests if item[0]["cmd"] not in (Command.FLUSH, Command.KEEPALIVE)]
    return [comparable(*item) for item in kept]


ASKED = [
    ("01-virgin-fullsync", "before", True),
    ("02-virgin-memsync-crc32-lzf", "before", True),
    ("03-sha256-hole", "before", True),
    ("04-fresh-secondary-full-sync", "before", False),
    ("05-outage-resync", "before", False),
    ("06a-failover", "before", False),
    ("06b-syncsrc2", "before", False),
]
"""Scenario, snapshot of the primary, whether the order of requests is given."""


@pytest.mark.parametrize(("name", "label", "ordered"), ASKED)
def test_the_primary_asks_as_the_genuine_one_did(
    shared_compat: Path, tmp_path: Path, name: str, label: str, ordered: bool
) -> None:
    of = scenario(shared_compat, name)
    session = of.sessions(f"snapshot {label}")[-1]
    node = session.initiator
    other = "nodea" if node == "nodeb" else "nodeb"
    image = tmp_path / "image"
    image.write_bytes(of.image(node, label))
    peer = RecordedSecondary(session, of.image(other, label))
    worker, path = start_primary(image, (peer.address,), tmp_path, name="r0", **settings(of, node))
    try:
        worker.expect_ready()
        worker.expect_event("connect")
        client = NbdClient(path)
        drive(client, of.after(f"snapshot {label}"), node)
        wait_until(lambda: worker.status()["sync"] is None and len(sent(peer.requests)) >= expected(session), "sync")
        client.close()
        assert worker.stop() == 0
    finally:
        worker.kill()
        peer.close()
    assert peer.failure is None
    check_hellos(peer, session)
    got, recorded = sent(peer.requests), sent([(m.fields, m.data) for m in session.requests])
    if ordered:
        assert got == recorded
    else:
        assert set(got) >= set(recorded)
    area = image.read_bytes()[AREA_OFFSET:]
    assert area == peer.area
    if not deleted_ranges(session):
        assert area == of.image(node, "after")[AREA_OFFSET:]
    check_counters(image.read_bytes(), of.image(node, "after"))


def expected(session: Session) -> int:
    return len(sent([(m.fields, m.data) for m in session.requests]))


def check_hellos(peer: RecordedSecondary, session: Session) -> None:
    """Messages 1 and 3: the recorded fields in their order, ours behind them; the resource id is random."""
    assert peer.first is not None
    assert peer.third is not None
    first, third = session.sent("A", True)[0], session.sent("B", True)[0]
    ours = values(peer.first.nv)
    assert list(ours) == [*first.fields, "features"]
    assert {name: ours[name] for name in first.fields} == first.fields
    assert peer.first.version == 1
    ours = values(peer.third.nv)
    assert list(ours) == [*third.fields, "bootid"]
    free = {"resuid"} if "virgin" in third.fields else set()
    assert {n: ours[n] for n in third.fields if n not in free} == {
        n: v for n, v in third.fields.items() if n not in free
    }


def check_counters(ours: bytes, recorded: bytes) -> None:
    mine, theirs = metadata_format.decode(ours[:4096]), metadata_format.decode(recorded[:4096])
    assert (mine.localcnt, mine.remotecnt, mine.datasize_bytes) == (
        theirs.localcnt,
        theirs.remotecnt,
        theirs.datasize_bytes,
    )


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [("07-split-brain", 2, "split-brain"), ("08d-datasize", 1, "refused"), ("08e-extentsize", 1, "refused")],
)
def test_the_primary_stays_alone_where_the_genuine_one_did(
    shared_compat: Path, tmp_path: Path, name: str, number: int, kind: str
) -> None:
    of = scenario(shared_compat, name)
    session = next(s for s in of.sessions() if (s.initiator, s.number) == ("nodea", number))
    image = tmp_path / "image"
    image.write_bytes(of.image("nodea", "before"))
    peer = RecordedSecondary(session, of.image("nodeb", "before"))
    worker, _path = start_primary(image, (peer.address,), tmp_path, name="r0", **settings(of, "nodea"))
    try:
        worker.expect_event(kind)
        if kind == "split-brain":
            assert "Split-brain" in worker.expect(lambda message: message.get("say") == "refused")["text"]
            return
        worker.expect_ready()
        status = worker.status()
        assert status["status"] == "degraded"
        assert [problem["kind"] for problem in status["problems"]] == [kind]
        assert peer.requests == []
    finally:
        worker.kill()
        peer.close()
