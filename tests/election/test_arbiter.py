"""election/arbiter.py: the table of a witness and the tenure of a primary, alone and against each other."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.election.arbiter import (
    LEASE_TTL_S,
    MAX_RESOURCES,
    NOT_YET,
    STEP_DOWN_S,
    Lease,
    LeaseTable,
    Refused,
    Renewal,
    Tenure,
    Verdict,
)


def lease(answer: Lease | Refused) -> Lease:
    assert isinstance(answer, Lease), answer
    return answer


def refused(answer: Lease | Refused) -> str:
    assert isinstance(answer, Refused), answer
    return answer.reason


def test_one_node_at_a_time_holds_the_lease_and_epochs_only_grow() -> None:
    table = LeaseTable()
    first = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    assert "a holds the lease" in refused(table.acquire("disk1", "b", 0, 3.0, 2.9))
    second = lease(table.acquire("disk1", "b", 0, 3.0, 3.0))
    assert second.epoch == first.epoch + 1
    assert "over" in refused(table.keepalive("disk1", "a", first.epoch, 3.1))
    assert lease(table.acquire("disk1", "b", 41, 3.0, 3.2)).epoch == 42


def test_keepalive_prolongs_also_an_ended_lease_that_nobody_took() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    assert lease(table.keepalive("disk1", "a", held.epoch, 50.0)).until_s == 53.0
    refused(table.acquire("disk1", "b", 0, 3.0, 52.0))


def test_an_outdated_node_gets_no_lease_until_cleared_or_forced() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 1.0))
    assert table.is_outdated("disk1", "b")
    assert not table.is_outdated("disk1", "a")
    assert "outdated" in refused(table.acquire("disk1", "b", 0, 3.0, 100.0))
    held = lease(table.acquire("disk1", "a", 0, 3.0, 100.0))
    lease(table.clear_outdated("disk1", "a", held.epoch, 101.0))
    table.release("disk1", "a", held.epoch)
    held = lease(table.acquire("disk1", "b", 0, 3.0, 101.1))
    lease(table.record_outdated("disk1", "b", held.epoch, "a", 101.2))
    assert "outdated" in refused(table.acquire("disk1", "a", 0, 3.0, 200.0))
    lease(table.acquire("disk1", "a", 0, 3.0, 200.0, force=True))
    assert not table.is_outdated("disk1", "a")


def test_force_does_not_override_a_living_holder() -> None:
    table = LeaseTable()
    lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    assert "holds the lease" in refused(table.acquire("disk1", "b", 0, 3.0, 1.0, force=True))


def test_a_former_holder_cannot_record_anything() -> None:
    table = LeaseTable()
    old = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.acquire("disk1", "b", 0, 3.0, 10.0))
    assert "over" in refused(table.record_outdated("disk1", "a", old.epoch, "b", 10.1))
    assert not table.is_outdated("disk1", "b")
    table.release("disk1", "a", old.epoch)
    refused(table.acquire("disk1", "a", 0, 3.0, 10.2))


def test_only_the_holder_of_a_lease_ends_it_or_clears_the_record() -> None:
    """Whoever knows the holder's name and epoch is not the holder."""
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 1.0))
    assert not table.release("disk1", "b", held.epoch)
    assert "a holds it" in refused(table.clear_outdated("disk1", "b", held.epoch, 1.0))
    assert table.is_outdated("disk1", "b")
    assert "a holds the lease" in refused(table.acquire("disk1", "b", 0, 3.0, 1.0))
    assert table.release("disk1", "a", held.epoch)


def test_a_change_is_known_by_its_resource_and_what_changes_nothing_is_none() -> None:
    table = LeaseTable()
    one = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.acquire("disk2", "a", 0, 3.0, 0.0))
    lease(table.keepalive("disk1", "a", one.epoch, 1.0))
    refused(table.acquire("disk1", "b", 0, 3.0, 1.0))
    assert (table.change_of("disk1"), table.change_of("disk2"), table.change_of("disk3"), table.changes) == (1, 2, 0, 2)
    table.release("disk1", "a", one.epoch)
    assert table.change_of("disk1") == 3


