"""What is built beside the Python package: units, manual pages, completions, version numbers that agree."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hast.cli import completion
from hast.failover.devd.sources import CARPD_GRACE_S
from hast.failover.leave import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
PAGES = sorted((ROOT / "docs").glob("*.[158].md"))
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
OWN_ROOM = re.compile(r"^(ProtectSystem|ProtectHome|Private\w+|ReadWritePaths|ProtectKernel\w+|ProtectControlGroups)=")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("share")
    runpy.run_path(str(ROOT / "packaging" / "assemble.py"))["assemble"](into)
    return into


def installed_units(tmp_path: Path) -> list[str]:
    """Copies of the units whose programs exist."""
    for unit in (ROOT / "packaging" / "systemd").iterdir():
        (tmp_path / unit.name).write_text(re.sub(r"=/usr/sbin/(hast|carp)\S*", "=/bin/true", unit.read_text()))
    return [str(path) for path in sorted(tmp_path.iterdir()) if path.suffix in (".service", ".socket", ".target")]


def test_systemd_accepts_every_unit(tmp_path: Path) -> None:
    command = [tool("systemd-analyze"), "verify", "--man=no", *installed_units(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in told.stderr.splitlines() if re.search(r"hast|carpd", line)]
    assert (told.returncode, ours) == (0, [])


@pytest.mark.parametrize(
    ("unit", "at_most"),
    [
        ("hastd", 35),
        ("carpd", 25),
        ("hast-devd", 12),
        ("hast-witness", 15),
        ("hast-monitor", 15),
        ("hast-notify", 68),
        ("hast-order", 15),
    ],
)
def test_a_unit_is_no_more_exposed_than_it_must_be(unit: str, at_most: int) -> None:
    path = ROOT / "packaging" / "systemd" / f"{unit}.service"
    command = [tool("systemd-analyze"), "security", "--offline=yes", f"--threshold={at_most}", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout


def test_what_mounts_for_the_host_has_no_mount_namespace_of_its_own() -> None:
    text = (ROOT / "packaging" / "systemd" / "hast-action.service").read_text()
    assert not [line for line in text.splitlines() if OWN_ROOM.match(line)]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_waits_for_readiness_and_is_watched(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert {"Type=notify", "NotifyAccess=main", "Restart=on-failure", "StartLimitIntervalSec=0"} <= set(lines)
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert any(re.match(r"ExecStart=/usr/sbin/([a-z-]+ -F|hast-monitor$|hast-order$)", line) for line in lines)


def unit_lines(name: str) -> list[str]:
    return (ROOT / "packaging" / "systemd" / f"{name}.service").read_text().splitlines()


def test_the_service_moves_away_before_carpd_is_told_to_end_with_the_rights_and_mounts_of_the_host() -> None:
    command = "/usr/bin/nsenter --mount=/proc/1/ns/mnt /usr/sbin/failover leave --stopping carpd"
    assert f"ExecStop=-+{command}" in unit_lines("carpd")


@pytest.mark.parametrize(("unit", "mode"), [("hastd", "process"), ("hast-action", "process")])
def test_a_daemon_that_hands_over_by_itself_is_told_to_end_alone(unit: str, mode: str) -> None:
    """What it has started goes on: the hand-over; workers of a hastd that died, until they have ended in order."""
    assert f"KillMode={mode}" in unit_lines(unit)
    assert not [line for line in unit_lines(unit) if line.startswith("ExecStop")]


@pytest.mark.parametrize("unit", ["hastd", "carpd", "hast-devd", "hast-action"])
def test_a_unit_waits_longer_for_the_hand_over_than_that_may_take(unit: str) -> None:
    timeout = next(line for line in unit_lines(unit) if line.startswith("TimeoutStopSec="))
    assert int(timeout.partition("=")[2]) > DEADLINE_S + 10


def test_units_stop_with_the_address_first_and_the_data_last() -> None:
    after = {
        unit: next(line for line in unit_lines(unit) if line.startswith("After=")) for unit in ("carpd", "hast-devd")
    }
    assert {"hastd.service", "hast-devd.service"} <= set(after["carpd"].partition("=")[2].split())
    assert {"hastd.service", "hast-action.service"} <= set(after["hast-devd"].partition("=")[2].split())
    assert "Before=hastd.service hast-devd.service hast.target" in unit_lines("hast-action")


def test_what_carries_out_for_others_is_not_confined_and_says_so() -> None:
    """The rights of hooks and of `failover` are those of the administrator's hand; nothing else runs there."""
    confining = re.compile(r"^(CapabilityBoundingSet|NoNewPrivileges|SystemCallFilter|Restrict\w+|User)=")
    assert not [line for line in unit_lines("hast-action") if confining.match(line)]
    assert "Environment=HAST_PROGRAMS=/run/hast/programs.sock" in unit_lines("hastd")
    assert "User=hast-devd" in unit_lines("hast-devd")


def test_orders_from_the_page_are_closed_until_root_opens_them() -> None:
    opened = (ROOT / "packaging" / "systemd" / "hast-order.socket").read_text().splitlines()
    assert {"ConditionPathExists=/etc/hast-order.token", "SocketMode=0660", "SocketGroup=hast-order"} <= set(opened)
    assert not [line for line in unit_lines("hast-order") if line.startswith("WantedBy=")]
    for unit in UNITS:
        assert unit.stem == "hast-order" or "hast-order.s" not in unit.read_text(), unit
    rules = (ROOT / "debian" / "rules").read_text()
    assert "dh_installsystemd -phast --no-enable --no-start --name=hast-order\n" in rules
    assert "hast-order" not in (ROOT / "debian" / "hast.postinst").read_text()


