"""Addresses that peers may come from."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from hast.supervisor import peer_names
from hast.supervisor.peer_names import PeerNames, normal_address


def test_addresses_compare_equal_however_they_arrive() -> None:
    assert normal_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert normal_address("fe80::1%eth0") == "fe80::1"
    assert normal_address("2001:DB8:0::1") == "2001:db8::1"


def test_literals_need_no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    async def run() -> frozenset[str]:
        names = PeerNames()
        names.configure({"tcp4://10.0.0.1", "tcp6://[::1]:9"})
        return names.addresses(("tcp4://10.0.0.1", "tcp6://[::1]:9"))

    assert asyncio.run(run()) == {"10.0.0.1", "::1"}


def test_stuck_lookup_has_a_deadline_and_a_failed_one_keeps_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [[(2, 1, 6, "", ("10.1.1.1", 0))], OSError("no such name")]
    stuck = [False]

    def look_up(*_: Any) -> Any:
        if stuck[0]:
            time.sleep(1)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(peer_names, "RETRY_S", 0.0)
    monkeypatch.setattr(peer_names, "LOOKUP_DEADLINE_S", 0.2)

    async def run() -> list[frozenset[str]]:
        names = PeerNames()
        names.configure({"peer"})
        await names.refresh_unknown()
        found = [names.addresses(("peer",))]
        await names.refresh_unknown()
        found.append(names.addresses(("peer",)))
        stuck[0] = True
        answers.append(OSError("late"))
        began = time.monotonic()
        await names.refresh_unknown()
        assert time.monotonic() - began < 0.8
        found.append(names.addresses(("peer",)))
        names.configure(set())
        found.append(names.addresses(("peer",)))
        names.close()
        return found

    known = frozenset({"10.1.1.1"})
    assert asyncio.run(run()) == [known, known, known, frozenset()]


def test_bad_address_allows_nobody() -> None:
    async def run() -> frozenset[str]:
        names = PeerNames()
        names.configure({"tcp4://[broken"})
        return names.addresses(("tcp4://[broken",))

    assert asyncio.run(run()) == frozenset()