def test_a_record_goes_on_under_another_name() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 1.0))
    table.rename("disk1", "office disk1")
    assert table.is_outdated("office disk1", "b")
    assert not table.is_outdated("disk1", "b")
    assert table.change_of("office disk1") == table.changes == 3


def test_a_restarted_witness_keeps_every_record_and_lets_every_lease_last_its_whole_time() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 1.0))
    assert table.changes == 2
    again = LeaseTable.from_json(table.to_json(), 1000.0)
    refused(again.acquire("disk1", "b", 0, 3.0, 1002.9))
    assert again.is_outdated("disk1", "b")
    assert lease(again.keepalive("disk1", "a", held.epoch, 1001.0)).epoch == held.epoch


def test_a_restarted_witness_refuses_another_node_for_the_lease_alone() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    again = LeaseTable.from_json(table.to_json(), 1000.0)
    assert refused(again.acquire("disk1", "b", 0, 3.0, 1002.9)) == "a holds the lease"
    assert lease(again.acquire("disk1", "b", 0, 3.0, 1003.1)).epoch > held.epoch


def test_the_table_is_bounded() -> None:
    table = LeaseTable()
    for number in range(MAX_RESOURCES):
        lease(table.acquire(f"r{number}", "a", 0, 3.0, 0.0))
    assert "already" in refused(table.acquire("one more", "a", 0, 3.0, 0.0))


def tenure() -> Tenure:
    return Tenure(Lease("disk1", "a", 1, 3.0, 3.0), 0.0)


def test_a_primary_alone_serves_as_long_as_its_lease_then_freezes_then_steps_down() -> None:
    mine = tenure()
    assert mine.verdict(2.9) is Verdict.SERVE
    assert mine.verdict(3.0) is Verdict.FREEZE
    assert mine.verdict(3.0 + STEP_DOWN_S) is Verdict.STEP_DOWN
    mine.answered(Lease("disk1", "a", 1, 3.0, 8.0), 5.0)
    assert mine.verdict(7.9) is Verdict.SERVE


def test_a_dead_arbiter_does_not_stop_a_connected_pair() -> None:
    mine = tenure()
    mine.peer(True, 1.0)
    assert mine.verdict(1e6) is Verdict.SERVE
    mine.peer(False, 1e6)
    assert mine.verdict(1e6) is Verdict.FREEZE
    assert mine.verdict(1e6 + STEP_DOWN_S) is Verdict.STEP_DOWN


def test_the_only_good_copy_holds_writes_while_neither_arbiter_nor_peer_is_heard_and_keeps_the_role() -> None:
    """An arbiter that forgot what it recorded may have let the other serve. Who gives the role up is told so."""
    mine = tenure()
    mine.recorded(True)
    assert mine.verdict(2.6) is Verdict.SERVE
    assert mine.verdict(2.7) is mine.verdict(1e6) is Verdict.FREEZE  # before the lease ends: it takes time to tell
    mine.answered(Lease("disk1", "a", 1, 3.0, 1e6 + 3.0), 1e6)
    assert mine.verdict(1e6) is Verdict.SERVE
    mine.answered(Refused("b holds it", "b", 2), 1e6 + 1.0)
    assert mine.verdict(1e6 + 1.0) is Verdict.STEP_DOWN


