"""The export adapters against a real NBD server and a real tgtd, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import wait_for
from hast.config.failover_model import FailoverConfiguration, IscsiExport, Lun, NbdExport
from hast.failover.commands import Commands
from hast.failover.exports.forwarder import main as forwarder_main
from hast.failover.exports.forwarder import parse_address
from hast.failover.exports.iscsi import IscsiTarget, parse_targets, read_account
from hast.failover.exports.nbd import NbdOverTcp
from hast.failover.exports.problems import export_problems
from hast.failover.exports.virtual_address import virtual_addresses
from hast.failover.part import Context, PartError

MakeContext = Callable[..., Context]


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture
def nbd(tmp_path: Path, nbd_server: Path, context: MakeContext) -> Iterator[tuple[NbdOverTcp, int]]:
    port = free_port()
    part = NbdOverTcp(
        NbdExport("disk1", (f"127.0.0.1:{port}",), ("127.0.0.0/8",), max_clients=2),
        nbd_server,
        tmp_path / "disk1.forward",
    )
    yield part, port
    part.down(context())


def test_a_resource_is_served_over_tcp_until_the_export_goes_down(
    nbd: tuple[NbdOverTcp, int], context: MakeContext, tmp_path: Path
) -> None:
    part, port = nbd
    assert part.is_up(context()) is False
    part.up(context())
    assert part.is_up(context()) is True
    uri = f"nbd://127.0.0.1:{port}"
    data = os.urandom(4 * 1024 * 1024) + bytes(12 * 1024 * 1024)
    (tmp_path / "in").write_bytes(data)
    subprocess.run(["nbdcopy", str(tmp_path / "in"), uri], check=True, timeout=20)
    subprocess.run(["nbdcopy", uri, str(tmp_path / "out")], check=True, timeout=20)
    assert (tmp_path / "out").read_bytes() == data
    part.down(context())
    assert part.is_up(context()) is False
    assert subprocess.run(["nbdinfo", uri], capture_output=True, check=False, timeout=20).returncode != 0


def test_clients_are_cut_off_at_once_and_no_more_than_allowed_come_in(
    nbd: tuple[NbdOverTcp, int], context: MakeContext
) -> None:
    part, port = nbd
    part.up(context())
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(3)]
    greetings = [client.recv(18, socket.MSG_WAITALL) for client in clients]
    assert [greeting[:8] for greeting in greetings] == [b"NBDMAGIC", b"NBDMAGIC", b""]
    part.down(context())
    for client in clients:
        client.settimeout(5)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        client.close()


def heard(port: int) -> bytes:
    """How a client is greeted, who then leaves; what it leaves free is so a moment later."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        return client.recv(8)


def test_who_is_not_on_the_list_is_closed_unheard_and_takes_nobodys_place(
    nbd: tuple[NbdOverTcp, int], nbd_server: Path, context: MakeContext, tmp_path: Path
) -> None:
    """Security finding 9: NBD was served to any host."""
    part, port = nbd
    part.up(context())
    wait_for(lambda: heard(port) == b"NBDMAGIC", "a greeting")
    other = NbdOverTcp(NbdExport("disk1", (f"127.0.0.1:{port}",), ("127.0.0.2", "::1")), nbd_server, part._record)
    other.up(context())
    assert [heard(port) for _ in range(3)] == [b"", b"", b""]
    with socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", 0)) as known:
        assert known.recv(8) == b"NBDMAGIC"
    assert other.ailment(context()) == ""


def test_without_an_address_nothing_is_opened(nbd_server: Path, context: MakeContext, tmp_path: Path) -> None:
    """Security finding 9: 0.0.0.0 was the default."""
    part = NbdOverTcp(NbdExport("disk1", allow=("ALL",)), nbd_server, tmp_path / "r")
    with pytest.raises(PartError, match="no address to listen on"):
        part.up(context())
    assert part.is_up(context()) is False
    port = free_port()
    part = NbdOverTcp(NbdExport("disk1", allow=("ALL",)), nbd_server, tmp_path / "r", (f"127.0.0.1:{port}",))
    part.up(context())
    assert subprocess.run(["nbdinfo", f"nbd://127.0.0.1:{port}"], capture_output=True, check=False).returncode == 0
    part.down(context())


