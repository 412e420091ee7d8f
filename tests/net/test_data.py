"""net/data.py: what a status object of hastd says about a copy."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from hast.election.adoption import Service
from hast.election.demotion import MAX_SKEW, CopyState, judge
from hast.format import control, frame, nv
from hast.net.data import DataWatcher, copy_of, copy_state

TABLE: list[tuple[dict[str, Any] | None, CopyState]] = [
    (None, CopyState.NOT_CONFIGURED),
    ({"error": "Resource disk9 is not configured.", "code": 1}, CopyState.NOT_CONFIGURED),
    ({"role": "primary", "connected": True}, CopyState.LEADING),
    ({"role": "primary", "status": "degraded"}, CopyState.LEADING),
    ({"role": "primary", "status": "degraded", "problems": [{"kind": "frozen", "text": ""}]}, CopyState.FROZEN),
    ({"role": "primary", "status": "degraded", "problems": [{"kind": "split-brain"}]}, CopyState.LEADING),
    ({"role": "primary", "connected": True, "stale": True}, CopyState.STALE),
    ({"role": "primary", "status": "degraded", "stale": True}, CopyState.STALE_ALONE),
    ({"role": "primary", "connected": True, "inconsistent": True}, CopyState.STALE),
    ({"role": "primary", "status": "degraded", "inconsistent": True}, CopyState.INCONSISTENT),
    ({"role": "primary", "connected": True, "problems": [{"kind": "disk"}]}, CopyState.STALE),
    ({"role": "secondary", "connected": True}, CopyState.COMPLETE),
    ({"role": "secondary", "status": "-", "workerpid": 0}, CopyState.DISCONNECTED),
    ({"role": "secondary", "connected": True, "inconsistent": True}, CopyState.INCONSISTENT),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "outdated"}]}, CopyState.OUTDATED),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "split-brain"}]}, CopyState.SPLIT_BRAIN),
    ({"role": "init", "status": "-", "problems": [{"kind": "provider"}]}, CopyState.NO_PROVIDER),
    ({"role": "secondary", "status": "-", "prevrole": "primary"}, CopyState.LAST_PRIMARY),
    ({"role": "secondary", "connected": True, "prevrole": "primary"}, CopyState.COMPLETE),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "last-error"}]}, CopyState.REFUSED),
    ({"role": "init", "status": "-", "prevrole": "primary", "problems": [{"kind": "last-error"}]}, CopyState.REFUSED),
    ({"role": "init", "status": "-", "prevrole": "primary"}, CopyState.LAST_PRIMARY),
    ({"role": "init", "status": "-", "prevrole": "secondary"}, CopyState.IDLE),
    ({"role": "init", "status": "-", "prevrole": None}, CopyState.IDLE),
]


@pytest.mark.parametrize(("status", "state"), TABLE)
def test_status_of_hastd_becomes_the_state_of_the_copy(status: dict[str, Any] | None, state: CopyState) -> None:
    assert copy_state(status) is state


@pytest.mark.parametrize(
    ("status", "service"),
    [
        (None, Service.NOT_KNOWN),
        ({"role": "primary", "connected": True}, Service.HERE),
        ({"role": "primary", "connected": True, "stale": True}, Service.HERE),
        ({"role": "primary", "status": "degraded"}, Service.HERE_ALONE),
        ({"role": "primary", "status": "degraded", "problems": [{"kind": "frozen"}]}, Service.NOT_KNOWN),
        ({"role": "primary", "connected": True, "transition": "primary to secondary"}, Service.NOT_KNOWN),
        ({"role": "secondary", "connected": True}, Service.THERE),
        ({"role": "secondary", "connected": True, "inconsistent": True}, Service.THERE),
        ({"role": "secondary", "status": "-"}, Service.NOT_KNOWN),
        ({"role": "init", "status": "-"}, Service.NOT_KNOWN),
    ],
)
def test_status_of_hastd_says_who_serves_a_resource(status: dict[str, Any] | None, service: Service) -> None:
    assert copy_of(status)[:2] == (copy_state(status), service)


@pytest.mark.parametrize(
    ("status", "alone"),
    [
        ({"role": "primary", "connected": True, "transition": "primary to secondary"}, False),
        ({"role": "primary", "status": "degraded"}, True),
        ({"role": "primary", "status": "degraded", "transition": "primary to secondary"}, True),
        ({"role": "secondary", "status": "-"}, False),
    ],
)
def test_a_primary_is_alone_until_it_has_let_go(status: dict[str, Any], alone: bool) -> None:
    assert copy_of(status).alone is alone


def test_every_state_of_a_copy_has_a_verdict_and_better_ones_never_weigh_more() -> None:
    weights = [judge([("disk1", state)]).demotion for state in CopyState]
    assert weights == sorted(weights)
    assert all(0 <= weight <= MAX_SKEW for weight in weights)
    assert judge([("disk1", CopyState.DISCONNECTED)]).eligible
    assert not judge([("disk1", CopyState.OUTDATED)]).eligible
    assert [state for state in CopyState if judge([("disk1", state)]).preempt] == [
        CopyState.LEADING,
        CopyState.COMPLETE,
    ]


def test_a_copy_that_becomes_good_is_noticed_within_two_seconds_without_any_event(tmp_path: Path) -> None:
    """hastd's event stream is there, but hastd says nothing when the synchronisation ends."""
    path = str(tmp_path / "hastctl")
    entry = {"name": "disk1", "role": "secondary", "connected": True, "inconsistent": True}
    reports: list[CopyState] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = frame.FrameDecoder(1 << 20, 0)
        while (message := decoder.next()) is None:
            decoder.feed(await reader.read(65536))
        request = json.loads(message.nv.get("json", nv.NvType.STRING) or "{}")
        if request["command"] == "events":
            writer.write(b'{"error": null, "seq": 0}\n')
            return
        reply = control.json_reply(json.dumps({"error": None, "resources": [entry]}))
        writer.writelines(bytes(part) for part in frame.encode(2, reply))
        writer.close()

    async def watch() -> float:
        async with await asyncio.start_unix_server(serve, path):
            watcher = DataWatcher(path, ["disk1"], lambda copies: reports.append(copies["disk1"].state))
            task = asyncio.get_running_loop().create_task(watcher.run())
            await asyncio.sleep(1.5)
            assert set(reports) == {CopyState.INCONSISTENT}
            del entry["inconsistent"]
            since_s = time.monotonic()
            while reports[-1] is not CopyState.COMPLETE and time.monotonic() - since_s < 10:
                await asyncio.sleep(0.05)
            task.cancel()
            return time.monotonic() - since_s

    assert asyncio.run(watch()) < 2.0
