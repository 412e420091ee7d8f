"""election/arbiter.py: the table of a witness and the tenure of a primary, alone and against each other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hast.election.arbiter import (
    LEASE_TTL_S,
    MAX_RESOURCES,
    STEP_DOWN_S,
    Lease,
    LeaseTable,
    Refused,
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
    assert lease(again.acquire("disk1", "b", 0, 3.0, 1003.1)).epoch == held.epoch + 1


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


def test_a_dead_arbiter_does_not_stop_a_connected_pair_or_a_primary_that_is_sole() -> None:
    mine = tenure()
    mine.peer(True, 1.0)
    assert mine.verdict(1e6) is Verdict.SERVE
    mine.peer(False, 1e6)
    assert mine.verdict(1e6) is Verdict.FREEZE
    assert mine.verdict(1e6 + STEP_DOWN_S) is Verdict.STEP_DOWN
    mine.recorded(True)
    assert mine.verdict(2e6) is Verdict.SERVE


def test_a_lease_that_another_took_ends_the_role() -> None:
    mine = tenure()
    mine.answered(Refused("b holds it", "b", 2), 1.0)
    assert mine.verdict(1.0) is Verdict.STEP_DOWN


STEP = st.tuples(
    st.sampled_from(["promote", "keep", "record", "clear", "cut arbiter", "mend arbiter", "crash", "write", "release"]),
    st.integers(0, 1),
    st.floats(0.0, 2.5),
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