def test_the_default_address_is_the_virtual_one(tmp_path: Path) -> None:
    path = tmp_path / "carp.conf"
    one = "vhid 1 { pass aaaaaaaa interface lo address 10.1.0.1/24 address fd00::1/64 resource disk1 }\n"
    two = "vhid 2 { pass bbbbbbbb interface lo address 10.2.0.1/24 }\n"
    path.write_text(one + two)
    path.chmod(0o600)
    assert virtual_addresses("disk1", path=str(path)) == ("10.1.0.1:10809", "[fd00::1]:10809")
    assert virtual_addresses("other", path=str(path)) == ("10.1.0.1:10809", "[fd00::1]:10809", "10.2.0.1:10809")
    assert virtual_addresses("other", path=str(tmp_path / "none")) == ()


def test_other_settings_replace_the_running_forwarder(
    nbd: tuple[NbdOverTcp, int], nbd_server: Path, context: MakeContext, tmp_path: Path
) -> None:
    part, _ = nbd
    part.up(context())
    port = free_port()
    other = NbdOverTcp(NbdExport("disk1", (f"127.0.0.1:{port}",), ("ALL",)), nbd_server, tmp_path / "disk1.forward")
    assert other.is_up(context()) is None
    other.up(context())
    assert other.is_up(context()) is True
    assert subprocess.run(["nbdinfo", f"nbd://127.0.0.1:{port}"], capture_output=True, check=False).returncode == 0


def test_a_port_in_use_is_named(nbd_server: Path, context: MakeContext, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        part = NbdOverTcp(NbdExport("disk1", (address,), ("ALL",)), nbd_server, tmp_path / "r")
        with pytest.raises(PartError, match=f"cannot listen on {address}"):
            part.up(context())
    assert part.is_up(context()) is False


def test_a_killed_forwarder_is_seen_as_down(nbd: tuple[NbdOverTcp, int], context: MakeContext, tmp_path: Path) -> None:
    part, _ = nbd
    part.up(context())
    record = part._running()
    assert record is not None
    os.kill(int(record["pid"]), signal.SIGKILL)
    until = time.monotonic() + 5
    while part.is_up(context()) is not False:
        assert time.monotonic() < until
        time.sleep(0.01)
    part.up(context())
    assert part.is_up(context()) is True


def test_an_export_that_nobody_answers_is_not_well(
    nbd: tuple[NbdOverTcp, int], nbd_server: Path, context: MakeContext
) -> None:
    part, _ = nbd
    part.up(context())
    assert part.ailment(context()) == ""
    record = part._running()
    assert record is not None
    os.kill(int(record["pid"]), signal.SIGSTOP)
    assert "nobody answers on 127.0.0.1" in part.ailment(context())
    os.kill(int(record["pid"]), signal.SIGCONT)
    nbd_server.unlink()
    assert part.ailment(context()) == f"exported, but hastd does not answer on {nbd_server}"
    nbd_server.touch()


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "::1:5", ":x"])
def test_an_address_that_is_none_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parse_address(text)
    argv = ["--target", "x", "--record", str(tmp_path / "r"), f"--listen={text}"]
    assert forwarder_main(argv) == 75
    assert "cannot listen on" in capsys.readouterr().err


def test_addresses_are_read() -> None:
    assert parse_address("10.10.10.180:10809") == ("10.10.10.180", 10809)
    assert parse_address("[::]:10809") == ("::", 10809)


SHOW = """Target 1: iqn.a
    System information:
        Driver: iscsi
    I_T nexus information:
        I_T nexus: 3
    LUN information:
        LUN: 0
            Type: controller
            Backing store path: None
        LUN: 1
            Type: disk
            Backing store path: /dev/hast/disk1
    Account information:
    ACL information:
        ALL
Target 7: iqn.b
    LUN information:
        LUN: 0
            Backing store path: None
    ACL information:
"""


