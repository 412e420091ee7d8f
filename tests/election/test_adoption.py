"""election/adoption.py, and carp.py with it: carpd starts where roles are held already."""

from __future__ import annotations

import itertools
import random

import pytest
from segment import Host, Segment

from hast.election.adoption import Claim, Service, Start, at_start, claim
from hast.election.carp_types import State
from hast.election.demotion import CopyState, DataReport, judge

HERE, ALONE, THERE, NOT_KNOWN = Service.HERE, Service.HERE_ALONE, Service.THERE, Service.NOT_KNOWN
SERVES = judge([("disk1", CopyState.LEADING)], [HERE])
SERVES_ALONE = judge([("disk1", CopyState.LEADING)], [ALONE])
FOLLOWS = judge([("disk1", CopyState.COMPLETE)], [THERE])
LONE = judge([("disk1", CopyState.DISCONNECTED)], [NOT_KNOWN])
IDLE = judge([("disk1", CopyState.IDLE)], [NOT_KNOWN])
GOOD = judge([("disk1", CopyState.COMPLETE)])


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([], Claim.NONE),
        ([HERE], Claim.SERVES),
        ([HERE, HERE], Claim.SERVES),
        ([ALONE], Claim.MAY_SERVE),
        ([HERE, ALONE], Claim.MAY_SERVE),
        ([HERE, NOT_KNOWN], Claim.MAY_SERVE),
        ([HERE, THERE], Claim.MAY_SERVE),
        ([ALONE, THERE], Claim.MAY_SERVE),
        ([THERE], Claim.FOLLOWS),
        ([THERE, NOT_KNOWN], Claim.FOLLOWS),
        ([NOT_KNOWN], Claim.NONE),
    ],
)
def test_all_resources_of_an_address_make_one_claim(services: list[Service], expected: Claim) -> None:
    assert claim(services) is expected


START: list[tuple[Claim, bool, bool, bool, bool, Start]] = [
    # claim, link, other heard, backup by hand, was master
    *((each, *rest, Start.SETTLE) for each in (Claim.NONE, Claim.FOLLOWS)
      for rest in itertools.product((False, True), repeat=4)),
    *((each, False, False, False, False, Start.KEEP) for each in (Claim.SERVES, Claim.MAY_SERVE)),
    *((each, False, False, False, True, Start.SETTLE) for each in (Claim.SERVES, Claim.MAY_SERVE)),
    (Claim.SERVES, True, False, False, False, Start.ADOPT),
    (Claim.SERVES, True, True, False, False, Start.ADOPT),
    (Claim.SERVES, True, True, False, True, Start.ADOPT),
    (Claim.SERVES, True, False, True, False, Start.SETTLE),
    (Claim.MAY_SERVE, True, False, False, False, Start.KEEP),
    (Claim.MAY_SERVE, True, True, False, False, Start.SETTLE),
    (Claim.MAY_SERVE, True, False, True, False, Start.SETTLE),
]  # fmt: skip


@pytest.mark.parametrize(("mine", "link", "heard", "hand", "was_master", "expected"), START)
def test_what_becomes_of_a_state_that_nobody_acts_on_yet(
    mine: Claim, link: bool, heard: bool, hand: bool, was_master: bool, expected: Start
) -> None:
    assert at_start(mine, link, heard, hand, was_master)[0] is expected


def pair(first: DataReport, second: DataReport, skews: tuple[int, int] = (0, 100)) -> tuple[Segment, Host, Host]:
    """Two hosts whose carpd has been started and does not know its data yet."""
    segment = Segment()
    one, two = (segment.add(skew, data_required=True) for skew in skews)
    one.data, two.data = first, second
    return segment, one, two


@pytest.mark.parametrize("skews", [(0, 100), (100, 0)])
def test_carpds_started_at_once_on_a_serving_pair_change_no_role(skews: tuple[int, int]) -> None:
    segment, one, two = pair(SERVES, FOLLOWS, skews)
    two.report(FOLLOWS)
    segment.run(0.05)
    one.report(SERVES)
    assert one.state is State.MASTER
    segment.run(20)
    assert segment.masters() == [one]
    assert (one.told, two.told) == ([State.MASTER], [State.BACKUP])


@pytest.mark.parametrize("seed", range(30))
def test_any_order_and_any_delay_changes_no_role_of_a_serving_pair(seed: int) -> None:
    dice = random.Random(seed)
    segment = Segment(seed)
    hosts = [segment.add(dice.choice((0, 100)), data_required=True) for _ in range(2)]
    answers = dict(zip(hosts, (SERVES, FOLLOWS), strict=True))
    for host in hosts:
        host.kill()
    moments = [(dice.uniform(0, 6), number, what) for number in (1, 2) for what in ("carpd", "hastd")]
    for at, number, what in sorted(moments):
        segment.run(1000 + at - segment.now)
        host = hosts[number - 1]
        if what == "carpd":
            host.boot()
        elif host.alive:
            host.report(answers[host])
        else:
            host.data = answers[host]
    segment.run(10)
    assert segment.masters() == [hosts[0]]
    assert (hosts[0].told, hosts[1].told) == ([State.MASTER], [State.BACKUP])
    assert hosts[1].count("MASTER") == 0


