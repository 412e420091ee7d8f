"""Loop devices, in a process of its own: every call here may hang in the kernel, so the supervisor never makes it.

Run by its path with the bare interpreter, standard library only, and given a deadline; a helper that is stuck is left
behind. Prints `ready`, then one JSON object; on failure one line on stderr, exit code 1.

    device_helper.py attach FILE SECTOR_SIZE_BYTES      {"loop": "/dev/loop3", "sequence": "17", "direct": true}
    device_helper.py detach LOOP FILE                   {"gone": false} while open; then it goes at last close
    device_helper.py flush LOOP FILE                    writes out what the kernel caches for the device
    device_helper.py writeback NODE                     the same; {"in_use": true} while it is mounted
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
import sys
import time

LOOP_CONFIGURE = 0x4C0A
LOOP_CLR_FD = 0x4C01
LOOP_CTL_GET_FREE = 0x4C82
BLKFLSBUF = 0x1261
LO_FLAGS_DIRECT_IO = 16
LOOP_CONFIG = struct.Struct("=II40xIIII64s64s32x16x64x")
"""struct loop_config: descriptor, block size, then struct loop_info64 with number, two encryption fields and flags."""
ATTEMPTS = 64
GONE_WAIT_S = 0.3


def read_sys(loop: str, attribute: str) -> str | None:
    """A file below /sys/block/loopN, None when there is none. Does not touch the device."""
    try:
        with open(
            f"/sys/block/{os.path.basename(loop)}/{attribute}", encoding="utf-8", errors="surrogateescape"
        ) as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def is_over(loop: str, path: str) -> bool:
    """Whether the loop device stands on this file; a file that was unlinked or unmounted has a remark after it."""
    backing = read_sys(loop, "loop/backing_file")
    return backing is not None and backing in (path, f"{path} (deleted)")


def _free_loop() -> str:
    """Path of a free loop device; its node is made where nobody does that for us (no devtmpfs)."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    path = f"/dev/loop{number}"
    major, minor = (int(part) for part in (read_sys(path, "dev") or f"7:{number}").split(":"))
    try:
        os.mknod(path, 0o660 | stat.S_IFBLK, os.makedev(major, minor))
    except FileExistsError:
        pass
    return path


def attach(path: str, sector_size_bytes: int) -> dict[str, object]:
    """Put a direct-I/O loop device on the file. Raises OSError."""
    backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    name = os.fsencode(path)[-63:]
    config = LOOP_CONFIG.pack(backing, sector_size_bytes, 0, 0, 0, LO_FLAGS_DIRECT_IO, name, b"")
    for _ in range(ATTEMPTS):
        loop = _free_loop()
        device = os.open(loop, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, LOOP_CONFIGURE, config)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            continue
        finally:
            os.close(device)
        return {"loop": loop, "sequence": read_sys(loop, "diskseq"), "direct": read_sys(loop, "loop/dio") == "1"}
    raise OSError(errno.EBUSY, "no free loop device")


def detach(loop: str, path: str) -> dict[str, object]:
    """Take the loop device off the file, at its last close when it is open. Raises OSError."""
    if is_over(loop, path):
        device = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, LOOP_CLR_FD)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        finally:
            os.close(device)
    deadline = time.monotonic() + GONE_WAIT_S
    while is_over(loop, path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"gone": not is_over(loop, path)}


def flush(loop: str, path: str) -> dict[str, object]:
    """Write out the kernel's cache of the device. Raises OSError."""
    if is_over(loop, path):
        _write_out(loop)
    return {}


def write_back(path: str) -> dict[str, object]:
    """Write out the kernel's cache of a device; says whether somebody has claimed it. Raises OSError."""
    _write_out(path)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_EXCL))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return {"in_use": True}
        raise
    return {"in_use": False}


def _write_out(path: str) -> None:
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(device)
        fcntl.ioctl(device, BLKFLSBUF)
    finally:
        os.close(device)


def main(arguments: list[str]) -> int:
    print("ready", flush=True)
    try:
        if arguments[0] == "attach":
            result = attach(arguments[1], int(arguments[2]))
        elif arguments[0] == "writeback":
            result = write_back(arguments[1])
        else:
            result = {"detach": detach, "flush": flush}[arguments[0]](arguments[1], arguments[2])
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
