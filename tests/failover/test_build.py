"""From failover.conf to stages: what waits for what, what goes side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hastd import FakeHastd

from hast.config.failoverconf import parse
from hast.election.failover import Verb, plan
from hast.failover.build import Stages, build
from hast.failover.hastd import HastdError


def stages_of(text: str) -> Stages:
    made = build(parse(text, "failover.conf"))
    next(plan(Verb.MASTER, made.items), None)
    return made


def names(made: Stages) -> list[list[str]]:
    return [[item.name for item in stage] for stage in made.items if stage]


def test_the_articles_set_up() -> None:
    made = stages_of("resources disk1 disk2 pool zhast")
    assert names(made) == [["role disk1", "role disk2"], ["device disk1", "device disk2"], ["pool zhast"]]
    needs = {item.name: item.needs for stage in made.items for item in stage}
    assert needs["pool zhast"] == {"role disk1", "role disk2"}
    assert made.switched_after == "device disk2"


def test_everything_in_its_order() -> None:
    made = stages_of(
        """
        service b service a
        export iscsi iqn.x { lun 1 /dev/hast/d3 initiator ALL }
        export nbd d4 { allow ALL }
        pool one { resource d1 } pool two { resource d2 }
        resources d1 d2 d3 d4 d5 delay 2
        hook after-slave "x" hook after-master "y"
        """
    )
    assert names(made) == [
        ["first hooks"],
        ["delay"],
        ["role d1", "role d2", "role d3", "role d4", "role d5"],
        ["device d1", "device d2", "device d3"],
        ["pool one", "pool two"],
        ["export iscsi iqn.x", "export nbd d4"],
        ["service b"],
        ["service a"],
        ["last hooks"],
    ]


@pytest.mark.parametrize(
    ("pools", "groups"),
    [
        ("pool a pool b", [["pool a", "pool b"]]),
        ("pool a pool v { type lvm } pool b", [["pool a"], ["pool v"], ["pool b"]]),
        ("pool a { type btrfs mount /a } pool b { type btrfs mount /b }", [["pool a", "pool b"]]),
        ("pool a { type btrfs mount /a } pool b { type btrfs mount /a/b }", [["pool a"], ["pool b"]]),
        ("pool a { type btrfs mount /a } pool b { type btrfs mount /ab }", [["pool a", "pool b"]]),
        (
            "pool v { type lvm } pool f { type filesystem device /dev/v/x mount /f } "
            "pool g { type filesystem device /dev/v/y mount /g }",
            [["pool v"], ["pool f"], ["pool g"]],
        ),
    ],
)
def test_pools_go_side_by_side_where_they_do_not_lie_on_each_other(pools: str, groups: list[list[str]]) -> None:
    assert names(stages_of(f"resources d {pools}"))[2:] == groups


def test_an_nbd_export_needs_no_device() -> None:
    assert names(stages_of("resources d1 export nbd d1 { allow ALL }")) == [["role d1"], ["export nbd d1"]]
    assert stages_of("resources d1 export nbd d1 { allow ALL }").switched_after == "role d1"


def test_resources_alone_are_waited_for() -> None:
    assert names(stages_of("resources d1")) == [["role d1"], ["device d1"]]


def test_all_resources_come_from_hastd_with_their_device_names(hastd: FakeHastd) -> None:
    made = stages_of(f"control {hastd.path} pool zhast")
    assert made.resources == ("disk1", "disk2", "disk3")
    assert made.parts["device disk1"].summary(True) == f"wait for {hastd.devices}/disk1"


def test_without_hastd_all_resources_are_those_remembered(tmp_path: Path) -> None:
    configuration = parse(f"control {tmp_path}/none pool zhast", "f")
    with pytest.raises(HastdError, match="does not run here"):
        build(configuration)
    assert build(configuration, ["disk9"]).resources == ("disk9",)