def test_a_peer_that_is_fenced_now_lets_the_only_good_copy_go_on() -> None:
    mine = tenure()
    assert not mine.wants_fence(3.0)
    mine.recorded(True)
    assert not mine.wants_fence(2.6)
    assert mine.wants_fence(2.7)
    mine.fence_asked()
    assert not mine.wants_fence(4.0)
    assert mine.verdict(4.0) is Verdict.FREEZE
    mine.fence_confirmed()
    assert mine.verdict(1e6) is Verdict.SERVE
    mine.answered(Lease("disk1", "a", 1, 3.0, 1e6 + 3.0), 1e6)
    assert mine.wants_fence(1e6 + 3.0)  # the peer may have been switched on again since
    assert mine.verdict(1e6 + 3.0) is Verdict.FREEZE


def test_a_fence_that_confirms_a_peer_that_came_back_meanwhile_counts_for_nothing() -> None:
    mine = tenure()
    mine.recorded(True)
    mine.fence_asked()
    mine.peer(True, 4.0)
    mine.fence_confirmed()
    mine.peer(False, 5.0)
    assert mine.verdict(5.0) is Verdict.FREEZE
    assert mine.wants_fence(5.0)


def test_with_a_new_lease_the_only_good_copy_waits_until_that_is_recorded_again() -> None:
    """Found by the simulator: the arbiter had forgotten, and would have let the other serve after this lease."""
    mine = tenure()
    mine.recorded(True)
    assert mine.renewal(2.9) is Renewal.RECORD
    assert mine.renewal(3.0) is Renewal.ACQUIRE
    mine.answered(Lease("disk1", "a", 9, 3.0, 9.0), 6.0)
    assert mine.verdict(6.0) is Verdict.FREEZE
    assert mine.keepalive_s == 6.0
    assert mine.renewal(6.0) is Renewal.RECORD
    mine.answered(Lease("disk1", "a", 9, 3.0, 9.1), 6.1)
    assert mine.verdict(6.1) is Verdict.SERVE


def test_what_a_witness_that_has_just_started_does_not_know_costs_no_role() -> None:
    mine = tenure()
    mine.answered(Refused(NOT_YET), 4.0)
    assert mine.verdict(4.0) is Verdict.FREEZE


def test_by_hand_a_primary_serves_until_the_arbiter_says_who_has_the_lease() -> None:
    mine = Tenure(Lease("disk1", "a", 1, 3.0, 0.0), 0.0, by_hand=True)
    assert mine.verdict(1e6) is Verdict.SERVE
    mine.answered(Lease("disk1", "a", 2, 3.0, 1e6 + 3.0), 1e6)
    assert mine.verdict(1e6 + 3.0) is Verdict.FREEZE


def restored(backup: dict[str, Any], now: float) -> LeaseTable:
    return LeaseTable.from_json(backup, now, int(now * 100))


def test_a_witness_from_a_backup_lets_nobody_in_before_all_who_serve_by_what_it_forgot_have_stopped() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "b", 0, 3.0, 0.0))
    table.release("disk1", "b", held.epoch)
    backup = table.to_json()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 10.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 10.0))
    again = restored(backup, 10.5)
    for resource in ("disk1", "made later"):
        assert "holds the lease" in refused(again.acquire(resource, "b", 0, 3.0, 13.4))
    taken = lease(again.acquire("disk1", "b", 0, 3.0, 13.6))
    assert taken.epoch > held.epoch  # no epoch twice
    assert "b holds it" in refused(again.keepalive("disk1", "a", held.epoch, 14.0))


def test_a_witness_from_a_backup_learns_from_who_serves_what_it_forgot() -> None:
    table = LeaseTable()
    held = lease(table.acquire("disk1", "b", 0, 3.0, 0.0))
    lease(table.record_outdated("disk1", "b", held.epoch, "a", 0.0))
    backup = table.to_json()
    lease(table.clear_outdated("disk1", "b", held.epoch, 1.0))
    table.release("disk1", "b", held.epoch)
    held = lease(table.acquire("disk1", "a", 0, 3.0, 1.0))
    lease(table.record_outdated("disk1", "a", held.epoch, "b", 1.0))
    again = restored(backup, 10.0)
    assert lease(again.record_outdated("disk1", "a", held.epoch, "b", 11.0)).epoch == held.epoch
    assert "a holds the lease" in refused(again.acquire("disk1", "b", 0, 3.0, 13.5))
    assert "outdated" in refused(again.acquire("disk1", "b", 0, 3.0, 1000.0))


