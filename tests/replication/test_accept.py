"""The first message on an accepted connection."""

from __future__ import annotations

import pytest

from hast.format.constants import OUR_FEATURES, Feature, Role
from hast.replication.accept import AcceptA, AcceptB, Ignore, Opening, Refuse, View, decide

TOKEN = bytes(range(16))
SECONDARY = View(known=True, peer_allowed=True, role=Role.SECONDARY)


def test_message_without_a_resource_is_dropped() -> None:
    assert isinstance(decide(Opening(None), SECONDARY), Ignore)
    assert isinstance(decide(Opening(""), SECONDARY), Ignore)


def test_unknown_resource_is_refused() -> None:
    assert decide(Opening("x", 2), View(known=False)) == Refuse("Resource not configured.", version=2)


def test_other_address_is_refused_before_anything_is_said_of_the_role() -> None:
    view = View(known=True, peer_allowed=False, role=Role.PRIMARY)
    assert decide(Opening("x", 2), view) == Refuse("No access to the resource.", version=2)


@pytest.mark.parametrize(("role", "wait"), [(Role.PRIMARY, True), (Role.INIT, False)])
def test_node_that_is_not_secondary_refuses_and_a_primary_asks_to_try_again(role: Role, wait: bool) -> None:
    decision = decide(Opening("x", 2), View(known=True, peer_allowed=True, role=role))
    text = f"Remote node acts as {role} for the resource and not as secondary."
    assert decision == Refuse(text, wait=wait, version=2)


@pytest.mark.parametrize(("offered", "agreed"), [(0, 1), (1, 1), (2, 2), (3, 2), (255, 2)])
def test_connection_a_is_accepted_with_the_lower_version(offered: int, agreed: int) -> None:
    assert decide(Opening("x", offered), SECONDARY) == AcceptA(agreed, Feature.NONE)


def test_refusal_to_a_version_1_peer_is_in_its_own_version() -> None:
    """Section 11: C sends 2, unreadable for them."""
    decision = decide(Opening("x"), View(known=False))
    assert isinstance(decision, Refuse)
    assert decision.version == 1


def test_only_features_of_both_are_agreed_on() -> None:
    decision = decide(Opening("x", 2, features=0xFFFF), SECONDARY)
    assert decision == AcceptA(2, OUR_FEATURES)
    assert decide(Opening("x", 2, features=4), SECONDARY) == AcceptA(2, Feature.PING)


def test_connection_b_needs_the_token_of_the_pending_connection_a() -> None:
    pending = View(known=True, peer_allowed=True, role=Role.SECONDARY, token=TOKEN)
    assert decide(Opening("x", 2, TOKEN), pending) == AcceptB()
    assert decide(Opening("x", 2, bytes(16)), pending) == Refuse("Token doesn't match.", version=2)
    assert decide(Opening("x", 2, b"short"), pending) == Refuse("Token doesn't match.", version=2)


def test_connection_b_without_a_pending_connection_a_is_refused() -> None:
    """Section 10.3: before any conn A the expected token is 16 zero bytes, and a known token can be replayed."""
    assert decide(Opening("x", 2, bytes(16)), SECONDARY) == Refuse("Token doesn't match.", version=2)


@pytest.mark.parametrize("role", [Role.SECONDARY, Role.INIT])
def test_node_that_stops_takes_no_connection(role: Role) -> None:
    view = View(known=True, peer_allowed=True, role=role, stopping=True)
    assert decide(Opening("x", 2), view) == Refuse("Remote node is stopping.", version=2)


def test_primary_that_stops_is_primary_until_it_has_let_go() -> None:
    decision = decide(Opening("x", 2), View(known=True, peer_allowed=True, role=Role.PRIMARY, stopping=True))
    assert isinstance(decision, Refuse)
    assert decision.wait
