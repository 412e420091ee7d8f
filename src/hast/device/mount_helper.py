"""The system calls that mount and unmount, and a process that makes them where hastd may not (`mounting.py`).

Run by its path with the bare interpreter, standard library only. Prints `ready`, then one JSON object; on failure one
line on stderr, exit code 1.

    mount_helper.py mount DIRECTORY         mounts the /dev/fuse descriptor that is its standard input
    mount_helper.py unmount DIRECTORY       takes the mount out of the tree at once
    mount_helper.py abort MINOR DIRECTORY   has everything that waits for this FUSE server fail; {"gone": bool}
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def mount(descriptor: int, directory: str) -> None:
    """Mount a /dev/fuse descriptor. Raises OSError. The server need not run."""
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0".encode()
    result = _libc.mount(b"hast", os.fsencode(directory), b"fuse.hast", _MS_NOSUID_NODEV_NOEXEC, options)
    _check(result, f"mount {directory}")


def unmount(directory: str) -> None:
    """Take the mount out of the tree at once; the kernel forgets it when its last user is gone. Raises OSError."""
    _check(_libc.umount2(os.fsencode(directory), _MNT_DETACH), f"umount {directory}")


def abort_by_own_mount(minor: int, directory: str) -> bool:
    """Make everything that waits for this FUSE server fail, where nobody has mounted fusectl: it is mounted on
    `directory`, which is made, for this one write."""
    at = Path(directory)
    try:
        at.mkdir(mode=0o700, exist_ok=True)
        _check(_libc.mount(b"fusectl", os.fsencode(directory), b"fusectl", 0, None), "mount fusectl")
    except OSError:
        return False
    try:
        (at / str(minor) / "abort").write_text("1")
        return True
    except OSError:
        return False
    finally:
        unmount(directory)
        at.rmdir()


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def main(arguments: list[str]) -> int:
    print("ready", flush=True)
    result: dict[str, object] = {}
    try:
        match arguments:
            case ["mount", directory]:
                mount(0, directory)
            case ["unmount", directory]:
                unmount(directory)
            case ["abort", minor, directory]:
                result["gone"] = abort_by_own_mount(int(minor), directory)
            case _:
                raise OSError(22, f"unknown command {arguments}")
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
