"""Another process that looks at memory it shares with this one, all the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def never(is_wrong: Callable[[], bool]) -> Iterator[None]:
    """Asserts that this was not so at any moment in which the other process looked, while the body runs."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os._exit(_saw(is_wrong, reading))
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        seen = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert seen == 0


def _saw(is_wrong: Callable[[], bool], until_closed: int) -> int:
    os.set_blocking(until_closed, False)
    while True:
        if any(is_wrong() for _ in range(1000)):
            return 1
        try:
            if os.read(until_closed, 1) == b"":
                return 0
        except BlockingIOError:
            continue