def test_the_list_of_targets_is_read() -> None:
    one, two = parse_targets(SHOW)
    assert (one.tid, one.iqn, one.luns, one.access) == (1, "iqn.a", {1: "/dev/hast/disk1"}, ("ALL",))
    assert (two.tid, two.iqn, two.luns, two.access) == (7, "iqn.b", {}, ())
    assert parse_targets("") == []


@pytest.fixture
def tgtd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A tgtd of our own; its iSCSI port."""
    need("tgtd", "tgtadm", "iscsi-ls", "iscsi-inq")
    if os.geteuid() != 0:
        pytest.skip("tgtd needs root")
    monkeypatch.setenv("TGT_IPC_SOCKET", str(tmp_path / "tgt"))
    port = free_port()
    with (tmp_path / "tgtd.log").open("wb") as log:
        command = ["tgtd", "-f", "-C", "77", "--iscsi", f"portal=127.0.0.1:{port}"]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10
        while subprocess.run(["tgtadm", "-C", "77", "--op", "show", "--mode", "sys"], capture_output=True).returncode:
            assert time.monotonic() < until, (tmp_path / "tgtd.log").read_text()
            time.sleep(0.05)
        yield port
    finally:
        daemon.kill()
        daemon.wait(10)


def iscsi(path: Path, iqn: str = "iqn.2026-01.test.hast:storage", **more: Any) -> IscsiTarget:
    return IscsiTarget(IscsiExport(iqn, (Lun(1, str(path)),), control_port=77, **{"initiators": ("ALL",), **more}))


def test_a_target_comes_and_goes_with_the_same_identity(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * 1024 * 1024))
    part = iscsi(disk)
    url = f"iscsi://127.0.0.1:{tgtd}"
    serials = []
    for _round in range(2):
        assert part.is_up(context()) is False
        part.up(context())
        assert part.is_up(context()) is True
        listed = subprocess.run(["iscsi-ls", "-s", url], capture_output=True, text=True, check=True, timeout=20).stdout
        assert "iqn.2026-01.test.hast:storage" in listed
        assert "Lun:1" in listed
        inquiry = ["iscsi-inq", "-e", "1", "-c", "0x80", f"{url}/iqn.2026-01.test.hast:storage/1"]
        serials.append(subprocess.run(inquiry, capture_output=True, text=True, check=True, timeout=20).stdout)
        part.down(context())
    assert serials[0] == serials[1]
    assert part.is_up(context()) is False


def logs_in(port: int, user: str = "", iqn: str = "iqn.2026-01.test.hast:storage") -> bool:
    """Whether an initiator reaches the first unit. `user`: USER%PASSWORD."""
    url = f"iscsi://{user}{'@' * bool(user)}127.0.0.1:{port}/{iqn}/1"
    command = ["iscsi-inq", "-i", "iqn.2026-01.test.hast:client", url]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


def test_an_initiator_has_to_know_the_password(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    """Security finding 9: iSCSI allowed everybody."""
    disk, chap = tmp_path / "disk", tmp_path / "chap"
    disk.write_bytes(bytes(1024 * 1024))
    chap.write_text("storage twelve-chars\n")
    chap.chmod(0o600)
    part = iscsi(disk, chap=str(chap))
    part.up(context())
    assert part.is_up(context()) is True
    assert iscsi(disk).is_up(context()) is None
    assert not logs_in(tgtd)
    assert not logs_in(tgtd, "storage%another-password")
    assert logs_in(tgtd, "storage%twelve-chars")
    part.down(context())
    chap.write_text("storage another-one-4u\n")
    part.up(context())
    assert not logs_in(tgtd, "storage%twelve-chars")
    assert logs_in(tgtd, "storage%another-one-4u")


@pytest.mark.parametrize(
    ("text", "mode", "error"),
    [
        ("storage twelve-chars", 0o644, "can be read by others"),
        ("storage short", 0o600, "expected a user and a password of 12 to 16 characters"),
        ("twelve-chars", 0o600, "expected a user and a password"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, mode: int, error: str) -> None:
    chap = tmp_path / "chap"
    chap.write_text(text)
    chap.chmod(mode)
    with pytest.raises(PartError, match=error):
        read_account(str(chap))
    conf = FailoverConfiguration("f", exports=(IscsiExport("iqn.a", (), chap=str(chap)),))
    assert [error in problem for problem in export_problems(conf)] == [True]


def test_only_listed_initiators_are_let_in(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1024 * 1024))
    for initiators, expected in {
        (): False,
        ("127.0.0.2", "iqn.2026-01.test.hast:other"): False,
        ("127.0.0.0/8",): True,
        ("iqn.2026-01.test.hast:client",): True,
    }.items():
        part = iscsi(disk, initiators=initiators)
        part.up(context())
        assert part.is_up(context()) is True
        assert logs_in(tgtd) is expected, initiators


def test_a_half_made_target_is_made_anew(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1024 * 1024))
    part = iscsi(disk)
    base = ["tgtadm", "-C", "77", "--lld", "iscsi", "--mode", "target", "--op", "new", "--tid", "1", "-T"]
    subprocess.run([*base, "iqn.2026-01.test.hast:storage"], check=True)
    assert part.is_up(context()) is None
    part.up(context())
    assert part.is_up(context()) is True
    second = iscsi(disk, "iqn.other")
    second.up(context())
    part.down(context())
    assert second.is_up(context()) is True


def test_a_target_over_a_device_of_yesterday_is_not_well(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1024 * 1024))
    part = iscsi(disk)
    part.up(context())
    assert part.ailment(context()) == ""
    disk.rename(tmp_path / "yesterday")
    disk.write_bytes(bytes(1024 * 1024))
    assert part.ailment(context()) == f"exported, but tgtd has something else open than {disk}"
    assert part.mend(context(), "") is False
    part.down(context())
    part.up(context())
    assert part.ailment(context()) == ""


def test_a_unit_without_its_file_is_named(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    with pytest.raises(PartError, match="tgtadm"):
        iscsi(tmp_path / "none").up(context())


def test_a_target_with_a_logged_in_initiator_goes_all_the_same(tgtd: int, tmp_path: Path, context: MakeContext) -> None:
    need("iscsi-perf")
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * 1024 * 1024))
    part = iscsi(disk)
    part.up(context())
    url = f"iscsi://127.0.0.1:{tgtd}/iqn.2026-01.test.hast:storage/1"
    command = ["iscsi-perf", "-t", "20", url]
    initiator = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        part.down(context())
        assert part.is_up(context()) is False
    finally:
        initiator.kill()
        initiator.wait(10)


def test_programs_left_by_a_killed_run_are_found_and_ended(tmp_path: Path) -> None:
    mark = str(tmp_path / "state")
    code = f"import sys\nfrom hast.failover.commands import Commands\nCommands({mark!r}).run(('sleep', '60'), 50.0)\n"
    run = subprocess.Popen([sys.executable, "-c", code])
    commands = Commands(mark)
    until = time.monotonic() + 10
    while not (left := commands.leftovers()):
        assert time.monotonic() < until
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert commands.leftovers() == left
    assert Commands(mark + "2").leftovers() == []
    assert commands.end_leftovers(0.1) == []


def test_a_program_past_its_deadline_is_ended_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    result = Commands("x").run(("sh", "-c", "sleep 60 & echo started; wait"), 0.3)
    assert time.monotonic() - started < 2.5
    assert result.code == 124
    assert "did not end within 0.3 s and was killed (started)" in result.problem()
    assert (
        Commands("x").run((str(tmp_path / "none"),), 1).problem()
        == "none: cannot be started: No such file or directory"
    )
