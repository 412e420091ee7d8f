"""A real corosync and Pacemaker decide who serves: move, standby, power cuts, cables; nothing acknowledged is lost.

The configuration is that of docs/examples (docs/pacemaker.md).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pacemaker_pair import PacemakerPair

from hast.lab.host import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.device,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("failover-lab"),
    pytest.mark.skipif(
        shutil.which("pacemakerd", path="/usr/sbin") is None
        or shutil.which("corosync", path="/usr/sbin") is None
        or not Path("/usr/lib/ocf/resource.d/heartbeat/IPaddr2").exists(),
        reason="needs the packages corosync, pacemaker, pacemaker-cli-utils and resource-agents",
    ),
]


@contextmanager
def writing() -> Iterator[tuple[PacemakerPair, Host]]:
    """A pair under a client that writes, and its master. At the end nothing is missing and the copies are equal."""
    with PacemakerPair() as pair:
        pair.bring_up()
        pair.start_writer()
        pair.wait_written()
        master = pair.wait_serving()
        with pair.watched():
            yield pair, master
            pair.wait_whole()
        assert pair.missing() == [], pair.describe()
        first, second = pair.copies()
        assert first == second, "the copies differ"


def check_moves(pair: PacemakerPair, to: Host, moment_s: float, what: str) -> None:
    seconds = pair.wait_write_after(moment_s, 90)
    assert pair.wait_serving() is to, pair.describe()
    print(f"{what}: {seconds:.1f} s to an acknowledged write")


def score(pair: PacemakerPair, host: Host) -> str:
    command = ["crm_attribute", "--node", host.name, "--name", "master-disks", "--lifetime", "reboot", "--query", "-q"]
    return host.run(command, timeout_s=30).stdout.strip()


def outdated(pair: PacemakerPair, host: Host) -> str:
    asked = ["crm_attribute", "--node", host.name, "--name", "hast-outdated-disk1", "--query", "--quiet"]
    return pair.other(host).run(asked, timeout_s=30).stdout.strip()


def test_move_and_standby() -> None:
    with writing() as (pair, master):
        other = pair.other(master)
        at_s = time.monotonic()
        pair.crm(master, "crm_resource", "--move", "--resource", "storage", "--promoted", "--node", other.name)
        check_moves(pair, other, at_s, "move")
        pair.crm(master, "crm_resource", "--clear", "--resource", "storage")
        pair.wait_whole()
        pair.wait_written()
        at_s = time.monotonic()
        pair.crm(master, "crm_attribute", "--node", other.name, "--name", "standby", "--update", "on")
        check_moves(pair, master, at_s, "standby")
        pair._wait(other, "no role in standby", lambda: pair.is_role(other, "init"), 60)
        pair.wait_written()
        pair.crm(master, "crm_attribute", "--node", other.name, "--name", "standby", "--delete")
        pair.wait_whole()
        assert pair.fenced == []


def test_power_cut_of_the_master_and_of_the_slave() -> None:
    with writing() as (pair, master):
        other = pair.other(master)
        at_s = pair.cut(master)
        check_moves(pair, other, at_s, "power cut of the master")
        assert pair.fenced == [master.name], "a host that is not heard of is fenced before its place is taken"
        assert outdated(pair, master) == "true"
        pair.wait_written()
        pair.boot(master)
        assert pair.wait_whole(120) is other
        pair._wait(other, "the note to go", lambda: outdated(pair, master) == "", 60)

        pair.cut(master)
        pair.wait_written(timeout_s=90)
        pair.boot(master)
        assert pair.wait_whole(120) is other


def test_the_masters_cable_to_the_clients() -> None:
    with writing() as (pair, master):
        at_s = pair.pull(master.name, "pub")
        check_moves(pair, pair.other(master), at_s, "cable to the clients")
        pair.plug(master.name, "pub")
        pair.wait_whole()
        pair.wait_written()
        assert pair.fenced == []


def test_the_cable_between_the_nodes_and_nobody_promotes_the_copy_that_was_left_behind() -> None:
    with writing() as (pair, master):
        other = pair.other(master)
        pair.pull(other.name, "repl")
        pair._wait(master, "a note of the cluster", lambda: outdated(pair, other) == "true", 90)
        pair.wait_written(timeout_s=60)
        pair._wait(other, "the score of an outdated copy", lambda: score(pair, other) == "-INFINITY", 60)
        pair.crm(master, "crm_resource", "--move", "--resource", "storage", "--promoted", "--node", other.name)
        time.sleep(15)
        assert not pair.is_role(other, "primary"), "it lacks what was acknowledged meanwhile"
        pair.crm(master, "crm_resource", "--clear", "--resource", "storage")
        pair.plug(other.name, "repl")
        pair.wait_whole(120)
        pair._wait(master, "the note to go", lambda: outdated(pair, other) == "", 60)
        pair.wait_written(timeout_s=60)
        assert pair.fenced == []


def test_both_cables_of_the_master_and_only_one_host_goes_on() -> None:
    with writing() as (pair, master):
        pair.pull(master.name, "pub", "repl")
        pair._wait(master, "one host to be fenced", lambda: len(pair.fenced) > 0, 60)
        time.sleep(5)
        assert len(set(pair.fenced)) == 1, "one of them survives"
        pair.plug(master.name, "pub", "repl")
        pair.wait_written(timeout_s=90)
        pair.boot(pair.lab.hosts[pair.fenced[0]])
        pair.wait_whole(120)


def test_hastd_killed_and_back_within_its_time_is_no_failure() -> None:
    with writing() as (pair, master):
        for process in master.processes(r"hastd\b"):
            if "hast.cli.hastd" in process.title or process.title.startswith("hastd ") or process.title == "hastd":
                process.kill()
        time.sleep(3)
        master.run("hastd", check=True)
        time.sleep(15)
        assert pair.master() is master
        assert pair.fenced == []
        pair.wait_written()


def test_ocf_tester_finds_nothing() -> None:
    """By the rules for agents; the cluster is left alone meanwhile, so that it does not undo what is tried."""
    tester = shutil.which("ocf-tester", path="/usr/sbin")
    if tester is None:
        pytest.skip("ocf-tester is not installed")
    with PacemakerPair() as pair:
        pair.create()
        for host in pair.pair:
            pair.boot(host)
        pair._wait(pair.hast1, "both nodes online", lambda: pair.online() == {"hast1", "hast2"}, 60)
        agent = "/usr/lib/ocf/resource.d/hast/hast"
        done = pair.hast1.run([tester, "-v", "-n", "disks", "-o", "resources=disk1", agent], timeout_s=240)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed all tests" in done.stdout
