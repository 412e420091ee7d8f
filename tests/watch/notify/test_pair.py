"""Two real hastd: one dies and comes back, and the notifier of the other tells it once each."""

from __future__ import annotations

from typing import Any

import pytest
from daemon_pair import Pair, needs_qemu_io, pair
from notifier import Notifier, told

from daemon import wait_for

__all__ = ["pair"]


@pytest.mark.slow
@needs_qemu_io
def test_the_loss_of_the_peer_and_its_return_are_told_once(pair: Pair, web: Any, notifiers: list[Notifier]) -> None:
    notifier = Notifier(pair.one, f'degraded 3\nwebhook "{web.url}" {{ gather 0 only degraded }}')
    notifiers.append(notifier)
    notifier.start()
    pair.two.stop()
    wait_for(lambda: told(web) == ["disk1 degraded begun"], "the loss to be told", 60)
    pair.two.start()
    assert pair.two.role("secondary")["error"] is None
    pair.wait_complete()
    wait_for(lambda: told(web)[1:] == ["disk1 degraded over"], "the end to be told", 60)
    assert web.taken[0]["messages"][0]["text"].startswith("There is no second copy: ")
    assert web.taken[1]["messages"][0]["text"].startswith("Both copies are complete.")
    assert notifier.stop() == 0
