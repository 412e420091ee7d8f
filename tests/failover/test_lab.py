"""Fail-over on two lab hosts with the pool of the article: by hand, at once, by its script, by a pulled cable."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Host, Lab, LabError, zfs

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

SCRIPT = Path(__file__).resolve().parents[2] / "docs/examples/failover.sh"
FAILOVER_CONF = "resources disk1 disk2 disk3\npool zhast { kill 2 }\n"
CARP_CONF = """
interface pub
on hast1 { ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 0" }
on hast2 { ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 100" }
"""
TIMEOUT_S = 90.0


class Pair:
    """The two hosts, hast1 with the pool at first."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.one, self.two = lab.hast1, lab.hast2
        self.written = 0

    def start(self) -> None:
        for host in (self.one, self.two):
            self.boot(host)
            host.run("hastctl create disk1 disk2 disk3", check=True)
        self.two.run("hastctl role secondary all", check=True)
        self.one.run("hastctl role primary all", check=True)
        self.one.run("zpool create zhast raidz1 /dev/hast/disk1 /dev/hast/disk2 /dev/hast/disk3", check=True)

    def boot(self, host: Host) -> None:
        host.run("mount -t tmpfs local /usr/local/bin", check=True)
        host.run(["sh", "-c", "ln -s $(command -v failover) /usr/local/bin/failover"], check=True)
        zfs.start(host)
        host.run("hastd", check=True)

    def automatic(self, host: Host) -> None:
        """Start what makes fail-overs happen by themselves."""
        host.run("hast-devd -d", check=True)
        host.run("carpd", check=True)
        host.wait_for("carpd", lambda: host.run("carpctl status").returncode == 0, 10)

    def by_hand(self) -> None:
        """End it again."""
        for host in (self.one, self.two):
            if not host.is_on:
                continue
            self.lab.cable(host.name, "pub").plug()
            for process in (*host.processes("carpd"), *host.processes("hast-devd")):
                process.kill()

    def write(self, host: Host) -> None:
        """One more file, on the disks before this returns."""
        self.written += 1
        command = f"echo {self.written} | dd of=/zhast/f{self.written} conv=fsync"
        host.run(["sh", "-c", command], check=True)

    def serves(self, host: Host) -> bool:
        """Whether this host has every file written so far."""
        done = host.run(["sh", "-c", "cat /zhast/f* 2>/dev/null | sort -n"])
        return done.stdout.split() == [str(number) for number in range(1, self.written + 1)]

    def roles(self, host: Host) -> set[str]:
        return set(re.findall(r"role: (\w+)", host.run("hastctl status all").stdout))

    def make_master(self, host: Host, other: Host) -> None:
        """A planned switch, whatever was before."""
        slave = other.spawn("failover slave")
        done = host.run("failover master", timeout_s=TIMEOUT_S)
        assert done.returncode == 0, done.stderr + host.log()[-2000:]
        assert slave.wait(TIMEOUT_S).returncode == 0, other.log()[-2000:]
        assert self.serves(host), host.log()[-2000:]
        assert (self.roles(host), self.roles(other)) == ({"primary"}, {"secondary"})


@pytest.fixture(scope="module")
def pair(shared: Path) -> Iterator[Pair]:
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    text = (shared / "article.txt").read_text()
    hast_conf = re.search(r"^resource disk1 \{.*\}$", text, re.MULTILINE)
    rules = re.search(r"^notify 30 \{.*\};$", text, re.MULTILINE)
    assert hast_conf
    assert rules
    etc = {"failover.conf": FAILOVER_CONF, "devd.conf": rules[0] + "\n", "carp.conf": CARP_CONF}
    with Lab(configuration=hast_conf[0] + "\n", etc=etc) as lab:
        made = Pair(lab)
        made.start()
        yield made


def lines(host: Host, since: int) -> list[str]:
    """What failover logged after the first `since` characters."""
    found = re.findall(r"^\S+ +\d+ \S+ \S+ ((?:failover|hast): .*)$", host.log()[since:], re.MULTILINE)
    return [str(line) for line in found]


def test_a_planned_switch_one_node_after_the_other_logs_as_the_article(pair: Pair) -> None:
    pair.make_master(pair.one, pair.two)
    pair.write(pair.one)
    first, second = len(pair.one.log()), len(pair.two.log())
    assert pair.one.run("failover slave", timeout_s=TIMEOUT_S).returncode == 0
    assert pair.two.run("failover master", timeout_s=TIMEOUT_S).returncode == 0
    gave, took = lines(pair.one, first), lines(pair.two, second)
    assert gave[:2] == [
        "failover: Switching to secondary provider for disk1 disk2 disk3.",
        "hast: ZFS pool for resource zhast exported.",
    ]
    assert sorted(gave[2:]) == [f"failover: Role switched to secondary for resource disk{n}." for n in (1, 2, 3)]
    assert took == [
        "failover: Switching to primary provider for disk1 disk2 disk3.",
        "failover: Role for HAST resources disk1 disk2 disk3 switched to primary.",
        "failover: Importing Pool",
        "hast: ZFS pool for resource zhast imported.",
    ]
    assert pair.serves(pair.two)


def test_a_planned_switch_asked_of_both_nodes_at_once(pair: Pair) -> None:
    for host, other in ((pair.one, pair.two), (pair.two, pair.one)):
        pair.make_master(host, other)
        pair.write(host)


def test_a_busy_pool_is_freed_when_kill_is_configured(pair: Pair) -> None:
    pair.make_master(pair.one, pair.two)
    user = pair.one.spawn(["sh", "-c", "cd /zhast && exec sleep 300"])
    time.sleep(0.3)
    assert pair.one.run("failover slave", timeout_s=TIMEOUT_S).returncode == 0
    assert user.wait(5).returncode != 0
    assert "Pool zhast is in use by sleep[" in pair.one.log()
    assert pair.roles(pair.one) == {"secondary"}


def test_a_run_killed_at_any_moment_is_made_good_by_the_next(pair: Pair) -> None:
    for number, delay_s in enumerate((0.1, 0.4, 0.8, 1.3)):
        host, other = (pair.one, pair.two) if number % 2 else (pair.two, pair.one)
        pair.make_master(other, host)
        pair.write(other)
        killed = [other.spawn("failover slave"), host.spawn("failover master")]
        time.sleep(delay_s)
        for process in (*host.processes("failover"), *other.processes("failover")):
            process.kill()
        for run in killed:
            run.wait(TIMEOUT_S)
        pair.make_master(*((host, other) if number % 3 else (other, host)))


def test_the_articles_shell_script_works_against_this_hastctl(pair: Pair) -> None:
    pair.make_master(pair.one, pair.two)
    pair.write(pair.one)
    script = SCRIPT.read_text().replace("delay=3", "delay=0")
    for host in (pair.one, pair.two):
        host.path("/run/failover.sh").write_text(script)
    first, second = len(pair.one.log()), len(pair.two.log())
    assert pair.one.run("sh /run/failover.sh slave", timeout_s=TIMEOUT_S).returncode == 0, pair.one.log()[-2000:]
    assert pair.two.run("sh /run/failover.sh master", timeout_s=TIMEOUT_S).returncode == 0, pair.two.log()[-2000:]
    assert pair.serves(pair.two)
    assert lines(pair.one, first)[-1] == "failover: Role switched to secondary for resource disk3."
    assert lines(pair.two, second)[-1] == "hast: ZFS pool for resource zhast imported."


def test_a_pulled_cable_moves_the_address_and_the_pool_by_the_articles_rules(pair: Pair) -> None:
    pair.make_master(pair.one, pair.two)
    pair.automatic(pair.one)
    pair.one.wait_for("the address", lambda: has_address(pair.one), 20)
    pair.automatic(pair.two)
    settled(pair, pair.one, pair.two)
    try:
        for host, other in ((pair.one, pair.two), (pair.two, pair.one)):
            pair.write(host)
            pair.lab.cable(host.name, "pub").pull()
            seconds = other.wait_for("the pool", lambda other=other: pair.serves(other), 40)  # type: ignore[misc]
            print(f"{host.name} to {other.name}: {seconds:.1f} s from cable pull to a readable pool")
            settled(pair, other, host)
            assert has_address(other)
            pair.lab.cable(host.name, "pub").plug()
            time.sleep(2)
            settled(pair, other, host)
    except LabError as error:
        pytest.fail(f"{error}\n{pair.one.log()[-6000:]}\n{pair.two.log()[-6000:]}")
    finally:
        pair.by_hand()


def test_a_power_cut_is_survived_and_the_old_master_returns_as_slave(pair: Pair) -> None:
    pair.make_master(pair.one, pair.two)
    pair.automatic(pair.one)
    pair.one.wait_for("the address", lambda: has_address(pair.one), 20)
    pair.automatic(pair.two)
    settled(pair, pair.one, pair.two)
    try:
        pair.write(pair.one)
        pair.one.power_off()
        seconds = pair.two.wait_for("the pool", lambda: pair.serves(pair.two), TIMEOUT_S)
        print(f"{seconds:.1f} s from power cut to a readable pool")
        pair.write(pair.two)
        pair.one.power_on()
        pair.boot(pair.one)
        pair.automatic(pair.one)
        settled(pair, pair.two, pair.one)
        time.sleep(5)
        settled(pair, pair.two, pair.one)
        assert has_address(pair.two)
        assert not has_address(pair.one)
    except LabError as error:
        pytest.fail(f"{error}\n{pair.one.log()[-6000:]}\n{pair.two.log()[-6000:]}")
    finally:
        pair.by_hand()


def has_address(host: Host) -> bool:
    return "10.10.10.180/" in host.run("ip -4 addr show dev pub").stdout


def settled(pair: Pair, master: Host, slave: Host) -> None:
    master.wait_for("both roles", lambda: (pair.roles(master), pair.roles(slave)) == ({"primary"}, {"secondary"}), 40)
    assert pair.serves(master)
