"""The worker process: bad starts, signals, unexpected exceptions; always an exit code and one line, no traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_pair import create_image, start_primary

from hast.replication.types import Lead
from hast.worker import messages, worker
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.reactor import EpollReactor


def test_started_by_hand_it_says_what_it_is() -> None:
    done = subprocess.run([sys.executable, "-m", "hast.worker.worker"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 64
    assert "started by hastd" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_supervisor_that_vanishes_before_the_start_message_is_no_error() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs:
        assert worker.main([str(theirs.detach())]) == 0


def test_an_unexpected_exception_is_one_line_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    messages.send(ours, {"do": "start", "role": "nonsense", "resource": {}})
    with ours, theirs:
        assert worker.main([str(theirs.detach())]) == 70


def test_describe_names_the_file_and_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        text = worker.describe(error)
    assert text.startswith("ValueError: broken (test_worker.py:")
    assert "\n" not in text


def test_sigterm_stops_in_order(tmp_path: Path) -> None:
    create_image(tmp_path / "image")
    process, _ = start_primary(tmp_path / "image", (), tmp_path)
    try:
        process.expect_ready()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 0
    finally:
        process.kill()


def test_sigterm_is_an_event_of_the_loop_and_needs_no_step_of_the_interpreter() -> None:
    """A worker that is compiled and busy takes none for long; a handler in Python would wait for it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    reactor = EpollReactor()
    told: list[str] = []
    try:
        worker._handle_signals(reactor, lambda: (told.append("stop"), reactor.stop())[0])
        signal.raise_signal(signal.SIGTERM)
        assert told == []
        reactor.run()
        assert told == ["stop"]
    finally:
        os.close(signal.set_wakeup_fd(-1))
        for number, handler in before.items():
            signal.signal(number, handler)
        reactor.close()


def test_bad_messages_from_the_supervisor_are_answered_and_survived(tmp_path: Path) -> None:
    create_image(tmp_path / "image")
    process, _ = start_primary(tmp_path / "image", (), tmp_path)
    try:
        process.expect_ready()
        assert "unknown request" in process.ask("dance")["error"]
        assert "bad message" in process.ask("reload", resource={})["error"]
        assert process.ask("sync-rate", bytes_s=1000)["error"] is None
        process.control.send(b"not json")
        assert process.control.recv(4096) == b"", "a supervisor that talks nonsense is none"
        assert process.process.poll() is None
    finally:
        process.kill()


def test_an_idle_worker_is_small_and_quiet(tmp_path: Path) -> None:
    create_image(tmp_path / "image")
    process, _ = start_primary(tmp_path / "image", (), tmp_path)
    try:
        process.expect_ready()
        pid = process.process.pid
        assert _resident_kib(pid) < 60 * 1024
        before = _cpu_ticks(pid)
        time.sleep(1.0)
        assert _cpu_ticks(pid) - before <= 5
    finally:
        process.kill()


def _resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_s6_a_worker_is_told_by_the_one_before_it_that_only_the_peers_copy_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))
    create_image(tmp_path / "image")
    (tmp_path / "worker").mkdir()
    FlushMark(tmp_path / "worker" / "disk1.flush").note_lead(Lead.PEERS)
    process, _ = start_primary(tmp_path / "image", (), tmp_path)
    try:
        said = process.expect(lambda message: message.get("say") == "refused")
        assert "stale" in said["text"]
        assert process.process.wait(10) == 69
    finally:
        process.kill()


def test_a_worker_without_force_refuses_a_copy_that_is_inconsistent(tmp_path: Path) -> None:
    create_image(tmp_path / "image", inconsistent=True)
    process, _ = start_primary(tmp_path / "image", (), tmp_path)
    try:
        said = process.expect(lambda message: message.get("say") == "refused")
        assert "inconsistent" in said["text"]
        assert "--force" in said["text"]
        assert process.process.wait(10) == 69
    finally:
        process.kill()
