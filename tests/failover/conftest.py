"""Fixtures of the fail-over tests."""

from __future__ import annotations

import signal
import sys
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
