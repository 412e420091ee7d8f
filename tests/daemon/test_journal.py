"""Entries of the journal, read back by journalctl from a journald of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hast.daemon import journal

JOURNALD = "/lib/systemd/systemd-journald"
SCRIPT = """
set -e
mount -t tmpfs none /run
mkdir -p /run/log/journal/$(cat /etc/machine-id) /run/systemd
{journald} &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
for _ in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
{python} -c '
from hast.config.notify_model import Topic
from hast.watch.notify import journal
from hast.watch.notify.decisions.message import State, make
journal.tell(make(Topic.SPLIT_BRAIN, State.BEGUN, "disk1", "Both wrote.", 1.5))
'
for _ in $(seq 100); do
    journalctl --no-pager -o json HAST_EVENT=split-brain HAST_RESOURCE=disk1 >/run/found && [ -s /run/found ] && break
    sleep 0.05
done
cat /run/found
"""


def test_an_entry_is_datagrams_of_fields_and_says_whether_it_was_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    assert not journal.send({"MESSAGE": "x"}, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        assert journal.send({"MESSAGE": "x", "HAST_TEXT": "a\nb"}, path)
        assert sock.recv(1000) == b"MESSAGE=x\nHAST_TEXT\n\x03\0\0\0\0\0\0\0a\nb\n"


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0 or not Path(JOURNALD).exists(), reason="needs root and systemd-journald")
def test_the_journal_of_systemd_finds_a_message_by_its_fields() -> None:
    if shutil.which("journalctl") is None or not Path("/etc/machine-id").read_text().strip():
        pytest.skip("this machine has no journalctl or no machine-id")
    script = SCRIPT.format(journald=JOURNALD, python=sys.executable)
    command = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout.splitlines()[0])
    told = {
        key: entry[key] for key in ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "HAST_STATE", "HAST_TEXT", "HAST_TIME")
    }
    assert told == {
        "MESSAGE": "disk1: split-brain: Both wrote.",
        "PRIORITY": "2",
        "SYSLOG_IDENTIFIER": "hast-notify",
        "HAST_STATE": "begun",
        "HAST_TEXT": "Both wrote.",
        "HAST_TIME": "1.500",
    }
    assert len(entry["MESSAGE_ID"]) == 32
