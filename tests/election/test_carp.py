"""election/carp.py: one to three hosts on a simulated segment."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment import KEY, Host, Segment

from hast.election.carp import Vhid
from hast.election.carp_types import TABLE, Input, State
from hast.election.demotion import CopyState, DataReport, judge, unheard
from hast.election.signing import OVERLAP_S
from hast.format.carp import Advertisement, Authenticator, encode

GOOD = judge([("disk1", CopyState.COMPLETE)])
LONE = judge([("disk1", CopyState.DISCONNECTED)])
BAD = judge([("disk1", CopyState.INCONSISTENT)])
UNKNOWN = judge([("disk1", CopyState.UNKNOWN)])


def pair(**second: object) -> tuple[Segment, Host, Host]:
    """hst1 master with skew 0, hst2 backup with skew 100."""
    segment = Segment()
    one, two = segment.add(), segment.add(100)
    segment.run(10)
    assert segment.masters() == [one]
    return segment, one, two


def test_every_step_of_the_table_exists_and_init_hears_nothing() -> None:
    for (state, what), step in TABLE.items():
        assert callable(getattr(Vhid, step)), (state, what)
    assert {what for state, what in TABLE if state is State.INIT} == {Input.LINK_UP}
    for state in (State.BACKUP, State.MASTER):
        assert {what for s, what in TABLE if s is state} == set(Input) - {Input.LINK_UP}


def test_a_lone_host_becomes_master_after_a_whole_master_down_time() -> None:
    segment = Segment()
    host = segment.add(128)
    segment.run(3.4)
    assert host.state is State.BACKUP
    segment.run(0.2)
    assert host.state is State.MASTER
    texts = [text for _at, text in host.log]
    at = texts.index("MASTER")
    assert texts[at + 2 : at + 5] == ["advertise 1 128", "address True", "announce"]


def test_of_two_starting_hosts_the_smaller_skew_becomes_master_and_the_other_never_is() -> None:
    _segment, one, two = pair()
    assert one.count("MASTER") == 1
    assert two.count("MASTER") == 0


def test_two_equal_hosts_starting_at_once_settle_on_one() -> None:
    segment = Segment()
    one, two = segment.add(), segment.add()
    segment.run(3.5)
    assert len(segment.masters()) == 1
    assert one.has_address + two.has_address == 1


def test_a_dead_master_is_replaced_within_four_seconds() -> None:
    segment, one, two = pair()
    one.kill()
    segment.run(4.0)
    assert two.state is State.MASTER


def test_a_returning_host_with_equal_skew_does_not_take_over() -> None:
    segment = Segment()
    one, two = segment.add(), segment.add()
    segment.run(10)
    master = segment.masters()[0]
    other = two if master is one else one
    for _ in range(10):
        other.kill()
        segment.run(5)
        other.boot()
        segment.run(5)
        assert segment.masters() == [master]
    assert other.count("MASTER") <= 1
    assert master.count("BACKUP") == 1


def test_a_returning_better_host_takes_over_only_with_preempt() -> None:
    for preempt in (False, True):
        segment = Segment()
        one, two = segment.add(0, preempt), segment.add(100)
        segment.run(10)
        one.kill()
        segment.run(5)
        one.boot()
        started = segment.now
        segment.run(2.9)
        assert segment.masters() == [two]
        segment.run(3)
        assert segment.masters() == [one if preempt else two]
        if preempt:
            at = next(at for at, text in one.log if text == "MASTER" and at > started)
            assert at - started >= 3.0


def test_losing_the_link_gives_init_and_coming_back_does_not_take_over() -> None:
    segment, one, two = pair()
    one.link(False)
    segment.part[1] = 1
    assert one.state is State.INIT
    assert not one.has_address
    segment.run(4)
    assert segment.masters() == [two]
    segment.part[1] = 0
    one.link(True)
    segment.run(10)
    assert segment.masters() == [two]


def test_two_masters_of_a_healed_partition_become_one_that_announces_again() -> None:
    segment, one, two = pair()
    segment.part[2] = 1
    segment.run(10)
    assert segment.masters() == [one, two]
    healed = segment.now
    segment.part[2] = 0
    segment.run(1.1)
    assert segment.masters() == [one]
    assert one.count("announce", healed) >= 1
    segment.run(5)
    assert one.count("announce", healed) >= 2
    assert one.count("announce", healed) <= 5
    assert two.vhid.counts.replayed == 0
    assert one.vhid.counts.replayed == 0


def test_equal_masters_of_a_healed_partition_never_both_yield() -> None:
    segment = Segment()
    one, two = segment.add(), segment.add()
    segment.part[2] = 1
    segment.run(10)
    assert segment.masters() == [one, two]
    segment.part[2] = 0
    for _ in range(40):
        segment.run(0.05)
        assert segment.masters()
    assert segment.masters() == [one]


def test_an_orderly_stop_hands_over_at_once_after_the_address_is_gone() -> None:
    segment, one, two = pair()
    one.stop()
    segment.run(0.3)
    assert two.state is State.MASTER
    texts = [text for _at, text in one.log]
    assert texts[-1] == "advertise 255 255"
    assert texts.index("address False") < texts.index("advertise 255 255")


def test_stopping_a_backup_says_nothing() -> None:
    _segment, _one, two = pair()
    before = len(two.log)
    two.stop()
    assert [text for _at, text in two.log[before:]] == ["INIT", "INIT: carpd stops"]


# Demotion


def test_a_demoted_master_gives_way_without_preempt_and_without_a_gap() -> None:
    segment, one, two = pair()
    one.demote(240)
    segment.run(0.3)
    assert segment.masters() == [two]
    one.demote(0)
    segment.run(10)
    assert segment.masters() == [two]


def test_a_demoted_master_that_is_alone_stays_master() -> None:
    segment = Segment()
    one = segment.add()
    segment.run(5)
    one.demote(240)
    segment.run(10)
    assert one.count("BACKUP") == 1
    assert one.state is State.MASTER


def test_three_failed_sends_demote_the_host_and_three_good_ones_end_it() -> None:
    segment, one, _two = pair()
    segment.part[2] = 1
    one.sends_fail = True
    segment.run(2.5)
    assert one.demotion.total == 0
    segment.run(1)
    assert one.demotion.total == 240
    one.sends_fail = False
    segment.run(3.5)
    assert one.demotion.total == 240
    segment.run(1.5)
    assert one.demotion.total == 0


def test_a_host_that_does_not_know_its_data_waits_then_takes_over_as_demoted() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True)
    segment.run(29.9)
    assert one.state is State.BACKUP
    assert "not known" in one.vhid.waiting_for
    segment.run(0.2)
    assert one.state is State.MASTER
    assert one.vhid.skew == 240


def test_a_report_ends_the_wait_at_once() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True)
    segment.run(10)
    assert one.state is State.BACKUP
    one.report(GOOD)
    assert one.state is State.MASTER


def test_a_copy_that_cannot_be_served_is_not_master_even_alone_but_by_hand() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True, data=BAD)
    segment.run(60)
    assert one.state is State.BACKUP
    assert "inconsistent" in one.vhid.waiting_for
    assert one.count(f"no master is heard, but {one.vhid.waiting_for}") == 1
    assert one.order(State.MASTER) is None
    assert one.state is State.MASTER


def test_a_copy_that_becomes_good_again_is_logged_once() -> None:
    _segment, one, _two = pair()
    for report in (BAD, GOOD, GOOD, LONE):
        one.report(report)
    notes = [text for _at, text in one.log if text.startswith("data: ")]
    assert notes == ["data: disk1 inconsistent; demotion 240", "data: good", "data: disk1 disconnected; demotion 120"]


def test_a_stale_connected_copy_keeps_the_address_or_loses_it_by_its_advskew() -> None:
    stale = judge([("disk1", CopyState.STALE)])
    for skews, moves in (((0, 100), False), ((39, 100), False), ((40, 100), True), ((100, 0), True)):
        segment = Segment()
        master, other = (segment.add(skew, False, True, GOOD) for skew in skews)
        other.kill()
        segment.run(5)
        other.boot()
        segment.run(5)
        assert segment.masters() == [master]
        master.report(stale)
        segment.run(10)
        assert segment.masters() == [other if moves else master], skews


def test_a_copy_that_becomes_good_takes_over_from_nobody_at_once() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True, data=BAD)
    segment.run(20)
    one.report(GOOD)
    assert one.state is State.MASTER


def test_a_disconnected_copy_does_not_preempt_a_better_one_but_wins_alone() -> None:
    segment = Segment()
    one, two = segment.add(0, True, True, LONE), segment.add(200, False, True, GOOD)
    one.kill()
    segment.run(5)
    assert segment.masters() == [two]
    one.boot()
    segment.run(20)
    assert segment.masters() == [two]
    two.kill()
    segment.run(4)
    assert segment.masters() == [one]


def test_a_master_without_hastd_gives_way_to_the_lone_good_copy() -> None:
    segment = Segment()
    one, two = segment.add(0, False, True, GOOD), segment.add(100, False, True, LONE)
    segment.run(10)
    assert segment.masters() == [one]
    one.report(UNKNOWN)
    segment.run(0.5)
    assert segment.masters() == [two]


def test_a_master_without_hastd_does_not_give_way_to_a_useless_copy() -> None:
    segment = Segment()
    one, two = segment.add(0, True, True, GOOD), segment.add(0, True, True, BAD)
    segment.run(10)
    one.report(UNKNOWN)
    segment.run(10)
    assert segment.masters() == [one]
    assert two.count("MASTER") == 0


def test_the_worst_resource_decides() -> None:
    report = judge([("disk1", CopyState.COMPLETE), ("disk2", CopyState.OUTDATED), ("disk3", CopyState.STALE)])
    assert report == DataReport(240, False, False, "disk2 outdated, disk3 stale")
    assert judge([]) == DataReport()


def test_of_two_booting_hosts_the_last_primary_wins_and_one_that_is_refused_gives_way() -> None:
    idle, last = judge([("disk1", CopyState.IDLE)]), judge([("disk1", CopyState.LAST_PRIMARY)])
    segment = Segment()
    one, two = segment.add(0, True, True, idle), segment.add(100, False, True, last)
    segment.run(10)
    assert segment.masters() == [two]
    assert one.count("MASTER") == 0
    segment = Segment()
    one, two = segment.add(0, True, True, last), segment.add(100, False, True, last)
    segment.run(10)
    assert segment.masters() == [one]
    one.report(judge([("disk1", CopyState.REFUSED)]))
    segment.run(1)
    assert segment.masters() == [two]


def test_a_last_primary_that_returns_does_not_preempt_the_new_one() -> None:
    segment = Segment()
    one, two = segment.add(0, True, True, GOOD), segment.add(100, True, True, GOOD)
    segment.run(10)
    one.kill()
    segment.run(5)
    assert segment.masters() == [two]
    one.data = judge([("disk1", CopyState.LAST_PRIMARY)])
    one.boot()
    segment.run(20)
    assert segment.masters() == [two]
    one.report(GOOD)
    segment.run(2)
    assert segment.masters() == [one]


# By hand


def test_backup_by_hand_hands_over_at_once_and_stays_so_in_spite_of_preempt() -> None:
    segment = Segment()
    one, two = segment.add(0, True), segment.add(100)
    segment.run(10)
    assert one.order(State.BACKUP) is None
    segment.run(0.2)
    assert segment.masters() == [two]
    segment.run(20)
    assert segment.masters() == [two]
    one.order(None)
    segment.run(2)
    assert segment.masters() == [one]


@pytest.mark.parametrize("order", [State.MASTER, State.BACKUP, None])
def test_a_plan_of_an_order_by_hand_changes_nothing_and_tells_what_the_order_brings(order: State | None) -> None:
    segment, one, two = pair()
    before = [(len(host.log), host.vhid.ordered) for host in (one, two)]
    moved = {State.MASTER: two, State.BACKUP: one}.get(order)
    for host in (one, two):
        told = host.vhid.foresee(order)
        assert told
        assert any("virtual addresses" in step for step in told) is (host is moved)
    assert [(len(host.log), host.vhid.ordered) for host in (one, two)] == before
    if moved is not None:
        moved.order(order)
        segment.run(5)
        assert segment.masters() == [two]


@pytest.mark.parametrize("preempt", [False, True])
def test_master_by_hand_deposes_the_better_master_and_stays(preempt: bool) -> None:
    segment = Segment()
    one, two = segment.add(0, preempt), segment.add(100)
    segment.run(10)
    two.order(State.MASTER)
    segment.run(0.1)
    assert segment.masters() == [two]
    segment.run(20)
    assert segment.masters() == [two]
    one.order(State.MASTER)
    segment.run(0.1)
    assert segment.masters() == [one]
    segment.run(20)
    assert segment.masters() == [one]


def test_nothing_can_be_ordered_without_a_link() -> None:
    _segment, one, _two = pair()
    one.link(False)
    assert "no link" in (one.order(State.MASTER) or "")


# Bad advertisements


def test_a_wrong_password_is_counted_and_ignored() -> None:
    segment, one, two = pair()
    wrong = Authenticator(b"guess", 1, [IPv4Address("10.10.10.180")])
    for counter in range(20):
        segment.inject(one, encode(Advertisement(1, 0, 0, counter), wrong))
        segment.inject(two, encode(Advertisement(1, 0, 0, counter), wrong))
    assert one.state is State.MASTER
    assert one.vhid.counts.bad_auth == two.vhid.counts.bad_auth == 20
    assert len([1 for _at, text in one.log if "wrong HMAC" in text]) == 5


def test_replayed_advertisements_do_not_keep_a_dead_master_alive() -> None:
    segment, one, two = pair()
    recorded = list(segment.recorded)
    one.kill()
    for packet in recorded * 2:
        segment.run(0.3)
        segment.inject(two, packet)
        if two.state is State.MASTER:
            break
    assert two.state is State.MASTER
    assert two.vhid.counts.replayed >= 4


def test_own_advertisements_reflected_with_another_skew_do_not_depose_the_master() -> None:
    segment, one, _two = pair()
    for packet in segment.recorded:
        altered = bytearray(packet)
        altered[5] = 0
        altered[6:8] = b"\0\0"
        from hast.format.carp import internet_checksum

        altered[6:8] = internet_checksum(bytes(altered)).to_bytes(2, "big")
        segment.inject(one, bytes(altered))
    assert one.state is State.MASTER
    assert one.vhid.counts.replayed == len(segment.recorded)


def test_a_master_that_restarts_with_a_clock_set_back_is_followed_again() -> None:
    segment, one, two = pair()
    one.kill()
    segment.run(2.5)
    low = 5_000_000
    for step in range(5):
        segment.inject(two, encode(Advertisement(1, 0, 1, low + step), KEY), "10.10.10.181")
        segment.run(1)
    assert two.state is State.BACKUP
    assert two.vhid.guard.resyncs == 1


def test_a_peer_with_random_counters_is_followed() -> None:
    segment = Segment(3)
    two = segment.add(100)
    segment.run(1)
    for _ in range(20):
        segment.inject(two, encode(Advertisement(1, 0, 1, segment.random.getrandbits(64)), KEY))
        segment.run(1)
    assert two.state is State.BACKUP
    assert two.vhid.counts.replayed == 0


def test_counters_only_move_forward_also_across_a_restart() -> None:
    segment, one, _two = pair()
    before = int.from_bytes(segment.recorded[-1][8:16], "big")
    one.kill()
    segment.run(5)
    segment.hosts[1].kill()
    one.boot()
    segment.run(5)
    assert int.from_bytes(segment.recorded[-1][8:16], "big") > before


OTHER = Authenticator(b"changed", 1, [IPv4Address("10.10.10.200")])


@pytest.mark.parametrize("first", ["master", "backup"])
@pytest.mark.parametrize("pause_s", [0.0, 30.0, OVERLAP_S - 5])
def test_another_signature_given_to_one_host_after_the_other_moves_nothing(first: str, pause_s: float) -> None:
    segment, one, two = pair()
    for host in (one, two) if first == "master" else (two, one):
        host.sign(OTHER)
        segment.run(pause_s)
    segment.run(2 * OVERLAP_S)
    assert segment.masters() == [one]
    assert two.count("MASTER") == 0
    assert [host.vhid.counts.replayed for host in (one, two)] == [0, 0]
    before = two.vhid.counts.bad_auth
    segment.run(10)
    assert two.vhid.counts.bad_auth == before, "the former signature is no longer sent"


def test_the_former_signature_ends_with_its_time() -> None:
    segment, one, two = pair()
    one.sign(OTHER)
    segment.run(OVERLAP_S - 1)
    assert segment.masters() == [one]
    segment.run(10)
    assert segment.masters() == [one, two]
    two.sign(OTHER)
    segment.run(5)
    assert len(segment.masters()) == 1


def test_a_host_that_boots_with_the_new_signature_meets_one_that_was_reloaded() -> None:
    segment, one, two = pair()
    one.sign(OTHER)
    two.kill()
    two.key = OTHER
    segment.run(5)
    two.boot()
    segment.run(10)
    assert (segment.masters(), two.count("MASTER")) == ([one], 0)


# Three hosts, and anything that can happen

GROUND = st.lists(
    st.tuples(
        st.sampled_from(
            ["kill", "boot", "cut", "heal", "down", "up", "demote", "undemote", "backup", "master", "auto"]
        ),
        st.integers(0, 2),
        st.floats(0.0, 6.0),
    ),
    max_size=14,
)


@settings(max_examples=120, deadline=None)
@given(
    story=GROUND,
    skews=st.lists(st.sampled_from([0, 0, 50, 100, 239]), min_size=2, max_size=3),
    preempt=st.booleans(),
    loss=st.sampled_from([0.0, 0.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_after_anything_a_connected_segment_settles_on_exactly_one_master(
    story: list[tuple[str, int, float]], skews: list[int], preempt: bool, loss: float, seed: int
) -> None:
    segment = Segment(seed)
    for skew in skews:
        segment.add(skew, preempt)
    segment.loss = loss
    for what, index, pause in story:
        host = segment.hosts[index % len(segment.hosts)]
        if what == "boot" and not host.alive:
            host.boot()
        elif what == "cut":
            segment.part[host.number] = host.number
        elif what == "heal":
            segment.part[host.number] = 0
        elif host.alive:
            act(host, what)
        segment.run(pause)
    segment.loss = 0.0
    segment.part = {host.number: 0 for host in segment.hosts}
    for host in segment.hosts:
        if not host.alive:
            host.boot()
        elif host.state is State.INIT:
            host.link(True)
    segment.run(15)
    for _ in range(20):
        segment.run(0.5)
        assert len(segment.masters()) == 1, [(h.number, h.state, h.log[-8:]) for h in segment.hosts]
        assert [host.has_address for host in segment.hosts].count(True) == 1
    for host in segment.hosts:
        assert host.vhid.counts.bad_auth == 0


def act(host: Host, what: str) -> None:
    match what:
        case "kill":
            host.kill()
        case "down":
            host.link(False)
        case "up":
            host.link(True)
        case "demote":
            host.demote(240)
        case "undemote":
            host.demote(0)
        case "backup":
            host.order(State.BACKUP)
        case "master":
            host.order(State.MASTER)
        case "auto":
            host.order(None)


@settings(max_examples=60, deadline=None)
@given(story=st.lists(st.tuples(st.booleans(), st.floats(0.1, 8.0)), max_size=12), seed=st.integers(0, 1000))
def test_a_host_that_boots_beside_a_living_master_is_never_master(story: list[tuple[bool, float]], seed: int) -> None:
    segment = Segment(seed)
    one, two = segment.add(100), segment.add(0)
    two.kill()
    segment.run(5)
    assert segment.masters() == [one]
    for boot, pause in story:
        if boot and not two.alive:
            two.boot()
        elif not boot:
            two.kill()
        segment.run(pause)
        assert segment.masters() == [one]


def test_a_master_that_leaves_gives_the_address_at_once_and_takes_it_from_nobody_meanwhile() -> None:
    segment, one, two = pair()
    one.leave(30)
    segment.run(0.5)
    assert segment.masters() == [two]
    two.kill()
    segment.run(4)
    assert segment.masters() == [one], "another had it, and is gone"
    one.leave(30)
    segment.run(29)
    assert segment.masters() == []
    assert one.vhid.waiting_for == "this host leaves"
    segment.run(5)
    assert segment.masters() == [one]


def test_a_host_that_left_does_not_take_the_address_back_by_preempt_and_is_there_for_a_hand_over() -> None:
    segment = Segment()
    one, two = segment.add(preempt=True), segment.add(100, preempt=True)
    segment.run(10)
    one.leave(20)
    segment.run(10)
    assert segment.masters() == [two]
    two.leave(20)
    segment.run(0.5)
    assert segment.masters() == [one]


def test_a_host_that_leaves_does_not_take_the_address_from_a_master_that_is_demoted() -> None:
    segment, one, two = pair()
    two.leave(20)
    one.demote(240)
    segment.run(5)
    assert segment.masters() == [one]


def test_a_host_that_stays_after_all_takes_an_address_that_nobody_has_at_once() -> None:
    segment, one, two = pair()
    two.kill()
    one.leave(30)
    segment.run(6)
    assert segment.masters() == []
    one.leave(0)
    segment.run(0.1)
    assert segment.masters() == [one]


def test_leaving_ends_with_its_time_and_leaves_nothing_by_hand() -> None:
    segment, one, two = pair()
    one.leave(5)
    segment.run(6)
    assert (segment.masters(), one.vhid.ordered) == ([two], None)


@pytest.mark.parametrize("order", [State.MASTER, None])
def test_an_order_by_hand_ends_leaving(order: State | None) -> None:
    segment, one, two = pair()
    two.kill()
    one.leave(300)
    segment.run(1)
    assert one.order(order) is None
    segment.run(4)
    assert segment.masters() == [one]


@pytest.mark.parametrize(
    ("last", "alone", "expected"),
    [
        (CopyState.LEADING, False, CopyState.UNKNOWN),
        (CopyState.LEADING, True, CopyState.UNKNOWN_NEWEST),
        (CopyState.LAST_PRIMARY, False, CopyState.UNKNOWN_NEWEST),
        (CopyState.COMPLETE, False, CopyState.UNKNOWN),
        (CopyState.DISCONNECTED, False, CopyState.UNKNOWN),
        (CopyState.INCONSISTENT, False, CopyState.UNKNOWN),
    ],
)
def test_a_host_whose_hastd_is_silent_does_not_offer_the_address_to_a_copy_that_lacked_what_it_had(
    last: CopyState, alone: bool, expected: CopyState
) -> None:
    assert unheard(last, alone) is expected
    assert judge([("disk1", expected)]).demotion == (0 if expected is CopyState.UNKNOWN_NEWEST else 240)
