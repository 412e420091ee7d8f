"""Configurations of a serving pair change and are read again, while a client writes: roles and service stay where they
are, the log says what changed, and a file with a mistake changes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from hast.lab.cluster import Cluster, carp_status, one_disk_failover, status
from hast.lab.host import Host
from hast.lab.laboratory import article_configuration

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

BOTH = "resources disk1 disk2\nhealth 1\n"
FAILOVER = one_disk_failover().replace("resources disk1\n", BOTH)
PAUSE_S = 6.0
"""A fail-over with its lost advertisements takes as long on a busy machine."""


@pytest.fixture(scope="module")
def served() -> Iterator[Cluster]:
    """hast1 is master of disk1 and disk2, and a client writes to disk1."""
    with Cluster(disks=2, failover=FAILOVER) as cluster:
        cluster.bring_up()
        cluster.start_writer()
        cluster.wait_written()
        yield cluster
        assert cluster.missing() == [], cluster.describe()
        for name, (first, second) in cluster.digests().items():
            assert first == second, f"the copies of {name} differ"


@contextmanager
def staying(cluster: Cluster) -> Iterator[None]:
    """The client notices nothing; nobody becomes another thing than it was."""
    became = [became_master(host) for host in cluster.pair]
    cluster.wait_written()
    asked_s = time.monotonic()
    with cluster.watched():
        yield
        cluster.wait_written(50)
    cluster.wait_settled(cluster.hast1)
    times = [at for _, at in cluster.journal().acknowledged if at >= asked_s - 1]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    print(f"longest pause {max(pauses):.2f} s")
    assert max(pauses) < PAUSE_S, "\n".join(cluster.timeline(asked_s))
    assert [became_master(host) for host in cluster.pair] == became
    for host in cluster.pair:
        lines = [text for at, text in host.timeline() if at >= asked_s]
        assert not [line for line in lines if "[disk1]" in line and "Role changed" in line and "to primary" in line], (
            lines
        )


def became_master(host: Host) -> int:
    return int(carp_status(host)["vhids"][0]["counts"]["became_master"])


def change(host: Host, name: str, edit: Callable[[str], str]) -> None:
    path = host.path(f"/etc/{name}")
    path.write_text(edit(path.read_text()))


def hang_up(host: Host, program: str) -> None:
    """`systemctl reload` of carpd and hast-devd."""
    host.run(["sh", "-c", f"kill -HUP $(cat /var/run/{program}.pid)"], check=True)


def said(host: Host, text: str, before: int) -> None:
    host.wait_for(f"{text!r} in the log", lambda: text in host.log()[before:], 10)


def test_a_changed_password_reloaded_on_one_host_after_the_other(served: Cluster) -> None:
    with staying(served):
        for host in (served.hast1, served.hast2):
            before = len(host.log())
            change(host, "carp.conf", lambda text: text.replace("pass mypassword", "pass another"))
            hang_up(host, "carpd")
            said(host, "1@pub: changed: password.", before)
            time.sleep(4)


def test_one_more_address_comes_and_goes(served: Cluster) -> None:
    more = 'ifconfig carp0 "inet vhid 1 alias 10.10.10.200/32"'
    with staying(served):
        readdress(served, lambda text: text.replace(" }\n", f" {more} }}\n"), True)
        readdress(served, lambda text: text.replace(f" {more}", ""), False)


def readdress(served: Cluster, edit: Callable[[str], str], wanted: bool) -> None:
    def has(host: Host) -> bool:
        return "10.10.10.200" in host.run("ip -4 addr show pub").stdout

    for host in (served.hast2, served.hast1):
        before = len(host.log())
        change(host, "carp.conf", edit)
        hang_up(host, "carpd")
        said(host, "1@pub: changed: addresses", before)
    served.hast1.wait_for("the addresses", lambda: has(served.hast1) is wanted, 5)
    assert not has(served.hast2)


def test_a_changed_setting_of_a_resource_that_is_served(served: Cluster) -> None:
    with staying(served):
        for host in (served.hast2, served.hast1):
            before = len(host.log())
            change(
                host, "hast.conf", lambda text: text.replace("resource disk1 {\n", "resource disk1 {\n\ttimeout 7\n")
            )
            host.run("hastctl reload", check=True)
            said(host, "Resource changed: timeout 20 -> 7.", before)
        served.wait_settled(served.hast1)


def test_a_resource_is_removed_and_added_beside_one_that_is_served(served: Cluster) -> None:
    second = article_configuration(2).removeprefix(article_configuration(1))
    files = {
        "carp.conf": ("resource disk1 resource disk2", "resource disk1"),
        "failover.conf": ("resources disk1 disk2", "resources disk1"),
        "hast.conf": (second, "# no second resource\n"),
    }
    with staying(served):
        served.resources = ["disk1"]
        for name, (present, absent) in files.items():
            for host in (served.hast2, served.hast1):
                apply(host, name, present, absent)
        assert [list(status(host)) for host in served.pair] == [["disk1"], ["disk1"]]
        assert re.search(r"\[disk2\].* Resource removed\.", served.hast1.log())
        served.wait_settled(served.hast1)
        served.resources = ["disk1", "disk2"]
        for name, (present, absent) in reversed(files.items()):
            for host in (served.hast2, served.hast1):
                apply(host, name, absent, present)
        assert re.search(r"\[disk2\].* Resource added\.", served.hast1.log())


def apply(host: Host, name: str, old: str, new: str) -> None:
    def edit(text: str) -> str:
        assert old in text, f"{name}: {text}"
        return text.replace(old, new)

    change(host, name, edit)
    if name == "carp.conf":
        before = len(host.log())
        hang_up(host, "carpd")
        said(host, "Configuration reloaded", before)
    elif name == "hast.conf":
        host.run("hastctl reload", check=True, timeout_s=60)


def test_other_rules_of_hast_devd(served: Cluster) -> None:
    with staying(served):
        for host in served.pair:
            before = len(host.log())
            change(host, "devd.conf", lambda text: text + 'notify 1 { match "system" "NONE"; action "true"; };\n')
            hang_up(host, "hast-devd")
            said(host, "3 rules of /etc/devd.conf, read again", before)


@pytest.mark.parametrize(
    ("name", "program", "refusal"),
    [
        ("carp.conf", "carpd", "Configuration not reloaded: /etc/carp.conf:"),
        ("devd.conf", "hast-devd", "rules not changed: /etc/devd.conf:"),
        ("hast.conf", "hastd", "Configuration not reloaded."),
    ],
)
def test_a_file_with_a_mistake_changes_nothing(served: Cluster, name: str, program: str, refusal: str) -> None:
    with staying(served):
        for host in served.pair:
            good = host.path(f"/etc/{name}").read_text()
            before = len(host.log())
            change(host, name, lambda text: text + "\nnonsense {\n")
            hang_up(host, program)
            said(host, refusal, before)
            host.path(f"/etc/{name}").write_text(good)
