"""A primary and its arbiter: asked before the promotion, questions answered, verdicts obeyed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, wait_for
from hast.config.model import Arbiter, ArbiterKind, Resource
from hast.election.arbiter import Lease, Refused, Verdict
from hast.supervisor import arbiter_link
from hast.supervisor.arbiter_link import ArbiterLink, is_wanted
from hast.supervisor.worker_talk import RoleError

RESOURCE = Resource("disk1", "disk1", "/x", (), arbiter=Arbiter(ArbiterKind.WITNESS, ("w",)))


class FakeDealings:
    """Answers from a script; notes what it was told."""

    def __init__(self, changed: Callable[[Verdict, str], None]) -> None:
        self.changed = changed
        self.heard: Callable[[bool], None] = lambda reached: None
        self.said: list[Any] = []
        self.reasons: list[str | None] = []
        self.refusal: Refused | None = None

    async def promote(self, epoch: int = 0, force: bool = False) -> Lease | Refused:
        self.said.append(("promote", force))
        return self.refusal or Lease("disk1", "n", 1, 3.0, 3.0)

    async def outdate_peer(self) -> str | None:
        return self.reasons.pop(0) if self.reasons else None

    def peer_connected(self, connected: bool) -> None:
        self.said.append(connected)

    def peer_in_step(self) -> None:
        self.said.append("in step")

    async def demoted(self) -> None:
        self.said.append("demoted")

    def standing(self) -> dict[str, Any] | None:
        return None


class Bench:
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.stepped_down: list[str] = []
        self.dealings: FakeDealings | None = None
        self.fail = False
        self.heard: list[bool] = []
        self.link = ArbiterLink(RESOURCE, self.make, self.tell, self.stepped_down.append, self.heard.append)

    def make(self, resource: Resource, changed: Callable[[Verdict, str], None]) -> FakeDealings:
        self.dealings = FakeDealings(changed)
        return self.dealings

    async def tell(self, do: str, **fields: Any) -> None:
        if self.fail:
            raise RoleError("gone")
        self.told.append((do, *fields.values()))


def run(body: Callable[[Bench, FakeDealings], Any], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(arbiter_link, "RETRY_S", 0.01)

    async def main() -> Bench:
        bench = Bench()
        assert bench.dealings is not None
        await body(bench, bench.dealings)
        await asyncio.sleep(0.05)
        return bench

    return asyncio.run(main())


def test_only_a_configured_arbiter_or_fence_is_asked() -> None:
    assert is_wanted(RESOURCE)
    assert is_wanted(Resource("a", "a", "/x", (), fence_path="/fence"))
    assert not is_wanted(Resource("a", "a", "/x", ()))


def test_leave_to_go_on_is_passed_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        bench.link.ask("outdate-peer")

    assert run(body, monkeypatch).told == [("answer", "outdate-peer", True)]


def test_no_is_told_once_and_asked_again_until_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        dealings.reasons = ["silent", "silent", None]
        bench.link.ask("outdate-peer")

    told = run(body, monkeypatch).told
    assert told == [("answer", "outdate-peer", False), ("answer", "outdate-peer", True), ("thaw",)]


def test_return_of_the_peer_ends_the_question_and_the_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        dealings.reasons = ["silent"] * 1000
        bench.link.ask("outdate-peer")
        await asyncio.sleep(0.03)
        bench.link.event("connect")
        bench.link.event("syncdone")
        bench.link.event("disconnect")
        assert dealings.said == [True, "in step", False]

    assert run(body, monkeypatch).told == [("answer", "outdate-peer", False), ("thaw",)]


def test_verdicts_freeze_thaw_and_step_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        dealings.changed(Verdict.FREEZE, "unreachable")
        await asyncio.sleep(0)
        bench.link.worker_replaced()
        await asyncio.sleep(0)
        dealings.changed(Verdict.SERVE, "")
        await asyncio.sleep(0)
        dealings.changed(Verdict.STEP_DOWN, "taken")

    bench = run(body, monkeypatch)
    assert bench.told == [("freeze", "unreachable"), ("freeze", "unreachable"), ("thaw",), ("freeze", "taken")]
    assert bench.stepped_down == ["taken"]


def test_overruled_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        dealings.reasons = ["silent"] * 1000
        bench.link.ask("outdate-peer")
        await asyncio.sleep(0.03)
        await bench.link.overrule()

    assert ("answer", "outdate-peer", True) in run(body, monkeypatch).told


def test_refused_promotion_has_the_reason_and_demotion_gives_the_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench, dealings: FakeDealings) -> None:
        dealings.refusal = Refused("hast2 holds the lease")
        assert await bench.link.promote(True) == "hast2 holds the lease"
        bench.fail = True
        bench.link.ask("outdate-peer")
        await asyncio.sleep(0.02)
        await bench.link.demoted()
        assert dealings.said == [("promote", True), "demoted"]

    run(body, monkeypatch)


def answers(daemon: Daemon) -> list[bool]:
    path = daemon.directory / "orders" / "disk1.seen"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [r["message"]["yes"] for r in records if r.get("message", {}).get("do") == "answer"]


def fenced(make_daemon: MakeDaemon, body: str) -> Daemon:
    daemon = make_daemon()
    path = daemon.directory / "fence"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    daemon.write_config({"disk1": "remote tcp4://192.0.2.1"}, inside=f"fence {path}")
    daemon.order("disk1", ask="outdate-peer")
    return daemon.start()


def test_fence_program_that_confirms_lets_a_primary_go_on(make_daemon: MakeDaemon) -> None:
    daemon = fenced(make_daemon, "exit 0")
    assert daemon.role("primary")["error"] is None
    wait_for(lambda: answers(daemon) == [True], "answer")
    assert [event["question"] for event in daemon.status()["history"] if event["event"] == "ask"] == ["outdate-peer"]


def test_fence_program_that_fails_holds_writes_until_forced_by_hand(make_daemon: MakeDaemon) -> None:
    daemon = fenced(make_daemon, "exit 1")
    daemon.role("primary")
    wait_for(lambda: answers(daemon) == [False], "answer")
    assert daemon.role("primary", force=True)["error"] is None
    wait_for(lambda: answers(daemon) == [False, True], "answer by hand")


def test_unreachable_witness_refuses_the_promotion_and_force_overrules(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote tcp4://192.0.2.1"}, inside="arbiter witness tcp4://127.0.0.1:1")
    daemon.start()
    daemon.role("secondary")
    result = daemon.role("primary")
    assert "The arbiter refuses" in result["error"]
    assert daemon.status()["role"] == "secondary"
    assert daemon.role("primary", force=True)["error"] is None
