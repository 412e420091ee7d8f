"""One hast-witness for 200 pairs, each primary with a key and a lease that it renews. Slow: 200 keys are made."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_witness_keys import Served

from hast.config.address import Address, parse_address
from hast.daemon import node_key
from hast.daemon.tls import server_context
from hast.daemon.tls_stream import TlsStream
from hast.election.arbiter import LEASE_TTL_S
from hast.failover.arbiters.witness_link import SECURE, _connected, _converse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAIRS = 200
ROUNDS = 10
RENEWED_S = 1.0


class Primary:
    """Of one pair, as hastd speaks for it: a session that stays, one question after another."""

    def __init__(self, number: int, directory: Path) -> None:
        self.name = f"pair{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        node_key.generate(self.directory)
        self._epoch = 0
        self.took_s: list[float] = []

    def line(self) -> str:
        """Of the file of nodes; the other node never asks."""
        return f"{self.name} a={node_key.own_fingerprint(self.directory)} b={os.urandom(32).hex()}\n"

    def meets(self, witness: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HAST_STATE", str(self.directory))
        self._context = server_context([(witness.directory / node_key.CERTIFICATE).read_text()])

    async def begin(self, address: Address) -> None:
        sock = await _connected(address)
        await asyncio.get_running_loop().sock_sendall(sock, SECURE)
        self._stream = TlsStream(sock, self._context)
        await self._stream.handshake()
        await self._ask({"do": "acquire"})

    async def renew(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(RENEWED_S)
            began_s = time.monotonic()
            await self._ask({"do": "keepalive"})
            self.took_s.append(time.monotonic() - began_s)

    async def _ask(self, what: dict[str, Any]) -> None:
        same = {"resource": "disk1", "node": "a", "epoch": self._epoch, "ttl_s": LEASE_TTL_S}
        reply = await _converse(self._stream, same | what)
        assert set(reply) == {"witness", "epoch", "ttl_s"}, reply
        self._epoch = int(reply["epoch"])

    def close(self) -> None:
        self._stream.sock.close()


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "witness").mkdir()
    served = Served(tmp_path / "witness")
    yield served
    served.end()


def test_s11_200_pairs_hold_their_leases_at_one_witness(
    tmp_path: Path, witness: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    primaries = [Primary(number, tmp_path) for number in range(PAIRS)]
    witness.start_with("".join(each.line() for each in primaries))
    for each in primaries:
        each.meets(witness, monkeypatch)
    began_s, used_s, ended_s, descriptors = asyncio.run(serve(primaries, witness))
    took_ms = sorted(1000 * each for primary in primaries for each in primary.took_s)
    assert len(took_ms) == PAIRS * ROUNDS
    median_ms, p99_ms = took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100]
    print(f"{PAIRS} pairs: leases after {began_s:.2f} s; renewed at once, every {RENEWED_S:g} s:")
    print(f"p50 {median_ms:.1f} ms, p99 {p99_ms:.1f} ms, longest {took_ms[-1]:.1f} ms")
    print(f"{used_s / ended_s:.1%} of a core, {descriptors} descriptors")
    assert took_ms[-1] < 1000 * LEASE_TTL_S
    assert PAIRS <= descriptors < PAIRS + 32
    assert len(witness.state()) == PAIRS


async def serve(primaries: list[Primary], witness: Served) -> tuple[float, float, float, int]:
    """How long the beginning took; processor time and length of what followed; descriptors of the witness."""
    assert witness.process is not None
    process = Path("/proc", str(witness.process.child.pid))
    started_s = time.monotonic()
    address = parse_address(witness.target)
    await asyncio.gather(*(each.begin(address) for each in primaries))
    began_s = time.monotonic() - started_s
    used_s, since_s = processor_s(process), time.monotonic()
    await asyncio.gather(*(each.renew() for each in primaries))
    descriptors = len(list((process / "fd").iterdir()))
    used_s, ended_s = processor_s(process) - used_s, time.monotonic() - since_s
    for each in primaries:
        each.close()
    return began_s, used_s, ended_s, descriptors


def processor_s(process: Path) -> float:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
