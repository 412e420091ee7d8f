"""The kernel nbd attachment as far as it goes without that driver: netlink bytes, the handshake, clear errors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram_worker import RamNbd

from hast.config.model import Device
from hast.device import attach_nbd, device, device_helper, nbd_helper
from hast.device.attach_nbd import NbdAttachment, clean_up_nbd
from hast.device.device import DeviceError
from hast.device.nbd_dial import DialError, dial


@pytest.fixture
def export(tmp_path: Path) -> Iterator[RamNbd]:
    server = RamNbd(tmp_path / "nbd.sock", 1 << 20)
    yield server
    server.stop()


def test_netlink_attributes_are_the_documented_bytes() -> None:
    assert nbd_helper.u32(1, 7).hex() == struct.pack("=HHI", 8, 1, 7).hex()
    assert nbd_helper.attribute(10, b"abc\0") == struct.pack("=HH4s", 8, 10, b"abc\0")
    assert nbd_helper.attribute(10, b"abcde") == struct.pack("=HH5s3x", 9, 10, b"abcde")
    nested = nbd_helper.sockets(5)
    assert nested == struct.pack("=HHHHHHI", 16, 7 | 0x8000, 12, 1 | 0x8000, 8, 1, 5)
    outer = nbd_helper.attributes(nested)
    inner = nbd_helper.attributes(outer[7])
    assert nbd_helper.attributes(inner[1]) == {1: struct.pack("=I", 5)}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_netlink_bytes_are_read_without_harm(data: bytes) -> None:
    nbd_helper.attributes(data)


def test_dial_hands_over_a_connection_in_transmission(export: RamNbd) -> None:
    async def story() -> None:
        dialled = await dial(str(export.path), "disk1")
        assert dialled.size_bytes == 1 << 20
        assert dialled.flags & (1 | 4 | 8 | 32) == 1 | 4 | 8 | 32
        with dialled.socket as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, struct.pack(">IHHQQI", 0x25609513, 0, 3, 1, 0, 0))
            assert await loop.sock_recv(sock, 100) == struct.pack(">IIQ", 0x67446698, 0, 1)

    asyncio.run(story())


def test_dial_says_why_it_failed(export: RamNbd, tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(DialError, match="refuses export 'other'"):
            await dial(str(export.path), "other")
        with pytest.raises(DialError, match="failed"):
            await dial(str(tmp_path / "nothing"), "disk1")
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "silent"))
            silent.listen(1)
            with pytest.raises(DialError, match=r"within 0\.1 s"):
                await dial(str(tmp_path / "silent"), "disk1", 0.1)

    asyncio.run(story())


def test_without_the_driver_attach_fails_in_one_line_and_close_undoes(
    export: RamNbd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/sys/module/nbd").exists():
        pytest.skip("this kernel has the nbd driver")
    monkeypatch.setenv("HAST_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HAST_DEV", str(tmp_path / "dev"))

    async def story() -> None:
        attachment = NbdAttachment("disk1", "disk1", str(export.path))
        await attachment.prepare()
        with pytest.raises(DeviceError, match="kernel's nbd client"):
            await attachment.attach(1 << 20, 512, 1)
        await attachment.close()
        await clean_up_nbd("hast:unknown:0")

    asyncio.run(story())
    assert list((tmp_path / "run").iterdir()) == []


class Kernel:
    """Stands for the nbd driver behind netlink: what it was asked, and its answers, one a call."""

    asked: ClassVar[list[tuple[int, bytes]]] = []
    answers: ClassVar[list[Callable[[], object]]] = []

    def call(self, command: int, body: bytes) -> dict[int, bytes]:
        self.asked.append((command, body))
        self.answers.pop(0)()
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Kernel]]:
    """The driver, and no helper process."""
    monkeypatch.setattr(nbd_helper, "Netlink", Kernel)
    monkeypatch.setattr(attach_nbd, "run_helper", lambda *_: pytest.fail("a process of its own"))
    monkeypatch.setenv("HAST_DEV", str(tmp_path / "dev"))
    yield Kernel
    Kernel.asked.clear()
    Kernel.answers.clear()


def fail_with(number: int) -> None:
    raise OSError(number, os.strerror(number))


def attached(export: RamNbd) -> NbdAttachment:
    attachment = NbdAttachment("disk1", "disk1", str(export.path))
    attachment._index = 3
    return attachment


def test_another_worker_is_handed_to_the_kernel_at_once_when_it_has_noticed_the_death_of_the_last(
    export: RamNbd, kernel: type[Kernel]
) -> None:
    kernel.answers[:] = [partial(fail_with, errno.ENOSPC), lambda: None]
    asyncio.run(attached(export).worker_replaced(1))
    assert [command for command, _ in kernel.asked] == [nbd_helper.NBD_CMD_RECONFIGURE] * 2
    found = nbd_helper.attributes(kernel.asked[1][1])
    assert struct.unpack("=I", found[nbd_helper.NBD_ATTR_INDEX]) == (3,)
    assert found[nbd_helper.NBD_ATTR_BACKEND_IDENTIFIER].startswith(b"hast:disk1:")


def test_a_worker_that_the_kernel_does_not_take_is_told_with_the_reason(
    export: RamNbd, kernel: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    attachment = attached(export)
    kernel.answers[:] = [partial(fail_with, errno.EINVAL)]
    with pytest.raises(DeviceError, match="Invalid argument"):
        asyncio.run(attachment.worker_replaced(1))
    monkeypatch.setattr(attach_nbd, "STEP_DEADLINE_S", 0.2)
    kernel.answers[:] = [partial(fail_with, errno.ENOSPC)] * 20
    with pytest.raises(DeviceError, match=r"no answer from the kernel within 0\.2 s"):
        asyncio.run(attachment.worker_replaced(1))


def test_a_kernel_that_never_answers_holds_up_nobody_and_no_descriptor_changes_under_it(
    export: RamNbd, kernel: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach_nbd, "STEP_DEADLINE_S", 0.2)
    goes_on, went_on = threading.Event(), threading.Event()
    seen = []

    def stuck() -> None:
        goes_on.wait(10)
        item = nbd_helper.attributes(nbd_helper.attributes(kernel.asked[0][1])[nbd_helper.NBD_ATTR_SOCKETS])
        (descriptor,) = struct.unpack("=I", nbd_helper.attributes(item[nbd_helper.NBD_SOCK_ITEM])[1])
        seen.append(stat.S_ISSOCK(os.fstat(descriptor).st_mode))
        went_on.set()

    kernel.answers[:] = [stuck]
    with pytest.raises(DeviceError, match="no answer from the kernel"):
        asyncio.run(attached(export).worker_replaced(1))
    goes_on.set()
    assert went_on.wait(10)
    assert seen == [True]


def test_the_helper_reports_errors_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/sys/module/nbd").exists():
        pytest.skip("this kernel has the nbd driver")
    assert nbd_helper.main(["disconnect", "0"]) in (0, 1)
    assert device_helper.main(["writeback", "/dev/nbd99999"]) == 1
    assert capsys.readouterr().err.count("\n") <= 2


def test_a_modprobe_that_hangs_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "modprobe"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(device, "MODPROBE_DEADLINE_S", 0.3)
    monkeypatch.setattr(device, "MODULES", {Device.NBD: ("nbd", str(tmp_path / "absent"))})
    monkeypatch.setattr(device, "MODULE_DIRECTORY", tmp_path.parent)
    turns = 0

    async def story() -> None:
        nonlocal turns
        loading = asyncio.create_task(device.load_modules(Device.AUTO))
        async with asyncio.timeout(10):
            while not loading.done():
                turns += 1
                await asyncio.sleep(0.01)

    asyncio.run(story())
    assert turns > 5
