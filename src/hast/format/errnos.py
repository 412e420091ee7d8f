"""errno numbers on the wire are FreeBSD's; ours are Linux's (specification section 5.9). No I/O, no state."""

from __future__ import annotations

import errno

_SAME = [number for number in range(1, 35) if number not in (errno.EAGAIN, errno.EDEADLK)]

_FREEBSD = {
    "EDEADLK": 11,
    "EAGAIN": 35,
    "EINPROGRESS": 36,
    "EALREADY": 37,
    "ENOTSOCK": 38,
    "EDESTADDRREQ": 39,
    "EMSGSIZE": 40,
    "EPROTOTYPE": 41,
    "ENOPROTOOPT": 42,
    "EPROTONOSUPPORT": 43,
    "ESOCKTNOSUPPORT": 44,
    "EOPNOTSUPP": 45,
    "EPFNOSUPPORT": 46,
    "EAFNOSUPPORT": 47,
    "EADDRINUSE": 48,
    "EADDRNOTAVAIL": 49,
    "ENETDOWN": 50,
    "ENETUNREACH": 51,
    "ENETRESET": 52,
    "ECONNABORTED": 53,
    "ECONNRESET": 54,
    "ENOBUFS": 55,
    "EISCONN": 56,
    "ENOTCONN": 57,
    "ESHUTDOWN": 58,
    "ETOOMANYREFS": 59,
    "ETIMEDOUT": 60,
    "ECONNREFUSED": 61,
    "ELOOP": 62,
    "ENAMETOOLONG": 63,
    "EHOSTDOWN": 64,
    "EHOSTUNREACH": 65,
    "ENOTEMPTY": 66,
    "EUSERS": 68,
    "EDQUOT": 69,
    "ESTALE": 70,
    "EREMOTE": 71,
    "ENOLCK": 77,
    "ENOSYS": 78,
    "EIDRM": 82,
    "ENOMSG": 83,
    "EOVERFLOW": 84,
    "ECANCELED": 85,
    "EILSEQ": 86,
    "EBADMSG": 89,
    "EMULTIHOP": 90,
    "ENOLINK": 91,
    "EPROTO": 92,
    "ENOTRECOVERABLE": 95,
    "EOWNERDEAD": 96,
}

_TO_FREEBSD = {0: 0, **{number: number for number in _SAME}}
_TO_FREEBSD.update({getattr(errno, name): number for name, number in _FREEBSD.items()})
_TO_LINUX = {freebsd: linux for linux, freebsd in _TO_FREEBSD.items()}

_WORDS = {
    errno.EIO: "Input/output error",
    errno.ENXIO: "No such device or address",
    errno.ENOMEM: "Cannot allocate memory",
    errno.EACCES: "Permission denied",
    errno.ENODEV: "No such device",
    errno.EINVAL: "Invalid argument",
    errno.EFBIG: "File too large",
    errno.ENOSPC: "No space left on device",
    errno.EROFS: "Read-only file system",
    errno.EOPNOTSUPP: "Operation not supported",
    errno.ETIMEDOUT: "Connection timed out",
    errno.EDQUOT: "Disk quota exceeded",
}
NAMED = tuple(_WORDS)
"""Linux numbers that disks fail with."""


def words(number: int) -> str:
    """A Linux errno for people. Own words, because this floor may not ask the operating system."""
    return _WORDS.get(number) or f"error {errno.errorcode.get(number, number)}"


def to_freebsd(number: int) -> int:
    """The FreeBSD number of a Linux errno; EIO for one that FreeBSD does not have."""
    return _TO_FREEBSD.get(number, errno.EIO)


def to_linux(number: int) -> int:
    """The Linux number of a FreeBSD errno; EIO for one that Linux does not have."""
    return _TO_LINUX.get(number, errno.EIO)
