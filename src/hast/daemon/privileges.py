"""Gives rights up: user and groups, capabilities, new privileges, system calls that are never made again. For good.

A process does this once it holds what it needs, with or without systemd. What a whole service may never do is said by
its unit (packaging/systemd); this is for processes that need less than the daemon that starts them.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import pwd
import resource
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import IntEnum
from typing import Any, NamedTuple, cast

WORKER_VARIABLE = "HAST_USER"
WORKER_USER = "hast-worker"
"""Whom hastd's workers run as. The package makes it; without it they stay root, and hastd says so. Its group reads the
node's key, so it is not the group `hast`, which watches."""
_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 8, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_FORBIDDEN = (
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    *("mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fspick", "mount_setattr", "pivot_root"),
    *("chroot", "unshare", "setns", "open_by_handle_at", "name_to_handle_at", "mknod", "mknodat", "swapon", "swapoff"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid"),
    *("capset", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "bpf"),
    *("perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "iopl", "ioperm", "syslog", "acct"),
    *("quotactl", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname", "setdomainname"),
)
"""What a process never does again that has become another user: no other program, nobody else's memory, no mounts."""


class Capability(IntEnum):
    """Those that a daemon of ours keeps beyond its start."""

    NET_ADMIN = 12
    NET_RAW = 13
    IPC_LOCK = 14


class Identity(NamedTuple):
    """A user of the system, by numbers."""

    uid: int
    gid: int


def identity(name: str) -> Identity | None:
    """A user of this system; None where there is no such one, or this process cannot become it."""
    if os.geteuid() != 0 or not name:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Identity(found.pw_uid, found.pw_gid)


def worker_identity() -> Identity | None:
    """Of hastd's workers; None: they stay what hastd is."""
    return identity(os.environ.get(WORKER_VARIABLE, WORKER_USER))


def gain_none() -> None:
    """No program that this process or its children start gives them more rights than they have. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become(who: Identity, keep: Iterable[Capability] = ()) -> None:
    """Another user with no rights but `keep`, and without the system calls that it never makes again. Raises OSError,
    and then the process must not go on."""
    kept = _permitted(keep)
    load_filter = _filter()
    _bound(kept)
    _prctl(_PR_SET_KEEPCAPS, 1 if kept else 0)
    os.setgroups([])
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    _keep_only(kept)
    load_filter()


def keep_only(keep: Iterable[Capability]) -> None:
    """The same user, with the files of it, and no other rights than these. To be called before there are threads.
    Raises OSError."""
    kept = _permitted(keep)
    _bound(kept)
    _keep_only(kept)


def to_lock_memory() -> list[Capability]:
    """What has to be kept to lock memory: nothing where the limit can be lifted, which root in a container cannot."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    return [] if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited else [Capability.IPC_LOCK]


def prepare() -> None:
    """What `become` takes its time for, ahead of it."""
    _filter()


@functools.cache
def _filter() -> Callable[[], None]:
    """What refuses `_FORBIDDEN` in every thread from then on; nothing where there is no libseccomp for Python."""
    library = seccomp()
    if library is None:
        return lambda: None
    rules = library.SyscallFilter(library.ALLOW)
    rules.set_attr(library.Attr.CTL_TSYNC, 1)
    for name in _FORBIDDEN:
        with suppress(RuntimeError, OSError, ValueError):  # not known to this architecture, or library
            rules.add_rule(library.ERRNO(errno.EPERM), name)
    return cast(Callable[[], None], rules.load)


@functools.cache
def seccomp() -> Any:
    """Debian's binding, else the one of PyPI with the same interface; None where there is none."""
    try:
        import seccomp
    except ImportError:
        try:
            import pyseccomp as seccomp
        except (ImportError, OSError, RuntimeError):
            return None
    return seccomp


def _permitted(wanted: Iterable[Capability]) -> frozenset[Capability]:
    """Those of them that this process has."""
    bits = _bits()
    return frozenset(each for each in wanted if bits >> each & 1)


def _bits() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))


def _bound(kept: frozenset[Capability]) -> None:
    gain_none()
    with suppress(PermissionError):  # a unit that bounds the capabilities has done it
        for number in range(_last_capability() + 1):
            if number not in kept:
                _prctl(_PR_CAPBSET_DROP, number)


def _keep_only(kept: frozenset[Capability]) -> None:
    bits = sum(1 << number for number in kept)
    if _bits() == bits and os.geteuid() == 0:
        return  # a unit has done it, and may refuse the call
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(ctypes.CDLL(None, use_errno=True).capset(header, sets), "capset")


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 40


def _prctl(option: int, value: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
