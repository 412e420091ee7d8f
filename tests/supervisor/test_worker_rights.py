"""Workers of a hastd that root runs become a user without rights; whatever they need later they still have.

The lab's and the loopback pair's stories are the same for both kinds; here is what only the change of user can break.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from daemon_pair import Pair, io

from daemon import wait_for
from hast.daemon import privileges

USER = "daemon"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> privileges.Identity:
    monkeypatch.setenv(privileges.WORKER_VARIABLE, USER)
    found = privileges.worker_identity()
    assert found is not None
    return found


def assert_without_rights(pid: int, user: privileges.Identity) -> None:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    assert set(found["Uid"].split()) == {str(user.uid)}
    assert set(found["Gid"].split()) == {str(user.gid)}
    assert found["Groups"] == ""
    assert {found[name] for name in ("CapInh", "CapAmb")} == {"0" * 16}
    may_lift = privileges.to_lock_memory() == []
    kept = 0 if may_lift else 1 << privileges.Capability.IPC_LOCK
    assert {found[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {f"{kept:016x}"}
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == ("2" if privileges.seccomp() is not None else "0")


def test_workers_of_both_roles_have_no_rights_and_serve(pair: Pair, user: privileges.Identity) -> None:
    for node in (pair.one, pair.two):
        assert_without_rights(node.status()["workerpid"], user)
    io(pair.one, "write -P 7 0 1M", "flush", "read -P 7 0 1M")
    pair.wait_complete()
    first, second = pair.images()
    assert first == second


def test_a_worker_that_died_is_replaced_and_knows_that_no_flush_failed(pair: Pair, user: privileges.Identity) -> None:
    io(pair.one, "write -P 8 0 1M", "flush")
    old = pair.one.status()["workerpid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: pair.one.status().get("workerpid") not in (old, 0, None), "another worker")
    assert_without_rights(pair.one.status()["workerpid"], user)
    io(pair.one, "read -P 8 0 1M", "write -P 9 1M 1M", "flush")
    pair.wait_complete()


def test_the_next_hastd_takes_them_over(pair: Pair, user: privileges.Identity) -> None:
    worker = pair.one.status()["workerpid"]
    pair.one.kill()
    wait_for((pair.one.run_directory / "worker" / "disk1.adopt").exists, "the worker's socket")
    io(pair.one, "write -P 10 0 64k", "flush")
    pair.one.start()
    assert pair.one.status()["workerpid"] == worker
    assert_without_rights(worker, user)


def test_a_disk_is_let_go_taken_in_and_replaced(pair: Pair) -> None:
    """By a worker that could not open it: the file is root's."""
    io(pair.one, "write -P 11 0 1M", "flush")
    pair.wait_complete()
    for path in pair.one.directory.glob("*.img"):
        path.chmod(0o600)
    assert pair.one.hastctl("detach", "disk1").returncode == 0
    io(pair.one, "write -P 12 1M 64k", "read -P 11 0 1M")
    attached = pair.one.hastctl("attach", "disk1")
    assert attached.returncode == 0, attached.stderr
    pair.wait_complete()
    disk = pair.one.directory / "another"
    with disk.open("wb") as file:
        file.truncate(os.path.getsize(pair.one.directory / "disk1.img"))
    disk.chmod(0o600)
    replaced = pair.one.hastctl("replace", "disk1", str(disk))
    assert replaced.returncode == 0, replaced.stderr
    pair.wait_complete()
    io(pair.one, "read -P 11 0 1M", "read -P 12 1M 64k")
