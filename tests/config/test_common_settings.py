"""Which settings of a resource both nodes must have alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hast.config.common_settings import differing, digests
from hast.config.model import Arbiter, ArbiterKind, Replication, Resource, SplitBrainPolicy, Tls

HERE = Resource("disk1", "disk1", "/dev/sdb", ("10.0.0.2",), arbiter=Arbiter(ArbiterKind.WITNESS, ("10.0.0.9",)))


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (replace(HERE, local="/dev/sdc", remotes=("10.0.0.1",), timeout_s=3, fence_path="/bin/fence"), []),
        (replace(HERE, replication=Replication.ASYNC), ["replication"]),
        (replace(HERE, provider_name="tank"), ["name"]),
        (replace(HERE, arbiter=Arbiter(ArbiterKind.WITNESS, ("10.0.0.8",))), ["arbiter"]),
        (replace(HERE, arbiter=Arbiter(ArbiterKind.WITNESS, ("10.0.0.9",), fingerprints=("ab",))), ["arbiter"]),
        (replace(HERE, split_brain_policy=SplitBrainPolicy.DISCARD_LEAST_CHANGES), ["split-brain"]),
        (replace(HERE, tls=Tls.OFF), ["tls"]),
    ],
)
def test_what_both_nodes_must_have_alike_is_compared_and_nothing_else(there: Resource, named: list[str]) -> None:
    assert differing(digests(HERE), digests(there)) == named


def test_hosts_may_ping_what_is_near_to_each() -> None:
    one, two = (replace(HERE, arbiter=Arbiter(ArbiterKind.PING, (target,))) for target in ("10.0.0.1", "10.0.0.2"))
    assert differing(digests(one), digests(two)) == []


def test_the_order_in_which_witnesses_are_tried_may_differ() -> None:
    one, two = (replace(HERE, arbiter=Arbiter(ArbiterKind.ETCD, targets)) for targets in (("a", "b"), ("b", "a")))
    assert differing(digests(one), digests(two)) == []


def test_what_another_release_knows_of_is_not_compared() -> None:
    assert differing({"replication": "1", "new": "2"}, {"replication": "1", "old": "3"}) == []
