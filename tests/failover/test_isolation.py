"""What a cut-off master wrote alone while it gave its role up is ordered to be discarded, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from hast.failover.hastd import HastdError
from hast.failover.isolation import REASON, Isolation
from hast.failover.log import Log


class FakeHastd:
    def __init__(self, status: str, before: int, after: int) -> None:
        self.entry = {"name": "disk1", "role": "primary", "status": status, "localcnt": before}
        self.after = after
        self.orders: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"name": "disk1", "error": None, "map": "/m"}

    def roles(self, _timeout_s: float) -> dict[str, Any]:
        return {"disk1": self.entry}

    def ask(self, request: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
        if request["command"] == "status":
            assert request["fresh"] is True
            return {"resources": [self.entry | {"localcnt": self.after}]}
        self.orders.append(request)
        return {"resources": [self.answer]}


def settled(hastd: Any) -> list[dict[str, Any]]:
    isolation = Isolation(hastd, Log(terminal=False, to_syslog=False))
    isolation.begin()
    isolation.settle("disk1")
    orders: list[dict[str, Any]] = hastd.orders
    return orders


def test_what_was_written_alone_since_the_beginning_is_discarded() -> None:
    order = {"command": "resolve", "resources": ["disk1"], "order": "discard", "force": True, "reason": REASON}
    assert settled(FakeHastd("complete", 3, 4)) == [order]


@pytest.mark.parametrize(("status", "before", "after"), [("complete", 3, 3), ("degraded", 3, 4), ("degraded", 3, 3)])
def test_what_clients_were_promised_before_is_kept(status: str, before: int, after: int) -> None:
    assert settled(FakeHastd(status, before, after)) == []


def test_a_hastd_that_fails_leaves_it_to_a_person() -> None:
    class Deaf(FakeHastd):
        def ask(self, request: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
            raise HastdError("gone")

    assert settled(Deaf("complete", 3, 4)) == []
