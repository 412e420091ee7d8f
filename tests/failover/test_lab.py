"""Planned fail-over on two lab hosts with the pool of the article: in turn, at once, killed, by its shell script."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Host, Lab, zfs

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

SCRIPT = Path(__file__).resolve().parents[2] / "docs/examples/failover.sh"
FAILOVER_CONF = "resources disk1 disk2 disk3\npool zhast { kill 2 }\n"
TIMEOUT_S = 90.0


class Pair:
    """The two hosts, hast1 with the pool at first."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.one, self.two = lab.hast1, lab.hast2
        self.written = 0

    def start(self) -> None:
        for host in (self.one, self.two):
            zfs.start(host)
            host.run("hastd", check=True)
            host.run("hastctl create disk1 disk2 disk3", check=True)
        self.two.run("hastctl role secondary all", check=True)
        self.one.run("hastctl role primary all", check=True)
        self.one.run("zpool create zhast raidz1 /dev/hast/disk1 /dev/hast/disk2 /dev/hast/disk3", check=True)

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
    assert hast_conf
    with Lab(configuration=hast_conf[0] + "\n", etc={"failover.conf": FAILOVER_CONF}) as lab:
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
