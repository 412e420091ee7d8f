"""Opening the sockets on which hastd awaits peers."""

from __future__ import annotations

import socket

import pytest

from hast.daemon.sockets import SocketError
from hast.supervisor.peer_sockets import close_all, open_listener, open_listeners


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
