"""One picture of both nodes: two real hastd with keys, asked over the socket that only answers. No root."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import Any

import pytest
from daemon_pair import Pair, needs_qemu_io

from daemon import Daemon, wait_for
from hast.daemon.tls import client_context
from hast.format import frame, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES, PROTOCOL_VERSION, ControlCommand, Role
from hast.format.control import json_request, role_request
from hast.watch.picture import Picture
from hast.watch.source import NoAnswer, Source

pytestmark = needs_qemu_io


def ask(daemon: Daemon, fields: list[nv.Field]) -> nv.Nv:
    """One message there, one back, on observe.sock."""
    decoder = frame.FrameDecoder(MAX_CONTROL_BODY_BYTES, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(daemon.run_directory / "observe.sock"))
        sock.sendall(b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, fields)))
        while (message := decoder.next()) is None:
            piece = sock.recv(1 << 16)
            assert piece, "closed without an answer"
            decoder.feed(piece)
    return message.nv


def question(daemon: Daemon, request: dict[str, Any]) -> dict[str, Any]:
    answer = ask(daemon, json_request(json.dumps(request))).get("json", nv.NvType.STRING)
    found: dict[str, Any] = json.loads(answer or "{}")
    return found


def test_a_report_holds_both_nodes_and_says_so_when_the_other_does_not_answer(secure: Pair) -> None:
    found = {"time": 5.0, "parts": {"pool zhast": True}}
    (secure.two.run_directory / "failover.parts").write_text(json.dumps(found))
    reply = question(secure.one, {"command": "report", "peer": True})
    (peer,) = reply["peers"]
    assert (reply["node"]["parts"], peer["node"]["parts"]) == (None, found)
    assert reply["node"]["resources"][0]["role"] == "primary"
    assert (peer["error"], peer["resources"]) == (None, ["disk1"])
    assert peer["node"]["resources"][0]["role"] == "secondary"
    assert reply["node"]["carp"]["vhids"] == []
    assert "carpd" in reply["node"]["carp"]["error"]

    secure.two.stop()

    def gone() -> bool:
        (peer,) = question(secure.one, {"command": "report", "peer": True})["peers"]
        return peer["node"] is None and bool(peer["error"])

    wait_for(gone, "an answer without the other node")
    assert question(secure.one, {"command": "report"})["peers"] == []


def test_nothing_can_be_ordered_on_the_socket_that_only_answers(secure: Pair) -> None:
    for request in ({"command": "role", "role": "init", "resources": ["all"]}, {"command": "reload"}):
        assert "answers questions only" in question(secure.one, request)["error"]
    reply = ask(secure.one, role_request(Role.INIT, ["all"]))
    assert reply.get("error", nv.NvType.INT16)
    status = ask(secure.one, [nv.u8("cmd", ControlCommand.STATUS), nv.string("resource0", "all")])
    assert status.get("role0", nv.NvType.STRING) == "primary"
    assert secure.words() == ["complete", "complete"]


def test_a_report_is_told_to_no_one_without_the_key(secure: Pair) -> None:
    message = b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, [nv.u8("report", 1)]))
    with socket.create_connection(("127.0.0.1", secure.two.port), timeout=5) as sock:
        sock.sendall(message)
        assert sock.recv(65536) == b""
    with socket.create_connection(("127.0.0.1", secure.two.port), timeout=5) as raw:
        context = client_context(secure.two.directory / "state")
        heard = b""
        try:
            with context.wrap_socket(raw) as sock:
                sock.sendall(message)
                heard = sock.recv(65536)
        except (ssl.SSLError, OSError):
            pass
        assert heard == b"", "a node's own key is not the other one's"


def test_a_picture_is_had_from_the_socket_and_one_that_says_why_without_hastd(secure: Pair) -> None:
    source = Source(str(secure.one.run_directory / "observe.sock"), keep_s=0.0)

    async def look() -> Picture:
        return await source.picture()

    picture = asyncio.run(look())
    assert [node.error for node in picture.nodes] == ["", ""]
    assert (picture.pairs[0].status, len(list(picture.pairs[0].sides))) == ("complete", 2)
    secure.one.stop()
    assert "is it running?" in asyncio.run(look()).here.error


def test_events_come_over_the_socket_until_hastd_ends(secure: Pair) -> None:
    source = Source(str(secure.two.run_directory / "observe.sock"))
    heard: list[str] = []

    async def listen() -> None:
        async for event in source.events(since=0):
            if not heard:
                secure.two.stop()
            heard.append(event["event"])

    with pytest.raises(NoAnswer):
        asyncio.run(listen())
    assert {"role", "connect"} <= set(heard)
