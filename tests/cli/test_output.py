"""Printed forms against the recorded outputs and the article."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from hast.cli import output
from hast.format import control, nv
from hast.replication.types import Metadata

ENTRY: dict[str, Any] = {
    "name": "disk1",
    "error": None,
    "role": "primary",
    "provname": "disk1",
    "localpath": "/dev/ada1",
    "extentsize": 2097152,
    "keepdirty": 64,
    "remoteaddr": "hast2",
    "sourceaddr": None,
    "replication": "fullsync",
    "status": "complete",
    "workerpid": 7,
    "dirty": 0,
    "sync": None,
    "problems": [],
    "transition": None,
}


def entry(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(ENTRY) | changes


def full(**changes: Any) -> dict[str, Any]:
    """With what only list shows."""
    names = ("reads", "writes", "deletes", "flushes", "activemap_updates")
    errors = ("read_errors", "write_errors", "delete_errors", "flush_errors")
    queues = ("local", "send", "recv", "done", "idle")
    return entry(statistics=dict.fromkeys((*names, *errors), 0), queues=dict.fromkeys(queues, 0)) | changes


@pytest.fixture
def reference(shared_compat: Path) -> dict[str, Any]:
    """The recorded status reply, as an entry."""
    message = bytes.fromhex((shared_compat / "vectors" / "35-ctl-status-reply-primary.hex").read_text())
    return control.read_status_reply(nv.decode(message[5:]))[0]


def test_status_prints_the_lines_of_the_article_in_its_order() -> None:
    assert output.status_block(ENTRY) == [
        "disk1:",
        "  role: primary",
        "  provname: disk1",
        "  localpath: /dev/ada1",
        "  extentsize: 2097152 (2.0MB)",
        "  keepdirty: 64",
        "  remoteaddr: hast2",
        "  replication: fullsync",
        "  status: complete",
        "  dirty: 0 (0B)",
    ]


def test_status_block_holds_what_the_article_shows(shared: Path) -> None:
    """`...` in the article stands for lines that it leaves out; words are compared."""
    article = (shared / "article.txt").read_text()
    start = article.index("hast1# hastctl status disk1: role: primary") + len("hast1# hastctl status ")
    shown = article[start : article.index("disk2:", start)].split("...")
    printed = " ".join(" ".join(output.status_block(ENTRY)).split())
    position = 0
    for part in shown:
        words = " ".join(part.split())
        assert words in printed[position:], words
        position = printed.index(words, position)


def test_list_is_bit_exact(shared_compat: Path, reference: dict[str, Any]) -> None:
    expected = (shared_compat / "vectors" / "out-list.txt").read_text()
    assert "\n".join(output.list_block(reference)) + "\n" == expected


def test_list_shows_the_source_address_where_there_is_one(reference: dict[str, Any]) -> None:
    lines = output.list_block(reference | {"sourceaddr": "10.0.0.1"})
    assert lines[7] == "  sourceaddr: 10.0.0.1"


def test_list_without_a_worker_has_no_status_and_pid(reference: dict[str, Any]) -> None:
    lines = output.list_block(reference | {"status": "-", "workerpid": 0})
    assert not [line for line in lines if "status:" in line or "workerpid" in line]


def test_table_is_bit_exact(shared_compat: Path, reference: dict[str, Any]) -> None:
    expected = (shared_compat / "vectors" / "out-status.txt").read_text()
    assert "\n".join(output.table([reference])) + "\n" == expected


def test_table_of_nothing_has_no_header() -> None:
    assert output.table([]) == []


def test_dump_is_bit_exact(shared_compat: Path) -> None:
    expected = (shared_compat / "vectors" / "out-dump.txt").read_text()
    metadata = Metadata("shared", 1073737216, 2097152, 64, 4608)
    assert "\n".join(output.dump_block(metadata)) + "\n" == expected


def test_dump_shows_marks_only_when_set() -> None:
    metadata = Metadata("shared", 1073737216, 2097152, 64, 4608, inconsistent=True)
    assert output.dump_block(metadata)[-1] == "    inconsistent: yes"


def test_unknown_resource_is_said_in_words_after_the_number_of_the_reference() -> None:
    unknown = {"name": "nope", "error": "Resource nope is not configured.", "code": 1}
    assert output.status_block(unknown) == ["nope:", "  error: 1 (Resource nope is not configured)"]
    assert output.list_block(unknown) == ["nope:", "  error: 1 (Resource nope is not configured)"]
    assert output.table([unknown])[1:] == ["nope\tERR1"]
    assert output.watch_lines([unknown], 200) == ["nope: Resource nope is not configured."]


APART = {"since": 1_700_000_000.25, "reason": "tcp4://10.0.0.2: Connection refused"}


def test_a_missing_peer_is_said_with_since_when_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "moment", lambda seconds: f"moment {seconds}")
    for show in (output.status_block, output.list_block):
        lines = show(full(status="degraded", not_connected=APART))
        assert "  status: degraded" in lines
        assert "  peer: not connected since moment 1700000000: tcp4://10.0.0.2: Connection refused" in lines
    lines = output.watch_lines([entry(status="degraded", not_connected=APART)], 200)
    assert lines[1].startswith("  peer: not connected since moment 1700000000: ")


def test_the_reason_of_a_refusal_is_not_said_twice() -> None:
    refused = {"since": 1, "reason": "Remote node acts as init."}
    problems = [{"kind": "refused", "text": "Remote node acts as init."}]
    lines = output.status_block(entry(status="degraded", not_connected=refused, problems=problems))
    assert len([line for line in lines if "acts as init" in line]) == 1


def test_table_shows_a_split_brain_whatever_else_is_so() -> None:
    rows = [entry(), entry(name="disk2", role="secondary", status="-", split_brain={"since": 1})]
    assert output.table(rows) == [
        "Name\tStatus      Role           Components",
        "disk1\tcomplete    primary        /dev/ada1\thast2",
        "disk2\tsplit-brain secondary      /dev/ada1\thast2",
    ]


def test_table_makes_room_for_a_long_word() -> None:
    assert output.table([entry(status="synchronizing")])[1] == "disk1\tsynchronizing primary        /dev/ada1\thast2"


def test_watch_shows_a_split_brain_and_a_copy_in_its_line() -> None:
    lines = output.watch_lines([entry(status="synchronizing"), entry(split_brain={"since": 1})], 200)
    assert "synchronizing" in lines[0].split()
    assert "split-brain" in lines[1].split()


SYNC = {
    "direction": "to-peer",
    "total_bytes": 1000 << 20,
    "done_bytes": 250 << 20,
    "rate_bytes_s": 50 << 20,
    "left_s": 15,
}


def test_synchronization_shows_direction_percent_rate_and_time_left() -> None:
    assert output.status_block(entry(sync=SYNC))[-4:] == [
        "  synchronizing: to the other node",
        "  done: 25.0% (250MB of 1.0GB)".replace("1.0GB", "1.0GB"),
        "  rate: 50MB/s",
        "  time left: 15s",
    ]


def test_watch_draws_a_bar_and_fits_the_terminal() -> None:
    lines = output.watch_lines([entry(sync=SYNC, problems=[{"kind": "stale", "text": "x" * 200}])], 80)
    assert lines[1].startswith("  -> [#######.......")
    assert "25.0%" in lines[1]
    assert "15s left" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_problems_and_changes_are_said() -> None:
    lines = output.status_block(
        entry(
            problems=[{"kind": "split-brain", "text": "Both nodes have written."}],
            transition="init to primary, starting",
        )
    )
    assert lines[-2:] == ["  problem: split-brain: Both nodes have written.", "  changing: init to primary, starting"]


def test_stop_of_hastd_is_said() -> None:
    lines = output.status_block(entry(stopping=True, transition="primary to init, draining"))
    assert lines[-2:] == [
        "  stopping: hastd is stopping; no role is taken any more",
        "  changing: primary to init, draining",
    ]


@pytest.mark.parametrize(
    ("sync", "percent"),
    [
        ({"total_bytes": 0, "done_bytes": 0}, 100.0),
        ({"total_bytes": 100, "done_bytes": 100}, 100.0),
        ({"total_bytes": 100000, "done_bytes": 99999}, 99.9),
        ({"total_bytes": 100, "done_bytes": 0}, 0.0),
        ({}, 100.0),
    ],
)
def test_percent_is_100_only_when_all_is_done(sync: dict[str, Any], percent: float) -> None:
    assert output.percent(sync) == percent


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (0, "0s"), (59.4, "59s"), (61, "1m 01s"), (3725, "1h 02m"), (90000, "1d 01h"), (-3, "0s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text
