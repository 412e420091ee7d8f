"""Opening the Unix sockets of daemons."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hast.daemon.sockets import SocketError, bind_unix, control_path


def test_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    bind_unix(path, 0o600).close()
    with bind_unix(path, 0o600):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(SocketError, match="another process serves it"):
            bind_unix(path, 0o600)


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(SocketError):
        bind_unix(str(path), 0o600)
    assert path.read_text() == "precious"


def test_path_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="longer than 107 bytes"):
        bind_unix(str(tmp_path / ("x" * 120)), 0o600)


def test_control_must_be_a_unix_socket() -> None:
    assert control_path("uds:///run/x") == "/run/x"
    with pytest.raises(SocketError, match="Unable to setup control connection to tcp://"):
        control_path("tcp://127.0.0.1:1")