def test_later_than_at_its_start_a_witness_believes_no_greater_epoch() -> None:
    """Else whoever has a key would be the holder by saying a number."""
    table = LeaseTable()
    held = lease(table.acquire("disk1", "a", 0, 3.0, 0.0))
    refused(table.keepalive("disk1", "b", held.epoch + 9, 50.0))
    again = restored(table.to_json(), 100.0)
    refused(again.keepalive("disk1", "b", held.epoch + 9, 103.1))


def test_a_lease_that_another_took_ends_the_role() -> None:
    mine = tenure()
    mine.answered(Refused("b holds it", "b", 2), 1.0)
    assert mine.verdict(1.0) is Verdict.STEP_DOWN


STEP = st.tuples(
    st.sampled_from(["promote", "keep", "record", "clear", "cut arbiter", "mend arbiter", "crash", "write", "release"]),
    st.integers(0, 1),
    st.floats(0.0, 2.5),
)
FENCED = ("promote", "keep", "record", "cut arbiter", "mend arbiter", "crash", "write")
FORGETFUL = (
    "promote",
    "keep",
    "keep",
    "record",
    "cut arbiter",
    "mend arbiter",
    "write",
    "release",
    "back up",
    "restore",
)


@settings(max_examples=300, deadline=None)
@given(story=st.lists(STEP, max_size=40))
def test_two_nodes_without_a_link_never_both_acknowledge_writes_the_other_lacks(
    story: list[tuple[str, int, float]],
) -> None:
    """The link between the nodes is down all the time; whoever acknowledges a write must be the only one ever after."""
    table = LeaseTable()
    tenures: list[Tenure | None] = [None, None]
    reachable = [True, True]
    owner: int | None = None
    now = 0.0
    for what, index, pause in story:
        now += pause
        node, mine = "ab"[index], tenures[index]
        if what == "cut arbiter":
            reachable[index] = False
        elif what == "mend arbiter":
            reachable[index] = True
        elif what == "crash":
            tenures[index] = None
        elif what == "promote" and reachable[index]:
            answer = table.acquire("disk1", node, 0, LEASE_TTL_S, now + 0.01)
            tenures[index] = Tenure(answer, now) if isinstance(answer, Lease) else None
        elif mine is not None and reachable[index] and what in ("keep", "record"):
            epoch = mine.lease.epoch
            if what == "keep":
                mine.answered(table.keepalive("disk1", node, epoch, now), now)
            else:
                answer = table.record_outdated("disk1", node, epoch, "peer", now)
                mine.answered(answer, now)
                mine.recorded(isinstance(answer, Lease))
        elif mine is not None and what == "release" and reachable[index]:
            table.release("disk1", node, mine.lease.epoch)
            tenures[index] = None
        elif mine is not None and what == "write" and mine.sole and mine.verdict(now) is Verdict.SERVE:
            assert owner in (None, index), "both nodes acknowledged writes that the other lacks"
            owner = index


@pytest.mark.parametrize("seed", range(8))
def test_with_a_witness_that_is_restored_from_backups_nobody_acknowledges_alone_after_a_later_epoch_did(
    seed: int,
) -> None:
    """No link all the time. What was acknowledged before may be lost with the record of it; two never serve at once."""
    rng = random.Random(seed)
    for _ in range(500):
        _forgetful_story([(rng.choice(FORGETFUL), rng.randrange(2), rng.random() * 2.5) for _ in range(40)])


