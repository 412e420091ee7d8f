"""hastd dies under a pool, on a lab host with real ZFS: what the next `failover` makes of it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hast.lab import Host, Lab, one_disk, zfs
from hast.lab.laboratory import article_configuration

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

FAILOVER_CONF = "resources disk1 disk2 disk3\npool zhast { kill 2 }\nhealth 1\n"
WRITER = """import os
while True:
    with open("/zhast/written", "w") as file:
        file.write("x")
        os.fsync(file.fileno())
"""
WRITER_CONF = (
    FAILOVER_CONF
    + """service writer { start "python3 /etc/writer.py >/dev/null 2>&1 & echo $! >/run/writer"
    stop "kill -9 $(cat /run/writer); while kill -0 $(cat /run/writer) 2>/dev/null; do sleep 0.1; done; rm /run/writer"
    status "test -e /run/writer" }
"""
)
ETC = {
    "failover.conf": FAILOVER_CONF,
    "devd.conf": 'notify 0 { match "system" "NONE"; action "true"; };\n',
    "writer.conf": WRITER_CONF,
    "writer.py": WRITER,
}
BOUND_S = 40.0
"""Far below the deadline of a pool (120 s); a quiet machine needs a tenth."""

HANGING_S = 15.0
"""Far below the time that a service has to stop (60 s)."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    with Lab(configuration="timeout 5\n" + article_configuration(), etc=ETC) as made:
        for host in (made.hast1, made.hast2):
            zfs.start(host)
            host.run("hastd", check=True)
            host.run("hastctl create disk1 disk2 disk3", check=True)
        made.hast2.run("hastctl role secondary all", check=True)
        made.hast1.run("hastctl role primary all", check=True)
        made.hast1.run("zpool create zhast raidz1 /dev/hast/disk1 /dev/hast/disk2 /dev/hast/disk3", check=True)
        yield made


@contextmanager
def served_by(host: Host, other: Host) -> Iterator[None]:
    """The pool is `host`'s at first, and whole at the end."""
    other.run("failover slave", timeout_s=60)
    assert host.run("failover master", timeout_s=60).returncode == 0, host.log()[-3000:]
    write(host, "before")
    yield
    assert "ONLINE" in host.run("zpool list -H -o health zhast").stdout


def write(host: Host, name: str, timeout_s: float = 20.0) -> None:
    """One more file, on the disks before this returns."""
    host.run(["sh", "-c", f"echo {name} | dd of=/zhast/{name} conv=fsync"], check=True, timeout_s=timeout_s)


def files(host: Host) -> set[str]:
    return set(host.run(["ls", "/zhast"]).stdout.split())


def kill_hastd(host: Host, busy: bool = True) -> None:
    """All of hastd at once, while somebody writes; then a new one."""
    for process in host.processes("^hastd"):
        process.kill()
    if busy:
        host.spawn(["sh", "-c", "dd if=/dev/zero of=/zhast/during bs=64k count=20; zpool scrub zhast"])
        host.wait_for("the pool's trouble", lambda: "faulted" in host.run("zpool status zhast").stdout, 20)
    host.run("hastd", check=True)


def timed(host: Host, verb: str) -> float:
    started = time.monotonic()
    done = host.run(f"failover {verb}", timeout_s=BOUND_S)
    assert done.returncode == 0, done.stderr + host.log()[-3000:]
    print(f"failover {verb}: {time.monotonic() - started:.1f} s")
    return time.monotonic() - started


def status(host: Host) -> tuple[int, str]:
    done = host.run("failover status")
    return done.returncode, done.stdout


@pytest.mark.parametrize("busy", [True, False])
def test_master_after_hastd_died_ends_with_a_pool_that_does_io(lab: Lab, busy: bool) -> None:
    with served_by(lab.hast1, lab.hast2):
        kill_hastd(lab.hast1, busy)
        code, text = status(lab.hast1)
        assert code == 1
        assert "pool zhast: imported, but " in text
        before = len(lab.hast1.log())
        timed(lab.hast1, "master")
        write(lab.hast1, "after")
        assert {"before", "after"} <= files(lab.hast1)
        assert status(lab.hast1)[0] == 0, status(lab.hast1)[1]
        assert "hast: Scrub of ZFS pool zhast started." in lab.hast1.log()[before:]
        scrubbed(lab.hast1)


def scrubbed(host: Host) -> None:
    """Somebody has started a scrub; when it ends nothing is known to be wrong."""
    host.wait_for("scrub", lambda: "scrub completed" in host.run("zpool status zhast").stdout, 20)
    assert "errors: No known data errors" in host.run("zpool status zhast").stdout


@pytest.mark.parametrize("busy", [True, False])
def test_slave_after_hastd_died_ends_secondary_and_the_other_node_serves(lab: Lab, busy: bool) -> None:
    with served_by(lab.hast1, lab.hast2):
        kill_hastd(lab.hast1, busy)
        timed(lab.hast1, "slave")
        assert lab.hast1.run("zpool list -H -o name").stdout == ""
        assert status(lab.hast1)[0] == 0, status(lab.hast1)[1]
        timed(lab.hast2, "master")
        write(lab.hast2, "there")
        assert "before" in files(lab.hast2)
        timed(lab.hast2, "slave")
        timed(lab.hast1, "master")
        assert {"before", "there"} <= files(lab.hast1)


