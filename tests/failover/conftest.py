"""Fixtures of the fail-over tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hast.failover.commands import Commands
from hast.failover.log import Log
from hast.failover.part import Context

sys.path.insert(0, str(Path(__file__).parent))

from fake_hastd import FakeHastd


@pytest.fixture
def hastd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHastd]:
    """A fake hastd with disk1 to disk3; HAST_DEV, HAST_RUN and HAST_SYSLOG point below tmp_path.

    Puts back what the command changes when it runs inside the tests: signal handlers, the working directory.
    """
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    monkeypatch.chdir(tmp_path)
    fake = FakeHastd(tmp_path, ("disk1", "disk2", "disk3"))
    monkeypatch.setenv("HAST_DEV", str(fake.devices))
    monkeypatch.setenv("HAST_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HAST_SYSLOG", str(tmp_path / "debug.log"))
    yield fake
    fake.close()
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    """Makes contexts for calling one part."""

    def make(timeout_s: float = 20.0, overruled: Callable[[], bool] = lambda: False) -> Context:
        log = Log(str(tmp_path / "debug.log"), terminal=False, to_syslog=False)
        return Context(log, Commands(str(tmp_path / "run")), timeout_s, overruled)

    return make


@pytest.fixture
def nbd_server(tmp_path: Path) -> Iterator[Path]:
    """An NBD server of 16 MiB of memory on a Unix socket."""
    missing = [program for program in ("nbdkit", "nbdinfo", "nbdcopy") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    path = tmp_path / "disk1.nbd"
    server = subprocess.Popen(["nbdkit", "--foreground", "-U", str(path), "memory", "16M"])
    try:
        until = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        yield path
    finally:
        server.terminate()
        server.wait(10)
