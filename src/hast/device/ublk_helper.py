"""Control commands to the kernel's ublk driver, in a process of its own: any of them may hang in the kernel.

Run by its path with the bare interpreter and given a deadline. Prints `ready`, then one JSON object; on failure one
line on stderr, exit code 1. A device is known by the identifier that its maker gave it: a number may belong to
somebody else by now.

    ublk_helper.py add IDENTIFIER                              {"number": 3}
    ublk_helper.py start NUMBER PID SIZE_BYTES BLOCK_BYTES     when the server has the channel open
    ublk_helper.py recover NUMBER IDENTIFIER                   the server is dead, before another opens the channel
    ublk_helper.py recovered NUMBER PID                        it has: what is unanswered is given to it
    ublk_helper.py remove NUMBER|-1 IDENTIFIER                 users of the device get errors
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hast.daemon.io_uring import Ring
from hast.format import ublk
from hast.format.ublk import Control

CONTROL_PATH = "/dev/ublk-control"
CHANNELS = Path("/sys/class/ublk-char")
QUIESCE_WAIT_S = 5.0
_POLL_S = 0.01


class Driver:
    """The control device, open."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._fd = os.open(CONTROL_PATH, os.O_RDWR | os.O_CLOEXEC)
        self._ring = Ring(4, wide=True)

    def call(self, command: Control, number: int = 0xFFFFFFFF, data: int = 0, buffer: bytes = b"") -> bytes:
        """Carry out one command; returns what it left in the buffer. Raises OSError."""
        room = ctypes.create_string_buffer(buffer, len(buffer)) if buffer else None
        address = ctypes.addressof(room) if room is not None else 0
        payload = ublk.CONTROL.pack(number, ublk.NO_QUEUE, len(buffer), address, data, 0, 0, 0)
        self._ring.command(self._fd, command, payload, 1)
        self._ring.submit(wait=1)
        [(_, result)] = self._ring.completions(1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return room.raw if room is not None else b""

    def features(self) -> ublk.Feature:
        """What this driver can do. Raises OSError; one that cannot be asked is too old."""
        (flags,) = ublk.FEATURES.unpack(self.call(Control.GET_FEATURES, buffer=bytes(ublk.FEATURES.size)))
        return ublk.Feature(flags)

    def info(self, number: int) -> ublk.DeviceInfo:
        """Raises OSError: ENODEV when there is no such device."""
        return ublk.decode_info(self.call(Control.GET_DEV_INFO, number, buffer=bytes(ublk.DEVICE_INFO.size)))

    def close(self) -> None:
        self._ring.close()
        os.close(self._fd)


def add(driver: Driver, arguments: list[str]) -> dict[str, object]:
    info = ublk.decode_info(driver.call(Control.ADD_DEV, buffer=ublk.encode_info(int(arguments[0], 16))))
    granted = (info.queue_depth, info.max_io_bytes) == (ublk.QUEUE_DEPTH, ublk.MAX_IO_BYTES)
    if not granted or ublk.WANTED & ~info.flags:
        driver.call(Control.DEL_DEV, info.number)
        raise OSError(errno.EOPNOTSUPP, f"the driver grants another device than asked for: {info}")
    make_node(f"/dev/ublkc{info.number}", f"{CHANNELS}/ublkc{info.number}", stat.S_IFCHR)
    return {"number": info.number}


def start(driver: Driver, arguments: list[str]) -> dict[str, object]:
    number, pid, size_bytes, block_bytes = (int(text) for text in arguments)
    driver.call(Control.SET_PARAMS, number, buffer=ublk.encode_parameters(size_bytes, block_bytes))
    driver.call(Control.START_DEV, number, data=pid)
    make_node(f"/dev/ublkb{number}", f"/sys/block/ublkb{number}", stat.S_IFBLK)
    return {}


def recover(driver: Driver, arguments: list[str]) -> dict[str, object]:
    """The kernel notices a little later than we do that a server is dead."""
    number = int(arguments[0])
    ours(driver, number, arguments[1])
    until_s = time.monotonic() + QUIESCE_WAIT_S
    while True:
        try:
            driver.call(Control.START_USER_RECOVERY, number)
            return {}
        except OSError as error:
            if error.errno == errno.EINVAL and driver.info(number).state == ublk.State.QUIESCED:
                return {}  # it is begun already: the server that it was meant for died before it came
            if error.errno != errno.EBUSY or time.monotonic() > until_s:
                raise
        time.sleep(_POLL_S)


def recovered(driver: Driver, arguments: list[str]) -> dict[str, object]:
    driver.call(Control.END_USER_RECOVERY, int(arguments[0]), data=int(arguments[1]))
    return {}


def remove(driver: Driver, arguments: list[str]) -> dict[str, object]:
    number = int(arguments[0])
    try:
        if number < 0:
            number = find(driver, arguments[1])
        ours(driver, number, arguments[1])
        driver.call(Control.STOP_DEV, number)
        delete(driver, number)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    return {}


def delete(driver: Driver, number: int) -> None:
    """Without waiting for the last user of the device, where the kernel can do that (6.9). Raises OSError."""
    try:
        driver.call(Control.DEL_DEV_ASYNC, number)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        driver.call(Control.DEL_DEV, number)


def find(driver: Driver, identifier: str) -> int:
    """The number of the device with this identifier. Raises OSError."""
    for entry in CHANNELS.glob("ublkc*"):
        number = int(entry.name.removeprefix("ublkc"))
        with contextlib.suppress(OSError):
            ours(driver, number, identifier)
            return number
    raise OSError(errno.ENODEV, f"no ublk device {identifier}")


def ours(driver: Driver, number: int, identifier: str) -> None:
    """Raises OSError when the device is gone, or another's."""
    if driver.info(number).identifier != int(identifier, 16):
        raise OSError(errno.ENODEV, f"ublk device {number} is another's by now")


def make_node(path: str, described: str, kind: int) -> None:
    """The device's node, where nobody makes it for us (no devtmpfs)."""
    if Path(path).exists():
        return
    with open(f"{described}/dev", encoding="ascii") as file:
        major, minor = (int(part) for part in file.read().split(":"))
    try:
        os.mknod(path, 0o660 | kind, os.makedev(major, minor))
    except FileExistsError:
        pass


COMMANDS = {"add": add, "start": start, "recover": recover, "recovered": recovered, "remove": remove}


def carry_out(arguments: list[str]) -> dict[str, object]:
    """One command, in this process. Raises OSError."""
    driver = Driver()
    try:
        return COMMANDS[arguments[0]](driver, arguments[1:])
    finally:
        driver.close()


def main(arguments: list[str]) -> int:
    print("ready", flush=True)
    try:
        print(json.dumps(carry_out(arguments)))
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
