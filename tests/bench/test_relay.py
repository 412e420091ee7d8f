"""The longer cable: what is sent comes whole, in order and late."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bench.machine import REPOSITORY

from hast.lab.loopback import free_ports
from hast.lab.processes import bound, wait_until

ONE_WAY_MS = 20.0


def echo(listener: socket.socket) -> None:
    connection, _where = listener.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


@pytest.fixture
def client() -> Iterator[socket.socket]:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        target = str(listener.getsockname()[1])
        command = [*bound(), sys.executable, "-m", "bench.relay", str(port), target, f"{ONE_WAY_MS:g}"]
        with subprocess.Popen(command, cwd=REPOSITORY) as relay:
            try:
                with reach(port) as sock:
                    yield sock
            finally:
                relay.terminate()


def reach(port: int) -> socket.socket:
    for _passed in wait_until("the relay", 20):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            continue
    raise AssertionError


def test_an_answer_takes_the_way_there_and_back(client: socket.socket) -> None:
    begin_s = time.monotonic()
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    assert time.monotonic() - begin_s >= 2 * ONE_WAY_MS / 1000


def test_much_comes_whole_and_in_order_and_then_its_end(client: socket.socket) -> None:
    data = random.Random(2).randbytes(6 << 20)

    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    found = bytearray()
    while piece := client.recv(1 << 20):
        found += piece
    assert found == data