def test_what_speaks_with_browsers_reaches_no_socket_where_something_can_be_ordered_without_the_token() -> None:
    """Root's own are mode 0600; of its groups one opens observe.sock, the other hast-order's."""
    lines = unit_lines("hast-monitor")
    groups = [line for line in lines if line.startswith("SupplementaryGroups=")]
    assert groups == ["SupplementaryGroups=hast hast-order"]
    assert {"DynamicUser=yes", "CapabilityBoundingSet=", "NoNewPrivileges=yes"} <= set(lines)
    members = (ROOT / "packaging" / "sysusers.d" / "hast.conf").read_text()
    assert "g hast-order -\n" in members
    assert not re.search(r"^m \S+ hast-order$", members, re.M)


def test_what_carries_orders_out_has_nothing_of_root_but_its_name() -> None:
    lines = set(unit_lines("hast-order"))
    assert {"CapabilityBoundingSet=", "PrivateNetwork=yes", "ProtectSystem=strict", "KillMode=process"} <= lines
    assert {"RestrictAddressFamilies=AF_UNIX", "Environment=HAST_PROGRAMS=/run/hast/programs.sock"} <= lines


def test_a_carpd_that_died_is_back_before_it_counts_as_gone() -> None:
    assert "RestartSec=1" in unit_lines("carpd")
    assert CARPD_GRACE_S > 2.0


def configure_package(state: Path, path: str) -> subprocess.CompletedProcess[str]:
    """What dpkg does after it has unpacked hast."""
    script = ["/bin/sh", str(ROOT / "debian" / "hast.postinst"), "configure"]
    environment = {**os.environ, "HAST_STATE": str(state), "PATH": path}
    return subprocess.run(script, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_installation_makes_a_key_once_and_keeps_it_from_then_on(tmp_path: Path) -> None:
    first = configure_package(tmp_path, PATH)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    key = (tmp_path / "node.key").read_bytes()
    assert (tmp_path / "node.key").stat().st_mode & 0o777 == 0o600
    again = configure_package(tmp_path, PATH)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (tmp_path / "node.key").read_bytes() == key


def test_a_key_without_its_certificate_is_left_alone_and_told(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_text("precious")
    done = configure_package(tmp_path, PATH)
    assert done.returncode == 0
    assert "is there already; it is not overwritten" in done.stderr
    assert (tmp_path / "node.key").read_text() == "precious"


def test_an_installation_without_openssl_goes_on_and_says_what_is_missing(tmp_path: Path) -> None:
    done = configure_package(tmp_path, str(Path(sys.executable).parent))
    assert done.returncode == 0
    assert "openssl is not installed" in done.stderr
    assert done.stderr.endswith("hast: this node has no key yet; make it with: hastctl keygen\n")


def test_the_package_brings_what_makes_the_key() -> None:
    fields = re.search(r"^Package: hast\n(.*?)\n\n", (ROOT / "debian" / "control").read_text(), re.M | re.S)
    assert fields is not None
    assert "\n openssl,\n" in fields[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_manual_page_renders_without_a_warning(page: Path, share: Path) -> None:
    section = page.suffixes[-2][1:]
    rendered = share / "man" / f"man{section}" / page.stem
    command = [tool("man"), "--warnings", "-E", "UTF-8", "-l", str(rendered)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert page.name.removesuffix(".md")[:-2] in shown.stdout


def test_every_command_has_a_manual_page() -> None:
    assert {f"{command}.8" for command in completion.COMMANDS} <= {page.stem for page in PAGES}


def test_every_console_script_is_a_known_command() -> None:
    scripts = re.search(r"^\[project\.scripts\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert scripts is not None
    assert set(re.findall(r"^([a-z-]+) =", scripts[1], re.M)) == set(completion.COMMANDS)


def test_versions_agree() -> None:
    project = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    package = re.match(r"hast \((.*)\)", (ROOT / "debian" / "changelog").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert project
    assert package
    assert newest
    assert project[1] == package[1] == newest[1]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_shell_accepts_every_completion(shell: str, share: Path) -> None:
    for script in sorted((share / "completions" / shell).iterdir()):
        arguments = ["--no-execute", str(script)] if shell == "fish" else ["-n", str(script)]
        checked = subprocess.run([tool(shell), *arguments], capture_output=True, text=True, timeout=20, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), script.name


def test_the_package_holds_every_completion_of_its_commands() -> None:
    listed = "".join(path.read_text() for path in (ROOT / "debian").glob("*.install"))
    for command in set(completion.COMMANDS) - {"hast-setup"}:
        assert f"usr/sbin/{command}\n" in listed
        assert listed.count(f"/{command} ") + listed.count(f"/_{command} ") + listed.count(f"/{command}.fish ") == 3


def test_no_paragraph_of_the_package_has_a_field_twice() -> None:
    """dpkg builds nothing then."""
    for paragraph in (ROOT / "debian" / "control").read_text().split("\n\n"):
        fields = [line.partition(":")[0] for line in paragraph.splitlines() if line[:1].strip() and line[0] != "#"]
        assert sorted(set(fields)) == sorted(fields)


def test_an_upgrade_restarts_every_daemon_and_stops_none() -> None:
    """debhelper's own default; each option that leaves a unit unstopped, but the target's, leaves it unrestarted."""
    asked = re.findall(r"^\tdh_installsystemd (.*)", (ROOT / "debian" / "rules").read_text(), re.M)
    assert {line for line in asked if "upgrade" in line} == {line for line in asked if "hast.target" in line}
