"""Opening the sockets hastd listens on."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from hast.node.sockets import SocketError, bind_unix, close_all, control_path, open_listener, open_listeners


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


def test_address_in_use_is_exit_71() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SocketError, match=r"Unable to listen on .*in use") as error:
            open_listener(f"tcp4://127.0.0.1:{port}")
        assert error.value.exit_code == 71


def test_one_bad_address_closes_the_others() -> None:
    with pytest.raises(SocketError):
        open_listeners(("tcp4://127.0.0.1:39871", "tcp4://192.0.2.1:1"))
    close_all(open_listeners(("tcp4://127.0.0.1:39871",)))


def test_nothing_to_listen_on_is_exit_75() -> None:
    with pytest.raises(SocketError, match="No address to listen on") as error:
        open_listeners(())
    assert error.value.exit_code == 75
