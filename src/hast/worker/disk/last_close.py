"""The last close of a disk's descriptor: it may sleep, since the kernel may write back then, and it may fail. The
descriptor is gone all the same."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable


def last_close(descriptor: int) -> str:
    """Close it; returns what the disk said to that, mostly nothing. May sleep. Raises OSError when there is none."""
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        return error.strerror or str(error)
    return ""


def let_go(descriptors: Iterable[int]) -> None:
    """Close these without waiting."""
    for descriptor in descriptors:
        threading.Thread(target=last_close, args=(descriptor,), name="close", daemon=True).start()
