"""What a witness remembers over its own restart, against the clock of its new life."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hast.failover.arbiters.witness_server import Witness
from hast.failover.arbiters.witness_state import StateFile

TTL_S = 3.0


def request(do: str, node: str, epoch: int = 0, **more: Any) -> dict[str, Any]:
    return {"do": do, "resource": "disk1", "node": node, "epoch": epoch, "ttl_s": TTL_S, **more}


class Remembering:
    """A witness, asked without a network."""

    def __init__(self, path: Path, now: float) -> None:
        self._witness = Witness(StateFile(path / "state.json"), now)

    def answer(self, asked: dict[str, Any], now: float) -> dict[str, Any]:
        return asyncio.run(self._witness.answer(asked, now))


def witness(path: Path, now: float) -> Remembering:
    """As a process that starts now."""
    return Remembering(path, now)


def test_s11_a_lease_outlives_a_restart_of_the_witness_by_its_whole_time(tmp_path: Path) -> None:
    """Nothing else may refuse the other node here: no copy is outdated."""
    held = witness(tmp_path, 50.0).answer(request("acquire", "a"), 50.0)
    assert held["epoch"] == 1
    again = witness(tmp_path, 1000.0)
    assert again.answer(request("acquire", "b"), 1000.0)["refused"] == "a holds the lease"
    assert again.answer(request("acquire", "b"), 1000.0 + TTL_S - 0.1)["refused"] == "a holds the lease"
    assert again.answer(request("acquire", "b"), 1000.0 + TTL_S + 0.1)["epoch"] == 2


def test_s11_the_holder_goes_on_with_its_lease_after_a_restart_of_the_witness(tmp_path: Path) -> None:
    held = witness(tmp_path, 50.0).answer(request("acquire", "a"), 50.0)
    again = witness(tmp_path, 1000.0)
    assert again.answer(request("keepalive", "a", held["epoch"]), 1002.0)["epoch"] == held["epoch"]
    assert "refused" in again.answer(request("acquire", "b"), 1002.0 + TTL_S - 0.1)


def test_s11_a_released_lease_is_free_after_a_restart_of_the_witness(tmp_path: Path) -> None:
    before = witness(tmp_path, 50.0)
    held = before.answer(request("acquire", "a"), 50.0)
    before.answer(request("release", "a", held["epoch"]), 51.0)
    assert witness(tmp_path, 1000.0).answer(request("acquire", "b"), 1000.0)["epoch"] == held["epoch"] + 1


def test_s11_an_outdated_copy_is_refused_after_a_restart_of_the_witness_and_after_every_lease(tmp_path: Path) -> None:
    before = witness(tmp_path, 50.0)
    held = before.answer(request("acquire", "a"), 50.0)
    before.answer(request("record-outdated", "a", held["epoch"], peer="b"), 51.0)
    again = witness(tmp_path, 1000.0)
    late = again.answer(request("acquire", "b"), 1000.0 + 100 * TTL_S)
    assert late["refused"] == "this copy is outdated: a went on without it"
    assert again.answer(request("is-outdated", "b"), 2000.0)["outdated"]


def test_s11_an_answer_is_durable_before_it_is_given(tmp_path: Path) -> None:
    one = witness(tmp_path, 50.0)
    held = one.answer(request("acquire", "a"), 50.0)
    for number, do in enumerate(("record-outdated", "clear-outdated")):
        one.answer(request(do, "a", held["epoch"], peer="b"), 51.0)
        copy = witness(tmp_path, 51.0)
        assert copy.answer(request("is-outdated", "b"), 51.0)["outdated"] is (number == 0)
    one.answer(request("release", "a", held["epoch"]), 52.0)
    assert "refused" in witness(tmp_path, 52.0).answer(request("keepalive", "a", held["epoch"]), 52.0)
