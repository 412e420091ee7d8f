"""The way of a session to the kernel, without one; with one: tests/kernel/inside_tls.py."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path

import pytest

from hast.daemon import kernel_tls, node_key, privileges
from hast.daemon.kernel_tls import Handover, KernelSession
from hast.daemon.tls import CHANGED, Channel, TlsError, client_context, server_context


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAST_STATE", str(tmp_path))
    node_key.generate()
    return tmp_path


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return server_context([(directory / node_key.CERTIFICATE).read_text()]), client_context()


def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Channel, Channel]:
    accepting, calling = Channel(server, server=True), Channel(client, server=False)
    while not (accepting.established and calling.established):
        accepting.receive(calling.handshake())
        calling.receive(accepting.handshake())
    return accepting, calling


class Kernel:
    """In the place of a socket: notes what it is told, and refuses some of it."""

    def __init__(self, refuses: int = -1) -> None:
        self.told: list[tuple[int, int, bytes]] = []
        self._refuses = refuses

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.told.append((level, option, value))
        if len(self.told) - 1 == self._refuses:
            raise OSError(errno.EINVAL, "Invalid argument")


def test_both_sides_tell_their_kernels_the_same_keys_for_each_direction(state: Path) -> None:
    server, client = contexts(state)
    here, there = both = Kernel(), Kernel()
    with Handover(server) as first, Handover(client) as second:
        accepting, calling = meet(server, client)
        assert first.give(here, accepting, server=True) is not None  # type: ignore[arg-type]
        assert second.give(there, calling, server=False) is not None  # type: ignore[arg-type]
    told = [{option: value for level, option, value in kernel.told if level == kernel_tls.SOL_TLS} for kernel in both]
    assert told[0][kernel_tls.TLS_TX] == told[1][kernel_tls.TLS_RX]
    assert told[0][kernel_tls.TLS_RX] == told[1][kernel_tls.TLS_TX]
    assert told[0][kernel_tls.TLS_RX] != told[0][kernel_tls.TLS_TX]
    assert here.told[0] == (socket.IPPROTO_TCP, 31, b"tls")


def test_secrets_are_told_of_one_session_and_leave_no_descriptor(state: Path) -> None:
    server, client = contexts(state)
    before = os.listdir("/proc/self/fd")
    with Handover(client):
        assert str(client.keylog_filename).startswith("/proc/self/fd/")
        meet(server, client)
    assert client.keylog_filename is None
    assert server.keylog_filename is None
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("refuses", "receives"), [(0, None), (1, None), (2, False), (3, True)])
def test_what_the_kernel_refuses_stays_in_user_space(state: Path, refuses: int, receives: bool | None) -> None:
    server, client = contexts(state)
    with Handover(client) as handover:
        _accepting, calling = meet(server, client)
        found = handover.give(Kernel(refuses), calling, server=False)  # type: ignore[arg-type]
    assert (found.receives if found is not None else None) is receives


def test_a_session_in_use_is_not_given_away(state: Path) -> None:
    """The kernel would begin with the wrong number, or miss what was read already."""
    server, client = contexts(state)
    for use in (
        lambda accepting, calling: calling.seal([b"x"]),
        lambda accepting, calling: calling.receive(accepting.seal([b"x"])),
        lambda accepting, calling: calling.receive(b"\x17"),
    ):
        with Handover(client) as handover:
            accepting, calling = meet(server, client)
            use(accepting, calling)
            kernel = Kernel()
            assert handover.give(kernel, calling, server=False) is None  # type: ignore[arg-type]
            assert not kernel.told


def test_a_record_that_was_read_in_part_is_not_given_away(state: Path) -> None:
    server, client = contexts(state)
    with Handover(client) as handover:
        _accepting, calling = meet(server, client)
        handover.took(b"\x17\x03")
        assert handover.give(Kernel(), calling, server=False) is None  # type: ignore[arg-type]


def test_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAST_KERNEL_TLS", "off")
    assert kernel_tls.missing() == "HAST_KERNEL_TLS is off"
    assert kernel_tls.begin(client_context()) is None


class Receiving:
    """A socket of the kernel's TLS whose next record is this."""

    def __init__(self, number: int, kind: int = 0, content: bytes = b"") -> None:
        self._number = number
        self._record = (content, [(kernel_tls.SOL_TLS, kernel_tls.TLS_GET_RECORD_TYPE, bytes((kind,)))], 0, None)

    def recv_into(self, view: memoryview) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def recvmsg(self, most: int, ancillary: int) -> object:
        return self._record


def received(sock: Receiving) -> int:
    return KernelSession(sock, receives=True).recv_into(memoryview(bytearray(9)))  # type: ignore[arg-type]


def test_a_record_that_is_no_data_is_an_end_in_order_or_a_reason() -> None:
    assert received(Receiving(errno.EIO, 21, b"\x01\x00")) == 0
    with pytest.raises(TlsError, match="other TLS keys"):
        received(Receiving(errno.EIO, 22, b"\x18\0\0\x01\0"))


@pytest.mark.parametrize("number", [errno.EBADMSG, errno.EMSGSIZE, errno.EINVAL])
def test_what_the_kernel_cannot_open_is_named_as_in_user_space(number: int) -> None:
    with pytest.raises(TlsError, match=CHANGED):
        received(Receiving(number))


def test_other_errors_are_the_sockets_own() -> None:
    with pytest.raises(BlockingIOError):
        received(Receiving(errno.EAGAIN))
    with pytest.raises(ConnectionResetError):
        received(Receiving(errno.ECONNRESET))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_a_worker_without_rights_gets_the_secrets_of_its_session(state: Path) -> None:
    """As another user, under the filter of system calls. Of a process like that /proc belongs to root."""
    server, client = contexts(state)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            privileges.become(privileges.Identity(65534, 65534))
            with Handover(client) as handover:
                _accepting, calling = meet(server, client)
                kernel_tls.missing()
                code = 2 if handover.give(Kernel(), calling, server=False) is None else 0  # type: ignore[arg-type]
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
