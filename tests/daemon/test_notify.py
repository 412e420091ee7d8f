"""sd_notify: readiness, watchdog, and silence where nobody listens."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5.0)
        yield sock


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_ready_says_ready_and_what_it_does(manager: socket.socket) -> None:
    Notifier(environment(manager)).ready("3 resources")
    assert manager.recv(1000) == b"READY=1\nSTATUS=3 resources"


def test_an_abstract_socket_is_spoken_to() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")
        sock.settimeout(5.0)
        name = sock.getsockname().decode()
        Notifier({"NOTIFY_SOCKET": "@" + name[1:]}).stopping()
        assert sock.recv(1000).startswith(b"STOPPING=1")


def test_children_do_not_inherit_the_conversation(manager: socket.socket) -> None:
    variables = environment(manager, WATCHDOG_USEC="1000", WATCHDOG_PID="1", PATH="/bin")
    Notifier(variables)
    assert variables == {"PATH": "/bin"}


def test_the_loop_beats_three_times_in_a_period(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="300000", WATCHDOG_PID=str(os.getpid())))
    assert notifier.watchdog_s == 0.3

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(notifier.beat(), 0.25)

    asyncio.run(story())
    assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2


def test_the_watchdog_of_another_process_is_not_fed(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="300000", WATCHDOG_PID="1"))
    asyncio.run(asyncio.wait_for(notifier.beat(), 5.0))
    assert notifier.watchdog_s is None


@pytest.mark.parametrize("path", ["", "/nonexistent/socket"])
def test_nobody_listening_is_no_error(path: str) -> None:
    Notifier({"NOTIFY_SOCKET": path} if path else {}).ready("")
