"""What a witness remembers over its own restart, against the clock of its new life."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from hast.config.witness_nodes import Member, Pair
from hast.election.arbiter import LEASE_TTL_S
from hast.failover.arbiters.witness_server import MAX_RESOURCES_OF_PAIR, Witness
from hast.failover.arbiters.witness_state import StateError, StateFile

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
    assert again.answer(request("acquire", "b"), 1000.0 + TTL_S + 0.1)["epoch"] > held["epoch"]


def test_s11_the_holder_goes_on_with_its_lease_after_a_restart_of_the_witness(tmp_path: Path) -> None:
    held = witness(tmp_path, 50.0).answer(request("acquire", "a"), 50.0)
    again = witness(tmp_path, 1000.0)
    assert again.answer(request("keepalive", "a", held["epoch"]), 1002.0)["epoch"] == held["epoch"]
    assert "refused" in again.answer(request("acquire", "b"), 1002.0 + TTL_S - 0.1)


def test_s11_a_released_lease_is_free_after_a_restart_of_the_witness(tmp_path: Path) -> None:
    before = witness(tmp_path, 50.0)
    held = before.answer(request("acquire", "a"), 50.0)
    before.answer(request("release", "a", held["epoch"]), 51.0)
    again = witness(tmp_path, 1000.0)
    assert "not known yet" in again.answer(request("acquire", "b"), 1000.0 + LEASE_TTL_S - 0.1)["refused"]
    assert again.answer(request("acquire", "b"), 1000.0 + LEASE_TTL_S)["epoch"] > held["epoch"]


def test_no_epoch_is_given_out_twice_when_one_backup_is_restored_again_and_again(tmp_path: Path) -> None:
    witness(tmp_path, 50.0)
    backup = (tmp_path / "state.json").read_bytes()
    epochs = []
    for _ in range(3):
        (tmp_path / "state.json").write_bytes(backup)
        epochs.append(witness(tmp_path, 50.0).answer(request("acquire", "a"), 60.0)["epoch"])
        time.sleep(0.02)
    assert epochs == sorted(set(epochs))


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


class CountingFile(StateFile):
    """Counts what is written, and may fail."""

    writes = 0
    failing = False

    def save(self, resources: dict[str, Any]) -> None:
        if self.failing:
            raise StateError("no space")
        self.writes += 1
        time.sleep(0.01)
        super().save(resources)


def test_changes_that_come_together_are_written_together(tmp_path: Path) -> None:
    """Also those that come while a write is under way, which does not hold them."""
    file = CountingFile(tmp_path / "state.json")
    one = Witness(file, 50.0)

    async def ask(number: int) -> None:
        await asyncio.sleep(number % 3 * 0.007)
        answer = await one.answer({**request("acquire", "a"), "resource": f"disk{number}"}, 50.0)
        assert answer["epoch"] == 1
        assert f"disk{number}" in json.loads(file.path.read_text())["resources"]

    async def story() -> None:
        await asyncio.wait_for(asyncio.gather(*(ask(number) for number in range(300))), 20)

    before = file.writes
    asyncio.run(story())
    assert file.writes - before < 10


def test_a_change_that_could_not_be_written_is_an_error_until_it_is(tmp_path: Path) -> None:
    file = CountingFile(tmp_path / "state.json")
    one = Witness(file, 50.0)

    async def story() -> None:
        file.failing = True
        asked = (one.answer(request("acquire", "a"), 50.0) for _ in range(3))
        assert [answer.get("error") for answer in await asyncio.gather(*asked)] == ["no space"] * 3
        assert (await one.answer(request("keepalive", "a", 3), 50.0))["error"] == "no space"
        file.failing = False
        assert (await one.answer(request("keepalive", "a", 3), 50.0))["epoch"] == 3

    asyncio.run(story())
    assert json.loads(file.path.read_text())["resources"]["disk1"]["epoch"] == 3


def test_a_pair_leaves_room_for_the_others(tmp_path: Path) -> None:
    one = Witness(StateFile(tmp_path / "state.json"), 50.0)
    greedy, modest = (Member("a", Pair(name, frozenset("ab"))) for name in ("greedy", "modest"))

    async def ask(name: str, member: Member) -> dict[str, Any]:
        return await one.answer({**request("acquire", "a"), "resource": name}, 50.0, member)

    async def story() -> None:
        await asyncio.gather(*(ask(f"disk{number}", greedy) for number in range(MAX_RESOURCES_OF_PAIR)))
        assert "of this pair already" in (await ask("one more", greedy))["refused"]
        assert (await ask("disk1", greedy))["epoch"] == 2
        assert (await ask("one more", modest))["epoch"] == 1

    asyncio.run(story())