def _forgetful_story(story: list[tuple[str, int, float]]) -> None:
    table, backup = LeaseTable(), LeaseTable().to_json()
    tenures: list[Tenure | None] = [None, None]
    reachable = [True, True]
    latest = (0, -1)
    now = 0.0
    for what, index, pause in story:
        now += pause
        node, mine = "ab"[index], tenures[index]
        if what == "back up":
            backup = table.to_json()
        elif what == "restore":
            table = restored(backup, now)
        elif what in ("cut arbiter", "mend arbiter"):
            reachable[index] = what == "mend arbiter"
        elif what == "promote" and reachable[index] and mine is None:
            answer = table.acquire("disk1", node, 0, LEASE_TTL_S, now + 0.01)
            tenures[index] = Tenure(answer, now) if isinstance(answer, Lease) else None
        elif mine is not None and reachable[index] and what in ("keep", "record"):
            renewal = mine.renewal(now)
            if renewal is Renewal.ACQUIRE:
                answer = table.acquire("disk1", node, mine.lease.epoch, LEASE_TTL_S, now + 0.01)
            elif renewal is Renewal.RECORD or what == "record":
                answer = table.record_outdated("disk1", node, mine.lease.epoch, "peer", now + 0.01)
                mine.recorded(mine.sole or isinstance(answer, Lease))
            else:
                answer = table.keepalive("disk1", node, mine.lease.epoch, now + 0.01)
            if isinstance(answer, Lease):
                answer = Lease("disk1", node, answer.epoch, answer.ttl_s, now + answer.ttl_s)
            mine.answered(answer, now)
        elif mine is not None and what == "release" and reachable[index]:
            table.release("disk1", node, mine.lease.epoch)
            tenures[index] = None
        elif mine is not None and what == "write" and mine.sole and mine.verdict(now) is Verdict.SERVE:
            other, epoch = tenures[1 - index], mine.lease.epoch
            assert other is None or not (other.sole and other.verdict(now) is Verdict.SERVE), "two masters"
            assert latest[1] in (-1, index) or epoch >= latest[0], "a master of an earlier epoch"
            latest = (epoch, index)


@pytest.mark.parametrize("seed", range(4))
def test_a_witness_that_says_yes_to_everybody_makes_no_two_masters_where_a_fence_has_the_last_word(seed: int) -> None:
    """Each node hears what it wants to. Leave to go alone takes a fence that switched the other off, as in
    `Arbitration.outdate_peer`, and so does going on when the witness is silent."""
    rng = random.Random(seed)
    for _ in range(500):
        _fenced_story([(rng.choice(FENCED), rng.randrange(2), rng.random() * 2.5) for _ in range(40)])


def _fenced_story(story: list[tuple[str, int, float]]) -> None:
    tables = [LeaseTable(), LeaseTable()]
    tenures: list[Tenure | None] = [None, None]
    reachable = [True, True]
    now = 0.0
    for what, index, pause in story:
        now += pause
        node, mine = "ab"[index], tenures[index]
        if what in ("cut arbiter", "mend arbiter"):
            reachable[index] = what == "mend arbiter"
        elif what == "crash":
            tenures[index] = None
        elif what == "promote" and reachable[index]:
            tenures[index] = Tenure(lease(tables[index].acquire("disk1", node, 0, LEASE_TTL_S, now)), now)
        elif mine is not None and what == "record" and reachable[index]:
            mine.answered(tables[index].record_outdated("disk1", node, mine.lease.epoch, "", now), now)
            mine.recorded(True)
            tenures[1 - index] = None
        elif mine is not None and what == "keep":
            if reachable[index]:
                mine.answered(tables[index].keepalive("disk1", node, mine.lease.epoch, now), now)
            elif mine.wants_fence(now):
                mine.fence_asked()
                tenures[1 - index] = None
                mine.fence_confirmed()
        elif mine is not None and what == "write" and mine.sole and mine.verdict(now) is Verdict.SERVE:
            other = tenures[1 - index]
            assert other is None or not (other.sole and other.verdict(now) is Verdict.SERVE), "two masters"
