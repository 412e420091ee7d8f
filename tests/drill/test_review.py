"""Planted mistakes are named by file and setting, before anything is tried; a good site has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_sites import ARTICLE, changed, site

from hast.drill.decisions.review import Weight, review, rule_for

MISTAKES = {
    "another password": ("carp.conf", "pass mypassword advskew 100", "pass other advskew 100", "vhid 1, pass"),
    "another vhid": ("carp.conf", "vhid 1 pass mypassword advskew 100",
                     "vhid 2 pass mypassword advskew 100", "vhid 2"),
    "another address": ("carp.conf", "10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 100",
                        "10.10.10.179 netmask 255.255.255.0 vhid 1 pass mypassword advskew 100", "vhid 1, address"),
    "a resource of no file": ("carp.conf", "resource disk3", "resource disk9", "carp.conf, resource"),
    "a resource left out": ("failover.conf", "disk1 disk2 disk3", "disk1 disk2", "failover.conf, resources"),
    "a resource too many": ("failover.conf", "disk2 disk3", "disk2 disk3 disk4", "failover.conf, resources"),
    "a short timeout": ("hast.conf", "resource disk1", "timeout 1 resource disk1", "timeout 1"),
    "a hasty pool": ("failover.conf", "kill 5", "kill 5 timeout 1", "pool zhast, timeout"),
    "a port of nobody": ("hast.conf", "remote hast2", "remote hast2:9999", "remote hast2:9999"),
    "nothing replicated": ("hast.conf", "remote hast2", "remote none", "resource disk1, remote"),
    "rules for another name": ("devd.conf", "carp0", "carp1", "carp0 LINK_UP"),
    "rules the wrong way round": ("devd.conf", "failover slave", "failover master", "carp0 LINK_DOWN"),
    "rules that do something else": ("devd.conf", "/usr/local/bin/failover master", "logger up", "carp0 LINK_UP"),
}  # fmt: skip


def test_the_article_has_no_mistake(tmp_path: Path) -> None:
    assert {finding.weight for finding in review(site(tmp_path))} == {Weight.PRICE}


@pytest.mark.parametrize("planted", MISTAKES)
def test_a_planted_mistake_is_named(tmp_path: Path, planted: str) -> None:
    name, old, new, setting = MISTAKES[planted]
    found = review(site(tmp_path, changed(ARTICLE, name, old, new)))
    assert found[0].weight is Weight.MISTAKE
    assert any(setting in each.setting for each in found if each.weight is Weight.MISTAKE), found
    assert found[0].explains


def test_the_same_advskew_with_preempt_on_both_is_a_mistake_and_without_a_doubt(tmp_path: Path) -> None:
    files = changed(ARTICLE, "carp.conf", "advskew 100", "advskew 0")
    without = review(site(tmp_path / "1", files))
    assert [each.weight for each in without if "advskew" in each.setting] == [Weight.DOUBT]
    files = {**files, "carp.conf": "preempt on\n" + files["carp.conf"]}
    found = review(site(tmp_path / "2", files))
    assert (found[0].weight, found[0].setting) == (Weight.MISTAKE, "carp.conf, vhid 1, advskew")
    assert "no node is preferred" in found[0].text


def test_what_is_wrong_on_both_is_said_once(tmp_path: Path) -> None:
    found = review(site(tmp_path, changed(ARTICLE, "failover.conf", " disk3", "")))
    missing = [each.text for each in found if each.weight is Weight.MISTAKE]
    assert len(missing) == 1
    assert missing[0].startswith("both nodes: disk3")


def test_the_other_nodes_own_files_are_compared(tmp_path: Path) -> None:
    peer = changed(
        changed(ARTICLE, "hast.conf", "resource disk3", "timeout 9 resource disk4"), "failover.conf", "disk3", "disk4"
    )
    found = review(site(tmp_path, ARTICLE, peer))
    said = "\n".join(map(str, found))
    for word in (
        "resource disk3: only hast1",
        "resource disk4: only hast2",
        "resource disk1, timeout: 20 on hast1, 9 on",
    ):
        assert word in said


def test_a_choice_with_a_price_is_no_mistake(tmp_path: Path) -> None:
    files = {**ARTICLE, "hast.conf": "replication async\n" + ARTICLE["hast.conf"]}
    files = changed(files, "failover.conf", "resources", "delay 3 resources")
    found = {each.setting: each.weight for each in review(site(tmp_path, files))}
    assert found["hast.conf, replication"] is found["failover.conf, delay"] is Weight.PRICE


def test_the_rule_of_the_largest_priority_counts(tmp_path: Path) -> None:
    files = changed(ARTICLE, "devd.conf", "notify 30", "notify 20")
    files["devd.conf"] += 'notify 50 { match "subsystem" "carp0"; action "true"; };'
    own = site(tmp_path, files)
    rule = rule_for(own.nodes[0].devd.rules, {"system": "IFNET", "subsystem": "carp0", "type": "LINK_UP"})
    assert rule is not None
    assert rule.priority == 50
    assert any("devd.conf" in each.setting for each in review(own) if each.weight is Weight.MISTAKE)