def test_the_host_whose_peer_serves_waits_for_the_peers_carpd_as_long_as_it_takes() -> None:
    segment, one, two = pair(SERVES, FOLLOWS, (100, 0))
    one.kill()
    two.report(FOLLOWS)
    segment.run(120)
    assert two.state is State.BACKUP
    assert "the other host serves the data" in two.vhid.waiting_for
    one.boot()
    segment.run(10)
    assert segment.masters() == [one]
    assert two.told == [State.BACKUP]


def test_the_host_whose_peer_serves_takes_over_when_the_peer_dies_before_its_carpd_was_started() -> None:
    segment, one, two = pair(SERVES, FOLLOWS)
    one.kill()
    two.report(FOLLOWS)
    segment.run(20)
    two.report(LONE)
    assert two.state is State.MASTER


def test_a_host_that_serves_alone_keeps_its_roles_until_no_other_master_was_heard() -> None:
    segment = Segment()
    one = segment.add(100, data_required=True)
    one.report(SERVES_ALONE)
    segment.run(3.2)
    assert (one.state, one.told) == (State.BACKUP, [])
    segment.run(0.5)
    assert one.told == [State.MASTER]


def test_a_host_that_serves_alone_follows_a_master_that_it_hears() -> None:
    segment, one, two = pair(SERVES_ALONE, LONE)
    one.kill()
    two.report(LONE)
    segment.run(10)
    assert segment.masters() == [two]
    one.boot()
    segment.run(3)
    assert segment.masters() == [two]
    assert one.told == [State.BACKUP]


def test_a_carpd_that_was_restarted_on_a_serving_master_takes_the_address_back_at_once() -> None:
    segment, one, two = pair(SERVES, FOLLOWS)
    one.report(SERVES)
    two.report(FOLLOWS)
    segment.run(10)
    one.kill()
    segment.run(2)
    one.boot()
    segment.run(10)
    assert segment.masters() == [one]
    assert two.told == [State.BACKUP]
    one.kill()
    segment.run(3.6)
    assert segment.masters() == [two]
    one.boot()
    segment.run(0.1)
    assert segment.masters() == [one]


def test_a_master_made_by_hand_is_not_deposed_by_a_host_that_starts_and_serves() -> None:
    segment, one, two = pair(SERVES, FOLLOWS)
    one.kill()
    two.report(FOLLOWS)
    two.order(State.MASTER)
    segment.run(5)
    one.boot()
    segment.run(10)
    assert segment.masters() == [two]
    assert one.told == [State.MASTER, State.BACKUP]


def test_without_link_a_serving_host_keeps_its_roles_and_says_so() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True)
    one.link(False)
    one.report(SERVES)
    segment.run(60)
    assert one.told == []
    assert one.count("the data are served here, and there is no link yet: roles stay as they are") == 1
    one.link(True)
    assert one.told == [State.MASTER]


def test_without_link_a_host_that_does_not_serve_becomes_slave() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True)
    one.link(False)
    one.report(IDLE)
    assert one.told == [State.INIT]


def test_a_host_whose_hastd_does_not_answer_is_told_after_half_a_minute() -> None:
    segment = Segment()
    one, two = segment.add(0, data_required=True), segment.add(100, data=GOOD)
    segment.run(29)
    assert segment.masters() == [two]
    assert one.told == []
    segment.run(2)
    assert one.told == [State.BACKUP]


def test_backup_by_hand_is_acted_on_although_the_host_serves() -> None:
    segment = Segment()
    one = segment.add(0, data_required=True)
    one.report(SERVES_ALONE)
    assert one.told == []
    one.order(State.BACKUP)
    assert one.told == [State.BACKUP]


def test_a_serving_host_with_one_unusable_copy_adopts_its_roles_and_then_gives_way_to_a_better_one() -> None:
    mixed = judge([("disk1", CopyState.LEADING), ("disk2", CopyState.NO_PROVIDER)], [HERE, NOT_KNOWN])
    segment, one, two = pair(mixed, FOLLOWS)
    two.kill()
    one.report(mixed)
    segment.run(5)
    assert one.told == [State.MASTER]
    two.boot()
    segment.run(5)
    assert segment.masters() == [two]


def test_other_settings_of_the_same_vhid_keep_the_state() -> None:
    from dataclasses import replace

    segment = Segment()
    one, two = segment.add(0), segment.add(100)
    segment.run(10)
    one.vhid.reconfigure(replace(one.settings, data_required=True), segment.now)
    segment.run(2)
    one.report(SERVES)
    segment.run(10)
    assert segment.masters() == [one]
    assert two.count("MASTER") == 0
