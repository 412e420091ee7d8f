"""The ublk attachment where there is no ublk, and its knowledge of kernels. The driver itself: tests/kernel."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hast.device import ublk_helper
from hast.device.attach_ublk import UblkAttachment, clean_up_ublk, fatal_bug, missing_for_ublk
from hast.device.device_steps import DeviceError, Record
from hast.format import ublk
from hast.format.ublk import Control

ABSENT = pytest.mark.skipif(Path(ublk_helper.CONTROL_PATH).exists(), reason="this kernel has ublk")


@pytest.mark.parametrize(
    ("release", "known"),
    [
        ("6.6.50", "CVE-2024-46735"),
        ("6.6.51", ""),
        ("6.7", "CVE-2025-37906"),
        ("6.8.0-45-generic", "CVE-2025-37906"),
        ("6.12.95+deb12-cloud-amd64", "CVE-2025-37906"),
        ("6.14.6", ""),
        ("6.17.0-5-generic", "CVE-2025-71070"),
        ("6.18.2", "CVE-2025-71070"),
        ("6.18.3", ""),
        ("6.18.5", "when a device is added"),
        ("6.18.6", ""),
        ("6.4.0", ""),
        ("7.1.2", ""),
        ("strange", ""),
    ],
)
def test_kernels_with_a_fatal_bug_are_known_by_its_name(release: str, known: str) -> None:
    assert known in fatal_bug(release)
    assert bool(fatal_bug(release)) is bool(known)


@ABSENT
def test_a_kernel_without_the_driver_is_named_as_the_reason() -> None:
    assert missing_for_ublk() in ("the kernel has no ublk_drv module", "it needs root")


@ABSENT
def test_without_the_driver_every_step_fails_in_one_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HAST_DEV", str(tmp_path / "dev"))

    async def story() -> None:
        attachment = UblkAttachment("disk1", "disk1")
        await attachment.prepare()
        assert Record.of("disk1").load()
        with pytest.raises(DeviceError, match=r"Unable to add the ublk device of .*disk1: No such file") as caught:
            await attachment.expect_worker()
        assert "\n" not in str(caught.value)
        assert attachment.node == ""
        assert await attachment.quiesce()
        await attachment.close()
        await clean_up_ublk(3, "ab")

    asyncio.run(story())
    assert list((tmp_path / "run").iterdir()) == []


class FakeDriver(ublk_helper.Driver):
    """Answers commands as the kernel does."""

    def __init__(self, answers: dict[Control, list[int | bytes]]) -> None:
        self.answers = answers
        self.calls: list[Control] = []

    def call(self, command: Control, number: int = 0xFFFFFFFF, data: int = 0, buffer: bytes = b"") -> bytes:
        self.calls.append(command)
        queue = self.answers.get(command, [])
        answer = queue.pop(0) if len(queue) > 1 else (queue[0] if queue else b"")
        if isinstance(answer, int):
            raise OSError(answer, "as told")
        return answer


def info(identifier: int, state: ublk.State = ublk.State.QUIESCED) -> bytes:
    return ublk.DEVICE_INFO.pack(
        1, ublk.QUEUE_DEPTH, state, 0, ublk.MAX_IO_BYTES, 3, 1, 0, int(ublk.WANTED), identifier, 0, 0, 0, 0
    )


def test_recovery_waits_until_the_kernel_has_noticed_the_death() -> None:
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xAB)], Control.START_USER_RECOVERY: [16, 16, b""]})
    assert ublk_helper.recover(driver, ["3", "ab"]) == {}
    assert driver.calls.count(Control.START_USER_RECOVERY) == 3


def test_a_recovery_that_was_begun_for_a_server_that_died_goes_on() -> None:
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xAB)], Control.START_USER_RECOVERY: [22]})
    assert ublk_helper.recover(driver, ["3", "ab"]) == {}


def test_a_device_of_somebody_else_under_our_number_is_left_alone() -> None:
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xCD)]})
    assert ublk_helper.remove(driver, ["3", "ab"]) == {}
    with pytest.raises(OSError, match="another's by now"):
        ublk_helper.recover(driver, ["3", "ab"])
    assert Control.STOP_DEV not in driver.calls
    assert Control.START_USER_RECOVERY not in driver.calls


def test_a_device_whose_number_was_not_noted_is_found_by_its_identifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hastd was killed between the two."""
    monkeypatch.setattr(ublk_helper, "CHANNELS", tmp_path)
    for number in (3, 7):
        (tmp_path / f"ublkc{number}").mkdir()
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xAB)]})
    assert ublk_helper.remove(driver, ["-1", "ab"]) == {}
    assert Control.STOP_DEV in driver.calls
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xCD)]})
    assert ublk_helper.remove(driver, ["-1", "ab"]) == {}
    assert Control.STOP_DEV not in driver.calls


def test_a_device_that_grants_less_than_asked_for_is_given_back() -> None:
    less = ublk.DEVICE_INFO.pack(1, 64, 0, 0, ublk.MAX_IO_BYTES, 3, 0, 0, int(ublk.WANTED), 0xAB, 0, 0, 0, 0)
    driver = FakeDriver({Control.ADD_DEV: [less]})
    with pytest.raises(OSError, match="another device than asked for"):
        ublk_helper.add(driver, ["ab"])
    assert driver.calls[-1] == Control.DEL_DEV


def test_an_old_kernel_deletes_without_the_quick_way() -> None:
    driver = FakeDriver({Control.GET_DEV_INFO: [info(0xAB)], Control.DEL_DEV_ASYNC: [95]})
    assert ublk_helper.remove(driver, ["3", "ab"]) == {}
    assert driver.calls[-1] == Control.DEL_DEV
