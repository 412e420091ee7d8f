"""Whether a copy may be promoted."""

from __future__ import annotations

import pytest
from driver import metadata

from hast.replication.promotion import PeerState, may_serve, may_use_copy


def test_good_copy_may_be_used() -> None:
    assert may_use_copy(metadata(), force=False, resume=False).allowed


@pytest.mark.parametrize("flag", ["inconsistent", "stale"])
def test_s7_bad_copy_is_refused_with_a_reason_that_says_what_to_do(flag: str) -> None:
    verdict = may_use_copy(metadata(**{flag: True}), force=False, resume=False)
    assert not verdict.allowed
    assert flag in verdict.reason
    assert "--force" in verdict.reason
    assert may_use_copy(metadata(**{flag: True}), force=True, resume=False).allowed
    assert may_use_copy(metadata(**{flag: True}), force=False, resume=True).allowed


@pytest.mark.parametrize("peer", list(PeerState))
def test_peer_that_is_primary_or_split_forbids_to_serve_unless_forced(peer: PeerState) -> None:
    """Section 10.2: P proceeds while the other node is still primary: dual primary is possible."""
    forbidden = peer in (PeerState.PRIMARY, PeerState.SPLIT_BRAIN)
    verdict = may_serve(peer, force=False, resume=False)
    assert verdict.allowed is not forbidden
    assert bool(verdict.reason) is forbidden
    assert may_serve(peer, force=True, resume=False).allowed
    assert may_serve(peer, force=False, resume=True).allowed
