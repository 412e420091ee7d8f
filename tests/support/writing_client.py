"""A client that writes to an NBD socket all the time, for tests of what it may not notice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_pair import Pair
from nbd_client import NbdClient

from daemon import wait_for

BLOCK = 4096
BLOCKS = 512


class Writer:
    """A client that writes and flushes all the time, and knows what was acknowledged and how long that took."""

    def __init__(self, socket: str) -> None:
        self._client = NbdClient(Path(socket), timeout_s=40)
        self._random = random.Random(8)
        self.content: dict[int, bytes] = {}
        self.error = ""
        self.acknowledged = 0
        self.longest_s = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop:
                began_s = time.monotonic()
                self._step()
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        except (OSError, AssertionError) as error:
            self.error = repr(error)

    def _step(self) -> None:
        block = self._random.randrange(BLOCKS)
        data = os.urandom(64) * (BLOCK // 64)
        number = self._client.write(block * BLOCK, data)
        assert number == 0, f"write failed: {number}"
        self.content[block] = data
        self.acknowledged += 1
        if self.acknowledged % 16 == 0:
            number = self._client.flush()
            assert number == 0, f"flush failed: {number}"
        if self.acknowledged % 8 == 0:
            block = self._random.choice(list(self.content))
            assert self._client.read(block * BLOCK, BLOCK) == self.content[block], "a read is not what was written"

    def give_up(self) -> None:
        """Stop soon, whatever comes of it."""
        self._stop = True

    def stop(self) -> None:
        self._stop = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._client.close()
        assert not self.error, self.error

    def goes_on(self, deadline_s: float) -> float:
        """Wait for twenty more acknowledgements; returns how long the first took."""
        before, began_s = self.acknowledged, time.monotonic()
        wait_for(lambda: self.acknowledged > before + 1 or self.error, "an acknowledgement", deadline_s)
        first_s = time.monotonic() - began_s
        wait_for(lambda: self.acknowledged > before + 20 or self.error, "acknowledgements", 10)
        assert not self.error, self.error
        return first_s


@pytest.fixture
def writer(pair: Pair) -> Iterator[Writer]:
    """Writes to the primary of the pair."""
    made = Writer(pair.one.status()["nbd_socket"])
    made.goes_on(5)
    yield made
    made.give_up()
