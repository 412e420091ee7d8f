"""Packages are changed, back and forth, between this state of the tree and an earlier one, under fio that verifies.

HAST_CHANGES is how often each host is changed, HAST_UPGRADE_FROM the earlier commit; the pauses that a user of the
device saw are printed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import booted
import pytest
from pair import Failed
from releases import NoHistory, earlier_commit, packages_of
from under_load import in_cells, longest_after
from upgrades import Load, Replicating, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200), pytest.mark.xdist_group("system")]
ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
CHANGES = int(os.environ.get("HAST_CHANGES") or 2)
LONGEST_S = 10.0
"""No user of a device gave up by then, on a machine that has other things to do as well."""
FOLDERS = {"earlier": "/root/earlier", "this": "/dist"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Replicating]:
    if reason := booted.missing():
        pytest.skip(reason)
    try:
        earlier = packages_of(earlier_commit(), SUITE)
    except NoHistory as error:
        pytest.skip(str(error))
    with Replicating(booted.packages(SUITE, ROOT, tmp_path / "packages")) as made:
        for machine in made.machines:
            machine.bring(earlier, FOLDERS["earlier"])
        yield made


def test_a_user_of_the_device_sees_a_pause_and_no_error(pair: Replicating, tmp_path: Path) -> None:
    changed: list[tuple[float, str]] = []
    load = Load(pair.hast1, tmp_path)
    try:
        time.sleep(2)
        for number in range(CHANGES):
            to = "this" if number % 2 else "earlier"
            for machine in (pair.hast2, pair.hast1):
                changed.append((time.monotonic(), f"{'primary' if machine is pair.hast1 else 'secondary'} to {to}"))
                install(machine, FOLDERS[to])
                pair.wait_complete(pair.hast1)
                load.check()
                print(
                    f"{number + 1} of {CHANGES}: {changed[-1][1]}, {time.monotonic() - changed[-1][0]:.1f} s",
                    flush=True,
                )
        pauses = load.end()
    except (AssertionError, TimeoutError) as error:
        raise Failed(f"after {changed}: {error}\n{pair.describe()}") from error
    finally:
        load.kill()
    pair.prove()
    longest = longest_after([at for at, _ in changed], pauses)
    for what in sorted({what for _, what in changed}):
        all_s = [each_s for each_s, (_, kind) in zip(longest, changed, strict=True) if kind == what]
        print(f"| {what} | {in_cells(all_s)} |")
    assert max(longest) < LONGEST_S, changed
