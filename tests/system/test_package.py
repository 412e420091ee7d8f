"""One machine's life with the package: install, start, use, die and come back, remove. Tests run in order."""

from __future__ import annotations

import re
import time

import pytest
from booted import System

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("system")]
SUITES = ["bookworm", "trixie"]
SERVICES = ("hast-action", "hastd", "hast-devd", "carpd", "hast-witness")
COMPILED = {"trixie": " compiled"}
"""What `--version` adds where the release has a compiler that can (debian/rules)."""
CONFIGURATION = {
    "/etc/hast.conf": "resource disk1 { on hast1 { local /srv/disk1 remote none } }",
    "/etc/carp.conf": 'interface pub\non hast1 { ifconfig carp0 "inet 10.10.10.180/24 vhid 1 pass secret" }',
    "/etc/failover.conf": "resources disk1\npool mail { type filesystem resource disk1 mount /mnt }",
    "/etc/devd.conf": "\n".join(
        f'notify 30 {{ match "system" "IFNET"; match "subsystem" "carp0"; match "type" "{event}"; '
        f'action "failover {verb}"; }};'
        for event, verb in (("LINK_UP", "master"), ("LINK_DOWN", "slave"))
    ),
}
EVERY_FILE = (
    "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/tmp/*' -not -path '/var/log/*'"
    " -not -path '/var/cache/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' -not -path '/root/*'"
    " -not -path '/var/lib/systemd/*' -not -path '/srv/*' -not -name __pycache__ -not -path '*/__pycache__/*' | sort;"
    " find /run /dev/hast 2>/dev/null | grep -i -E 'hast|carp' | sort; grep -E 'hast|carp' /etc/passwd /etc/group"
)
before: set[str] = set()


def until(system: System, command: str, deadline_s: float = 60.0) -> None:
    """The command succeeds within the deadline."""
    end = time.monotonic() + deadline_s
    while system.run(command, check=False).returncode:
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {command}\n{journal(system)}"
        time.sleep(0.5)


def journal(system: System) -> str:
    return system.run("journalctl -b --no-pager -n 60", check=False).stdout


def property_of(system: System, unit: str, name: str) -> str:
    return system.run(f"systemctl show --value -p {name} {unit}").stdout.strip()


