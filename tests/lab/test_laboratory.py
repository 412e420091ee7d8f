"""The lab itself: hosts, power, cables, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Lab, LabError, loops


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=("hast1", "hast2", "client"), disk_size_bytes=8 << 20) as lab:
        yield lab


def reaches(lab: Lab, source: str, address: str) -> bool:
    return lab.hosts[source].run(["ping", "-c", "1", "-W", "1", address]).returncode == 0


def test_hosts_have_the_names_and_addresses_of_the_article(lab: Lab) -> None:
    assert lab.hast1.run("hostname").stdout == "hast1.freebsd.loc\n"
    assert lab.hast2.run("hostname").stdout == "hast2.freebsd.loc\n"
    assert "10.10.10.181" in lab.hast1.run("ip -4 addr show pub").stdout
    assert "192.168.100.101" in lab.hast2.run("ip -4 addr show repl").stdout
    assert lab.hast1.run("getent hosts hast2").stdout.split()[0] == "192.168.100.101"
    assert lab.hast1.run("hostid").stdout != lab.hast2.run("hostid").stdout


def test_disks_are_block_devices_of_the_host_only(lab: Lab) -> None:
    for disk in ("/dev/ad1", "/dev/ad2", "/dev/ad3"):
        assert lab.hast1.run(["blockdev", "--getsize64", disk]).stdout == f"{8 << 20}\n"
    lab.hast1.run(["dd", "if=/dev/urandom", "of=/dev/ad1", "bs=4096", "count=1", "oflag=direct"], check=True)
    assert lab.disk_file("hast1", "ad1").read_bytes()[:4096] != bytes(4096)
    assert lab.disk_file("hast2", "ad1").read_bytes()[:4096] == bytes(4096)
    assert not Path("/dev/ad1").exists()


def test_hosts_do_not_see_each_others_files_or_processes(lab: Lab) -> None:
    with_title = lab.hast1.spawn("sleep 1234")
    lab.hast1.run("touch /run/only-here /only-here /var/log/only-here", check=True)
    lab.hast1.wait_for("sleep", lambda: bool(lab.hast1.processes("^sleep 1234")), 5)
    assert lab.hast2.run("pgrep -f 1234").returncode == 1
    assert lab.hast2.run("ls /run/only-here").returncode != 0
    assert not Path("/only-here").exists()
    with_title.close()


def test_a_pulled_cable_cuts_one_network_only(lab: Lab) -> None:
    cable = lab.cable("hast1", "repl")
    cable.pull()
    assert not reaches(lab, "hast1", "192.168.100.101")
    assert reaches(lab, "hast1", "10.10.10.182")
    assert "NO-CARRIER" in lab.hast1.run("ip link show repl").stdout
    cable.plug()
    lab.hast1.wait_for("the link", lambda: reaches(lab, "hast1", "192.168.100.101"), 5)


def test_a_partition_separates_two_hosts_and_leaves_the_third(lab: Lab) -> None:
    lab.switch.partition("hast1", "hast2", "pub")
    try:
        assert not reaches(lab, "hast1", "10.10.10.182")
        assert reaches(lab, "client", "10.10.10.181")
        assert reaches(lab, "client", "10.10.10.182")
    finally:
        lab.switch.heal()
    lab.hast1.wait_for("the other host", lambda: reaches(lab, "hast1", "10.10.10.182"), 5)


def test_a_lossy_cable_loses_frames(lab: Lab) -> None:
    lab.cable("hast1", "repl").lose(100)
    try:
        assert not reaches(lab, "hast1", "192.168.100.101")
    finally:
        lab.switch.heal()
    lab.hast1.wait_for("the frames", lambda: reaches(lab, "hast1", "192.168.100.101"), 5)


def test_log_lines_arrive_as_in_a_log_file(lab: Lab) -> None:
    lab.hast2.run(["logger", "-t", "failover", "-p", "local0.debug", "Importing Pool"], check=True)
    lab.hast2.wait_for("the line", lambda: "Importing Pool" in lab.hast2.log(), 5)
    assert lab.hast2.log().endswith(" hast2 failover: Importing Pool\n")


def test_a_command_past_its_deadline_is_killed_and_named(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"sleep 60: no end after 0.2 s"):
        lab.hast1.run("sleep 60", timeout_s=0.2)
    lab.hast1.wait_for("the end of sleep", lambda: not lab.hast1.processes("^sleep 60"), 5)


def test_kill_all_leaves_an_empty_running_host(lab: Lab) -> None:
    lab.hast2.run(["sh", "-c", "sleep 500 & sleep 500 & setsid sleep 500 &"])
    lab.hast2.wait_for("three processes", lambda: len(lab.hast2.processes("^sleep 500")) == 3, 5)
    lab.hast2.kill_all()
    assert lab.hast2.processes() == []
    assert lab.hast2.run("hostname").returncode == 0


def test_power_cut_keeps_disks_and_configuration_and_loses_run(lab: Lab) -> None:
    lab.hast1.run("cp /etc/hostname /dev/ad3")
    lab.hast1.run("touch /run/gone /var/log/kept /etc/kept", check=True)
    lab.hast1.power_off()
    assert not lab.hast1.is_on
    with pytest.raises(LabError, match="hast1 is off"):
        lab.hast1.run("true")
    assert not reaches(lab, "hast2", "192.168.100.100")
    lab.hast1.power_on()
    assert lab.hast1.run("head -c5 /dev/ad3").stdout == "hast1"
    assert lab.hast1.run("ls /var/log/kept /etc/kept").returncode == 0
    assert lab.hast1.run("ls /run/gone").returncode != 0
    lab.hast2.wait_for("hast1", lambda: reaches(lab, "hast2", "192.168.100.100"), 5)


def test_nothing_is_left_of_a_killed_lab() -> None:
    program = (
        "import time\nfrom hast.lab import Lab\nwith Lab() as lab:\n print(lab.directory, flush=True)\n time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    assert [backing for _, backing in loops.attached() if backing.startswith(f"{directory}/")]
    hosts = children_of(process.pid)
    assert len(hosts) >= 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while directory.exists() or any(alive(pid) for pid in hosts):
        assert time.monotonic() < deadline, "the lab is still there"
        time.sleep(0.05)
    assert not [backing for _, backing in loops.attached() if backing.startswith(f"{directory}/")]


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
