"""A peer that said that it goes, and one that said nothing, when this node is to take over."""

from __future__ import annotations

import pytest

from hast.supervisor.decisions.departure import MAX_WITHIN_S, Departure, PeerAnswer

PRIMARY, NOT_PRIMARY, NONE = PeerAnswer.PRIMARY, PeerAnswer.NOT_PRIMARY, PeerAnswer.NONE
NOTHING: tuple[str, ...] = ()
LEAVES = ("peer-leaves",)
LEFT = ("peer-leaves", "peer-left")
BACK = ("peer-leaves", "connect")
CUT = ("peer-leaves", "disconnect")

TABLE = [
    (NOTHING, PRIMARY, 0.0, True),
    (NOTHING, NOT_PRIMARY, 0.0, False),
    (NOTHING, NONE, 0.0, False),
    (LEAVES, PRIMARY, 5.0, True),
    (LEAVES, PRIMARY, 50.0, True),
    (LEAVES, NOT_PRIMARY, 5.0, False),
    (LEAVES, NONE, 5.0, True),
    (LEAVES, NONE, 20.0, False),
    (CUT, NONE, 5.0, True),
    (CUT, NONE, 20.0, False),
    (LEFT, PRIMARY, 5.0, True),
    (LEFT, NONE, 0.0, False),
    (BACK, NONE, 5.0, False),
]


@pytest.mark.parametrize(("heard", "answer", "after_s", "holds"), TABLE)
def test_who_holds_the_role(heard: tuple[str, ...], answer: PeerAnswer, after_s: float, holds: bool) -> None:
    departure = Departure()
    for name in heard:
        departure.heard(name, {"within_s": 20.0} if name == "peer-leaves" else None, 100.0)
    for connected in (False, True):
        assert departure.holds_role(answer, 100.0 + after_s, connected) is holds


@pytest.mark.parametrize(
    ("heard", "connected", "holds"),
    [
        (NOTHING, True, True),
        (NOTHING, False, False),
        (BACK, True, True),
        (LEFT, True, False),
        ((*LEFT, "connect"), True, True),
        (LEAVES, False, True),
    ],
)
def test_a_primary_whose_hastd_is_gone_holds_the_role_while_its_worker_is_connected(
    heard: tuple[str, ...], connected: bool, holds: bool
) -> None:
    departure = Departure()
    for name in heard:
        departure.heard(name, {"within_s": 20.0} if name == "peer-leaves" else None, 100.0)
    assert departure.holds_role(PeerAnswer.REFUSED, 105.0, connected) is holds


@pytest.mark.parametrize("within", [None, "soon", -5.0])
def test_nonsense_is_no_time(within: object) -> None:
    departure = Departure()
    departure.heard("peer-leaves", {"within_s": within}, 100.0)
    assert not departure.is_awaited(100.0)


def test_no_peer_is_waited_for_longer_than_the_most() -> None:
    departure = Departure()
    departure.heard("peer-leaves", {"within_s": 1e12}, 100.0)
    assert not departure.is_awaited(100.0 + MAX_WITHIN_S)
