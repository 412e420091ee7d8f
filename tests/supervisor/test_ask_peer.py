"""Is the other node primary still? Its own word counts; silence and nonsense do not."""

from __future__ import annotations

import asyncio

import pytest

from hast.config.model import Resource
from hast.format import frame, nv
from hast.supervisor import ask_peer
from hast.supervisor.decisions.departure import PeerAnswer


def answered(*parts: bytes | None) -> bool:
    """The verdict on a peer that answers message 1 with these bytes; None closes."""

    async def scenario() -> bool:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            for part in parts:
                if part is None:
                    writer.close()
                    return
                writer.write(part)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            answer = await ask_peer.ask(Resource("disk1", "disk1", "/none", (f"127.0.0.1:{port}",)))
            return answer is PeerAnswer.PRIMARY
        finally:
            server.close()

    return asyncio.run(scenario())


def refusal(*more: nv.Field) -> bytes:
    return b"".join(bytes(part) for part in frame.encode(1, [nv.string("errmsg", "Remote node acts."), *more]))


def test_a_peer_that_asks_to_wait_is_primary() -> None:
    assert answered(refusal(nv.u8("wait", 1)))


def test_any_other_refusal_is_not_that_of_a_primary() -> None:
    assert not answered(refusal())


@pytest.mark.parametrize("parts", [(None,), (b"\xff" * 64,), (b"\x01", None)])
def test_nonsense_is_no_word(parts: tuple[bytes | None, ...]) -> None:
    assert not answered(*parts)


@pytest.mark.parametrize(
    ("remotes", "expected"),
    [
        (("127.0.0.1:1", "bad::address:x"), PeerAnswer.REFUSED),
        (("bad::address:x",), PeerAnswer.NONE),
        ((), PeerAnswer.NONE),
    ],
)
def test_a_host_without_a_hastd_is_told_from_nobody(remotes: tuple[str, ...], expected: PeerAnswer) -> None:
    assert asyncio.run(ask_peer.ask(Resource("disk1", "disk1", "/none", remotes))) is expected


def test_a_silent_peer_costs_a_deadline_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_peer, "ANSWER_S", 0.1)
    assert not answered()