@pytest.mark.parametrize("system", SUITES, indirect=True)
class TestLife:
    def test_apt_installs_without_a_network(self, system: System) -> None:
        before.clear()
        before.update(system.run(EVERY_FILE, check=False).stdout.splitlines())
        system.run("ip link add pub type veth peer name switch && ip link set pub up && ip link set switch up")
        system.run("ip address add 10.10.10.1/24 dev pub; truncate -s 64M /srv/disk1")
        system.run("apt-get -q -y install /dist/*.deb")
        assert system.run("systemctl --failed --plain --no-legend").stdout == ""

    def test_the_node_has_a_key_of_its_own(self, system: System) -> None:
        assert re.fullmatch("[0-9a-f]{64}\n", system.run("hastctl keygen --show").stdout)
        assert system.run("stat -c %a /var/lib/hast /var/lib/hast/node.key").stdout.split() == ["711", "640"]

    def test_commands_and_manual_pages_are_there(self, system: System) -> None:
        for command in (
            "hastd",
            "hastctl",
            "carpd",
            "carpctl",
            "hast-devd",
            "failover",
            "hast-notify",
            "hast-witness",
            "hast-monitor",
            "hast-order",
        ):
            told = system.run(f"{command} --version").stdout
            assert re.fullmatch(rf"{command} \d\S+{COMPILED.get(system.suite, '')}\n", told)
            assert "NAME" in system.run(f"man {command}").stdout
        for page in ("hast.conf", "carp.conf", "failover.conf", "hast-devd.conf", "hast-notify.conf"):
            system.run(f"man 5 {page}")

    def test_an_unconfigured_machine_starts_nothing_but_the_witness(self, system: System) -> None:
        until(system, "systemctl is-active -q hast-witness")
        states = [property_of(system, unit, "ActiveState") for unit in SERVICES]
        assert states == ["inactive"] * 4 + ["active"], journal(system)

    def test_the_target_becomes_active(self, system: System) -> None:
        for path, text in CONFIGURATION.items():
            system.tell(path, text)
        system.run("chmod 600 /etc/carp.conf && hastctl create disk1 && systemctl start hast.target")
        for unit in ("hast.target", *SERVICES):
            assert property_of(system, unit, "ActiveState") == "active", journal(system)
        assert property_of(system, "hastd", "StatusText") == "1 resources, 1 init."
        assert property_of(system, "hast-witness", "User") == "hast-witness"

    def test_the_address_moves_the_role_and_the_file_system(self, system: System) -> None:
        system.run("apt-get --version; command -v mkfs.ext4")
        until(system, "ip address show dev pub | grep -q 10.10.10.180")
        until(system, "test -b /dev/hast/disk1")
        system.run("failover slave; hastctl role primary disk1 && mkfs.ext4 -q /dev/hast/disk1 && failover master")
        until(system, "mountpoint -q /mnt")
        system.run("echo kept >/mnt/file && sync")
        assert "device: " not in system.run("journalctl -b -p err -u hastd -o cat").stdout

    def test_who_reads_foreign_text_has_no_rights(self, system: System) -> None:
        worker = system.run("hastctl list disk1 | awk '/workerpid|pid:/ {print $2; exit}'").stdout.strip()
        for pid, user in ((worker, "hast-worker"), (property_of(system, "hast-devd", "MainPID"), "hast-devd")):
            assert system.run(f"ps -o user:32= -p {pid}").stdout.strip() == user
            rights = system.run(f"grep -E 'CapEff|NoNewPrivs' /proc/{pid}/status").stdout.split()
            assert rights == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]

    def test_hooks_run_as_root_with_all_rights(self, system: System) -> None:
        system.run("printf '#!/bin/sh\nid -u >/root/hook; grep CapEff /proc/self/status >>/root/hook' >/root/hook.sh")
        system.run("chmod 755 /root/hook.sh; sed -i 's|^resource disk1 {|& exec /root/hook.sh|' /etc/hast.conf")
        system.run("hastctl reload && failover slave && failover master")
        until(system, "test -s /root/hook")
        assert system.run("cat /root/hook").stdout == "0\n" + system.run("grep CapEff /proc/1/status").stdout

    def test_the_monitor_asks_hastd_with_no_right_but_that_of_the_group(self, system: System) -> None:
        until(system, "curl -sf http://127.0.0.1:9457/metrics | grep -q '^hast_up.* 1.0'")
        assert system.run("stat -c '%a %G' /run/hast/observe.sock").stdout == "660 hast\n"
        assert system.run("ps -o user= -p $(systemctl show --value -p MainPID hast-monitor)").stdout.strip() != "root"
        assert "/page.js" in system.run("curl -sf http://127.0.0.1:9457/").stdout
        assert "resources" in system.run("curl -sf http://127.0.0.1:9457/view").stdout
        live = system.run("timeout 3 curl -sN http://127.0.0.1:9457/live || true").stdout
        assert "event: hello" in live, live
        page = system.run("curl -sf http://127.0.0.1:9457/metrics").stdout
        assert 'hast_resource_role{node="hast1",resource="disk1",role="primary"} 1.0' in page
        assert "process_cpu_seconds_total" in page

    def test_nothing_can_be_ordered_from_the_page_before_root_allows_it(self, system: System) -> None:
        page = "curl -s http://127.0.0.1:9457/order"
        assert system.run(page).stdout == '{"there": false, "refused": ""}'
        assert property_of(system, "hast-order.socket", "UnitFileState") == "disabled"
        system.run("systemctl start hast-order.socket")
        assert system.run(page).stdout == '{"there": false, "refused": ""}', "there is no token"
        token = system.run("hast-order --make-token 2>/dev/null; systemctl start hast-order.socket").stdout.strip()
        assert system.run("stat -c '%a %U' /etc/hast-order.token").stdout == "600 root\n"
        assert system.run("stat -c '%a %G' /run/hast/order.sock").stdout == "660 hast-order\n"
        assert property_of(system, "hast-order", "ActiveState") == "inactive", "nobody has ordered"
        order = f'{{"token": "{token}", "action": "leave", "targets": [], "seen": "", "typed": ""}}'
        told = system.run(
            f"{page} -H 'Origin: http://127.0.0.1:9457' -H 'Content-Type: application/json' -d '{order}'"
        ).stdout
        assert "What has to be true has changed" in told, told + journal(system)
        rights = system.run("grep -E 'CapEff|NoNewPrivs' /proc/$(systemctl show --value -p MainPID hast-order)/status")
        assert rights.stdout.split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
        system.run("systemctl stop hast-order.socket hast-order")
        assert system.run(page).stdout == '{"there": false, "refused": ""}'

    def test_a_user_that_may_only_look_tells_of_the_fail_over(self, system: System) -> None:
        assert property_of(system, "hast-notify", "ActiveState") == "inactive"
        system.tell("/etc/hast-notify.conf", 'command "cat >>/var/lib/hast-notify/told" { gather 0 }')
        system.run("chown root:hast-notify /etc/hast-notify.conf && chmod 640 /etc/hast-notify.conf")
        assert system.run("stat -c %G:%a /run/hast/observe.sock").stdout == "hast:660\n"
        system.run("systemctl start hast-notify")
        assert property_of(system, "hast-notify", "User") == "hast-notify"
        until(system, """grep -q '"seq": [0-9]' /var/lib/hast-notify/state.json""")
        system.run("failover slave; failover master")
        until(system, "grep -q failover-done /var/lib/hast-notify/told")
        until(system, "journalctl -t hast-notify HAST_EVENT=failover-done -o cat | grep -q 'failover master of disk1'")

    def test_nothing_that_a_unit_forbids_is_needed(self, system: System) -> None:
        units = ("carpd", "hast-witness", "hast-monitor", "hast-devd", "hastd", "hast-notify")
        units += ("hast-action", "hast-order")
        told = system.run(f"journalctl -b -o cat {' '.join(f'-u {unit}' for unit in units)}").stdout
        assert not re.findall(r".*(?:Read-only file system|Operation not permitted|Permission denied).*", told)

    @pytest.mark.parametrize("unit", ["hastd", "hast-devd", "hast-witness", "hast-monitor", "carpd"])
    def test_a_hung_daemon_is_replaced(self, system: System, unit: str) -> None:
        if unit != "carpd":
            system.run("systemctl stop carpd")
            until(system, "! mountpoint -q /mnt && ! test -e /dev/hast/disk1")
        drop_in = f"/run/systemd/system/{unit}.service.d"
        system.run(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=3\\n' >{drop_in}/watch.conf")
        system.run(f"systemctl daemon-reload && systemctl restart {unit}")
        old = property_of(system, unit, "MainPID")
        time.sleep(5)
        assert property_of(system, unit, "MainPID") == old, "a healthy daemon was killed by its watchdog"
        system.run(f"kill -STOP {old}")
        until(system, f"test $(systemctl show --value -p NRestarts {unit}) -ge 1 && systemctl is-active -q {unit}")
        assert property_of(system, unit, "MainPID") != old
        system.run(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart {unit}")

    def test_stop_gives_the_address_up_and_then_the_service(self, system: System) -> None:
        until(system, "mountpoint -q /mnt")
        system.run("systemctl stop hast.target")
        for unit in SERVICES[:4]:
            until(system, f"test $(systemctl show --value -p ActiveState {unit}) = inactive", 200.0)
        assert "10.10.10.180" not in system.run("ip address show dev pub").stdout
        system.run("! mountpoint -q /mnt && ! ls /dev/hast/disk1")

    def test_the_data_is_reached_without_hast(self, system: System) -> None:
        offset = re.search(r"localoff: (\d+)", system.run("hastctl dump disk1").stdout)
        assert offset is not None
        system.run(f"mount -o ro,loop,offset={offset[1]} /srv/disk1 /mnt")
        assert system.run("cat /mnt/file; umount /mnt").stdout == "kept\n"

    def test_purge_leaves_nothing_and_touches_no_disk(self, system: System) -> None:
        checksum = system.run("sha256sum /srv/disk1").stdout
        system.run("apt-get -q -y purge hast hast-monitor hast-witness python3-hast")
        left = set(system.run(EVERY_FILE, check=False).stdout.splitlines()) - before
        assert left == set()
        assert system.run("sha256sum /srv/disk1").stdout == checksum