@pytest.mark.parametrize("verb", ["slave", "master"])
def test_a_service_that_hangs_on_a_dead_pool_is_not_waited_for(lab: Lab, verb: str) -> None:
    """A process in the middle of a write to a suspended pool cannot even be killed, before the pool is ended."""
    host = lab.hast1
    with served_by(host, lab.hast2):
        timed(host, "master -c /etc/writer.conf")
        for process in host.processes("^hastd"):
            process.kill()
        host.wait_for("the pool's trouble", lambda: "faulted" in host.run("zpool status zhast").stdout, 20)
        host.run("hastd", check=True)
        if verb == "master":
            host.run("hastctl role secondary all", check=True)
            timed(lab.hast2, "master")
            timed(lab.hast2, "slave")
        assert timed(host, f"{verb} -c /etc/writer.conf") < HANGING_S
        assert host.path("/run/writer").exists() is (verb == "master")
        timed(host, "slave -c /etc/writer.conf")
        timed(host, "master")


def test_a_pool_that_the_other_node_has_had_meanwhile_is_never_cleared(lab: Lab) -> None:
    """Its memory is old: going on with it would write old over new."""
    with served_by(lab.hast1, lab.hast2):
        kill_hastd(lab.hast1)
        lab.hast1.run("hastctl role secondary all", check=True)
        timed(lab.hast2, "master")
        for number in range(20):
            write(lab.hast2, f"new{number}")
        timed(lab.hast2, "slave")
        timed(lab.hast1, "master")
        assert {"before", *(f"new{number}" for number in range(20))} <= files(lab.hast1)
        lab.hast1.run("zpool scrub zhast", check=True)
        lab.hast1.wait_for("scrub", lambda: "completed" in lab.hast1.run("zpool status zhast").stdout, 20)
        assert "errors: No known data errors" in lab.hast1.run("zpool status zhast").stdout


def test_hast_devd_sees_a_dead_pool_and_repairs_it(lab: Lab) -> None:
    with served_by(lab.hast1, lab.hast2):
        lab.hast1.run("hast-devd", check=True)
        time.sleep(2.5)
        before = len(lab.hast1.log())
        started = time.monotonic()
        kill_hastd(lab.hast1)
        lab.hast1.wait_for("a repair", lambda: "health: all is as it should be again" in lab.hast1.log()[before:], 30)
        print(f"from the death of hastd to a pool that is well: {time.monotonic() - started:.1f} s")
        write(lab.hast1, "repaired")
        told = lab.hast1.log()[before:]
        assert "done after" in told
        assert told.count("failover: Switching to primary") == 1
        for process in lab.hast1.processes("hast-devd"):
            process.kill()


def test_no_text_speaks_of_no_time_at_all(lab: Lab) -> None:
    assert "within 0.0 s" not in lab.hast1.log() + lab.hast2.log()


@pytest.fixture(scope="module")
def mail() -> Iterator[Lab]:
    """A pair with an ext4 on disk1 and a program in it, hast1 as master."""
    with Lab(configuration=one_disk.configuration("timeout 5"), etc={"failover.conf": MAIL_CONF}) as made:
        one_disk.bring_up(made)
        made.hast1.run("mkfs.ext4 -q /dev/hast/disk1", check=True)
        yield made


MAIL_CONF = """resources disk1
pool mail { type filesystem resource disk1 mount /run/mail fstype ext4 kill 2 }
service reader { start "sh -c 'cd /run/mail; sleep 300 >/dev/null 2>&1 & echo $! >/run/pid'"
    stop "kill $(cat /run/pid); rm /run/pid" status "test -e /run/pid" }
"""


@pytest.mark.parametrize("verb", ["master", "slave"])
def test_a_file_system_whose_hastd_died_is_mounted_anew_or_given_up(mail: Lab, verb: str) -> None:
    host = mail.hast1
    timed(host, "master")
    host.run(["sh", "-c", "echo kept | dd of=/run/mail/kept conv=fsync"], check=True)
    reader = host.path("/run/pid").read_text()
    for process in host.processes("^hastd"):
        process.kill()
    host.spawn(["sh", "-c", "echo lost | dd of=/run/mail/lost conv=fsync"])
    host.run("hastd", check=True)
    code, text = status(host)
    assert code == 1
    assert re.search(r"pool mail: mounted, but its device /dev/\S*loop\d+ is gone", text), text
    timed(host, verb)
    assert status(host)[0] == 0, status(host)[1]
    if verb == "master":
        assert host.path("/run/pid").read_text() != reader
        host.run(["sh", "-c", "echo more | dd of=/run/mail/more conv=fsync"], check=True)
        assert host.run("cat /run/mail/kept").stdout == "kept\n"
    else:
        assert "secondary" in one_disk.status(host)
