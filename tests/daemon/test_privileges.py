"""Rights that are given up are gone. Each is tried in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hast.daemon import privileges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


def test_what_cannot_be_given_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(privileges.os, "setresuid", fails)
    child = os.fork()
    if child == 0:
        try:
            privileges.become(privileges.Identity(65534, 65534))
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_carpd_keeps_two_capabilities_and_nothing_else() -> None:
    kept = [privileges.Capability.NET_ADMIN, privileges.Capability.NET_RAW]
    child = os.fork()
    if child == 0:
        privileges.keep_only(kept)
        status = Path("/proc/self/status").read_text()
        wanted = f"{sum(1 << each for each in kept):016x}"
        good = all(f"Cap{name}:\t{wanted}" in status for name in ("Eff", "Prm", "Bnd")) and "NoNewPrivs:\t1" in status
        os._exit(0 if good and os.geteuid() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_was_given_up_does_not_come_back() -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            privileges.become(privileges.Identity(65534, 65534), [privileges.Capability.NET_RAW])
            code = 2
            os.setresuid(0, 0, 0)
        except PermissionError:
            if code == 2:
                try:
                    os.execv("/bin/true", ["true"])
                except PermissionError:
                    code = 0
        if code == 0 and f"{1 << 13:016x}" not in Path("/proc/self/status").read_text():
            code = 3
        os._exit(code if privileges.seccomp() is not None or code != 2 else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
