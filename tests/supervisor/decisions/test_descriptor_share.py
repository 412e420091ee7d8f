"""How many descriptors listeners may use."""

from __future__ import annotations

import pytest

from hast.supervisor.decisions.descriptor_share import FEWEST_HALF_OPEN, OF_A_RESOURCE, OWN, half_open_of_one, needed


@pytest.mark.parametrize("resources", [0, 1, 16, 200])
@pytest.mark.parametrize("listeners", [1, 2, 5])
@pytest.mark.parametrize("limit", [256, 1024, 65536])
def test_what_control_and_workers_need_is_kept_back(resources: int, listeners: int, limit: int) -> None:
    share = half_open_of_one(limit, resources, 128, 128, listeners)
    assert FEWEST_HALF_OPEN <= share <= 128
    if share > FEWEST_HALF_OPEN:
        assert share * listeners + OWN + OF_A_RESOURCE * resources + 128 <= limit


def test_with_as_many_as_are_needed_nobody_is_cut_short() -> None:
    limit = needed(16, 128, 128, 2)
    assert half_open_of_one(limit, 16, 128, 128, 2) == 128
    assert half_open_of_one(limit - 1, 16, 128, 128, 2) == 127


def test_no_listener_yet_counts_as_one() -> None:
    assert half_open_of_one(1024, 1, 128, 128, 0) == 128
