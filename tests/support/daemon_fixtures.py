"""Fixtures that start hastd and stop it however the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon import Daemon

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def make_daemon() -> Iterator[MakeDaemon]:
    """Makes Daemons in short directories (Unix socket paths are limited); stops all of them."""
    made: list[Daemon] = []
    with TemporaryDirectory(prefix="hd") as directory:
        Path(directory).chmod(0o711)  # as /run and /var/lib are: workers may be another user

        def make(resources: dict[str, str] | None = None, fake: bool = True) -> Daemon:
            made.append(Daemon(Path(directory) / f"n{len(made)}", resources, fake))
            return made[-1]

        yield make
        for daemon in made:
            daemon.stop()
            daemon.end_orphans()


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> Daemon:
    """One hastd with the resource disk1, `remote none`, and a fake worker; started."""
    return make_daemon().start()


@pytest.fixture(scope="module")
def standing_daemon() -> Iterator[Daemon]:
    """One started hastd for tests that leave it as it was: disk1 is secondary and its peer is this machine."""
    with TemporaryDirectory(prefix="hd") as directory:
        daemon = Daemon(Path(directory) / "n", {"disk1": "remote tcp4://127.0.0.1", "disk2": "remote tcp4://127.0.0.1"})
        try:
            daemon.start()
            daemon.role("secondary")
            yield daemon
        finally:
            daemon.stop()
