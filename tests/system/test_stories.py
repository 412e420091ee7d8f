"""What administrators and accidents do to a pair of Debians that is in use. Each story begins and ends with a pair
that is well: one master, roles right, pool ONLINE, copies equal, every record there that was acknowledged.

The pauses that the client saw are listed at the end of the run. HAST_POWEROFFS sets the number of poweroffs in a row.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import booted
import pytest
import recipe
from pair import UNITS, Failed, Pair
from releases import renumbered
from system_machine import Machine, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("system")]
WHO = ["master", "slave"]
PLANNED_S, CRASH_S, UNTOUCHED_S = 12.0, 15.0, 2.0
"""Longest pause that a story may make, on a machine that has other things to do as well."""
VANISHED_S = 10.0
"""The slave is gone without a word: `timeout` of hast.conf, and some."""
ALONE_S = 45.0
"""Longer than `wait-for-peer`."""

ROOT = Path(__file__).resolve().parents[2]
ORDER = Path(__file__).with_name("order_by_page.py")
Tell = Callable[..., AbstractContextManager[Pair]]


class Stage:
    """One pair for all stories; a new one after a story that went wrong."""

    def __init__(self, packages: Path) -> None:
        self.packages = packages
        self._pair: Pair | None = None

    def pair(self) -> Pair:
        if self._pair is None:
            pair = Pair(self.packages)
            self._pair = pair.__enter__()
        return self._pair

    def drop(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if reason := booted.missing():
        pytest.skip(reason)
    made = Stage(booted.packages("bookworm", ROOT, tmp_path_factory.mktemp("packages")))
    yield made
    made.drop()


@pytest.fixture
def tell(stage: Stage, request: pytest.FixtureRequest, record_pause: Callable[[str, float], None]) -> Tell:
    """A story: `with tell(limit_s) as pair`; at the end all is checked and the pause is measured.

    `cut_off`: a master without any link, which cannot know that another took over, may be primary beside it for a
    while; what it writes then is given up (docs/failures.md, "Both cables of the master are pulled").
    """

    @contextmanager
    def story(limit_s: float, check: bool = True, cut_off: bool = False) -> Iterator[Pair]:
        try:
            pair = stage.pair()
            with pair.story(cut_off):
                yield pair
                if check:
                    pair.check(cut_off)
                pair.stop_writer()
                pause = pair.pause_s(pair.since_s)
                record_pause(request.node.name, pause)
                if pause > limit_s:
                    raise Failed(f"the client was cut off for {pause:.1f} s, more than {limit_s:g}\n{pair.describe()}")
        except BaseException:
            stage.drop()
            raise

    return story


def chosen(pair: Pair, who: str) -> Machine:
    return pair.master if who == "master" else pair.slave


def limit(who: str, master_s: float, slave_s: float = UNTOUCHED_S) -> float:
    return master_s if who == "master" else slave_s


@contextmanager
def known_to_each_other(pair: Pair) -> Iterator[None]:
    """With keys, so that each node asks the other how it is."""
    keys = [
        f"on {each.name} {{ fingerprint {each.run('hastctl keygen --show').stdout.strip()} }}" for each in pair.machines
    ]
    for each in pair.machines:
        each.run(f"cp /etc/hast.conf /etc/hast.conf.was && printf '%s\\n' '{chr(10).join(keys)}' >>/etc/hast.conf")
    try:
        for command in ("hastctl reload", "hastctl wait synced --timeout 60"):
            for each in pair.machines:
                each.run(command)
        yield
    finally:
        for each in pair.machines:
            each.run("mv /etc/hast.conf.was /etc/hast.conf && hastctl reload")


class TestAccidents:
    @pytest.mark.parametrize("cables", [("pub",), ("repl",), ("pub", "repl")], ids="+".join)
    def test_cable_of_the_master(self, tell: Tell, cables: tuple[str, ...]) -> None:
        with tell(CRASH_S, cut_off=len(cables) == 2) as pair:
            master = pair.master
            for cable in cables:
                master.cable(cable).pull()
            if "pub" in cables:
                pair.wait_serves(pair.other(master))
            else:
                time.sleep(VANISHED_S)
            pair.wait_written()
            for cable in cables:
                master.cable(cable).plug()

    @pytest.mark.parametrize("who", WHO)
    def test_power_cut(self, tell: Tell, who: str) -> None:
        with tell(limit(who, CRASH_S, VANISHED_S)) as pair:
            machine = chosen(pair, who)
            machine.cut()
            pair.wait_serves(pair.other(machine))
            pair.wait_written()
            machine.power_on(wait=False)

    @pytest.mark.parametrize("first", WHO)
    @pytest.mark.parametrize("how", ["cut", "poweroff"])
    def test_both_off_and_one_boots_first(self, tell: Tell, how: str, first: str) -> None:
        with tell(120.0) as pair:
            slave, master = pair.slave, pair.master
            for machine in (slave, master):
                getattr(machine, how)()
            order = (master, slave) if first == "master" else (slave, master)
            order[0].power_on()
            order[1].power_on(wait=False)

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("unit", UNITS)
    def test_kill_9(self, tell: Tell, unit: str, who: str) -> None:
        with tell(limit(who, CRASH_S)) as pair:
            chosen(pair, who).run(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
            time.sleep(4)
            pair.wait_written()

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("units", itertools.combinations(UNITS, 2), ids="+".join)
    def test_two_are_killed(self, tell: Tell, units: tuple[str, str], who: str) -> None:
        with tell(limit(who, CRASH_S)) as pair:
            machine = chosen(pair, who)
            for unit in units:
                machine.run(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
            time.sleep(4)
            pair.wait_written()


class TestOnPurpose:
    @pytest.mark.parametrize("who", WHO)
    def test_poweroff(self, tell: Tell, who: str) -> None:
        with tell(limit(who, PLANNED_S)) as pair:
            machine = chosen(pair, who)
            machine.poweroff()
            pair.wait_serves(pair.other(machine))
            pair.wait_written()
            machine.power_on(wait=False)

    @pytest.mark.parametrize("who", WHO)
    def test_reboot(self, tell: Tell, who: str) -> None:
        with tell(limit(who, PLANNED_S)) as pair:
            machine = chosen(pair, who)
            machine.reboot()
            pair.wait_written()

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("unit", UNITS)
    def test_stop(self, tell: Tell, unit: str, who: str) -> None:
        with tell(limit(who, PLANNED_S)) as pair:
            machine = chosen(pair, who)
            machine.run(f"systemctl stop {unit}")
            pair.wait_serves(pair.other(machine) if who == "master" else pair.master)
            pair.wait_written()
            machine.run("systemctl start hast.target")

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("unit", UNITS)
    def test_restart(self, tell: Tell, unit: str, who: str) -> None:
        with tell(UNTOUCHED_S) as pair:
            master = pair.master
            chosen(pair, who).run(f"systemctl restart {unit}")
            pair.wait_written()
            assert pair.master is master

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("units", [*itertools.combinations(UNITS, 2), UNITS], ids="+".join)
    def test_several_are_restarted_at_once(self, tell: Tell, units: tuple[str, ...], who: str) -> None:
        """Only hastd's restart is a hand-over; without it nobody notices."""
        touched = PLANNED_S if "hastd" in units else UNTOUCHED_S
        with tell(limit(who, touched)) as pair:
            master = pair.master
            chosen(pair, who).run(f"systemctl restart {' '.join(units)}", timeout_s=150)
            pair.wait_written()
            if who == "slave" or "hastd" not in units:
                assert pair.serves(master), pair.describe()

    @pytest.mark.parametrize("who", WHO)
    @pytest.mark.parametrize("units", itertools.permutations(UNITS, 2), ids=" ".join)
    def test_two_are_stopped(self, tell: Tell, units: tuple[str, str], who: str) -> None:
        with tell(limit(who, PLANNED_S)) as pair:
            machine = chosen(pair, who)
            for unit in units:
                machine.run(f"systemctl stop {unit}")
            pair.wait_serves(pair.other(machine) if who == "master" else pair.master)
            pair.wait_written()
            machine.run("systemctl start hast.target")

    @pytest.mark.parametrize("who", WHO)
    def test_target_is_stopped(self, tell: Tell, who: str) -> None:
        with tell(limit(who, PLANNED_S)) as pair:
            machine = chosen(pair, who)
            machine.run("systemctl stop hast.target")
            pair.wait_serves(pair.other(machine) if who == "master" else pair.master)
            machine.run("systemctl start hast.target")

    @pytest.mark.parametrize(
        ("file", "unit", "edit"),
        [
            ("carp.conf", "carpd", "s/ resource disk3//"),
            ("carp.conf", "carpd", "s/advskew 100/advskew 90/"),
            ("carp.conf", "carpd", 's/pass [^ "]*/pass changed/'),
            ("devd.conf", "hast-devd", '$a notify 1 { match "system" "HAST"; action "true"; };'),
            ("failover.conf", "hast-devd", '$a hook after-master "true"'),
            ("failover.conf", "hastd", "s/kill 5/kill 4/"),
            ("hast.conf", "hastd", "s/timeout 5/timeout 6/"),
        ],
    )
    @pytest.mark.parametrize("how", ["reload", "kill --kill-whom=main --signal=HUP"], ids=["reload", "SIGHUP"])
    def test_reload(self, tell: Tell, file: str, unit: str, edit: str, how: str) -> None:
        with tell(UNTOUCHED_S) as pair:
            master = pair.master
            for machine in pair.machines:
                machine.run(f"cp /etc/{file} /etc/{file}.saved; sed -i '{edit}' /etc/{file}; ! diff /etc/{file}*")
                machine.run(f"systemctl {how} {unit}")
                pair.wait_written()
            for machine in pair.machines:
                machine.run(f"mv /etc/{file}.saved /etc/{file}; systemctl {how} {unit}")
                pair.wait_written()
            assert pair.master is master

    def test_upgrade(self, stage: Stage, tell: Tell) -> None:
        commands = recipe.fenced("upgrade.md", "1. On the slave:")
        with tell(PLANNED_S) as pair:
            later = renumbered(stage.packages, pair.base / "later", "+later")
            first = pair.slave
            for machine in (first, pair.other(first)):
                machine.bring(later, "/root/later")
                before = {unit: machine.main_pid(unit) for unit in UNITS}
                machine.run(f"cd /root/later; {commands}")
                same = [unit for unit in UNITS if machine.main_pid(unit) == before[unit]]
                assert same == [], "still of the former package"
                assert machine.run("dpkg-query -W -f '${Version}' hast").stdout.endswith("+later")
                pair.settle()

    def test_the_service_is_moved_by_an_order_from_the_page_and_not_before_root_allowed_it(self, tell: Tell) -> None:
        with tell(PLANNED_S) as pair, known_to_each_other(pair):
            master, script = pair.master, ORDER.read_text()
            master.tell("/root/order.py", script)
            master.run("apt-get -q install /dist/hast-monitor_*.deb", timeout_s=180)
            page = "curl -sf http://127.0.0.1:9457/order"
            until("hast-monitor", lambda: master.run(page, check=False).returncode == 0, 30)
            assert '"there": false' in master.run(page).stdout
            token = master.run("hast-order --make-token 2>/dev/null").stdout
            master.run("systemctl enable -q --now hast-order.socket")
            assert '"there": true' in master.run(page).stdout
            refused = master.run("python3 /root/order.py leave wrong", check=False)
            assert "The token is wrong." in refused.stdout
            assert "hast-monitor" not in master.run("ls -l /run/hast/order.sock /etc/hast-order.token").stdout
            done = master.run(f"python3 /root/order.py leave {token.strip()}", check=False, timeout_s=200)
            assert done.returncode == 0, done.stdout + master.log(pair.since_s)
            assert "handed over" in done.stdout
            pair.wait_serves(pair.other(master))
            noted = master.run("journalctl -b -t hast-order HAST_ACTION=leave -o json").stdout
            assert [f'"HAST_RESULT":"{result}"' in noted for result in ("refused", "begun", "done")] == [True] * 3
            assert token.strip() not in master.run("journalctl -b").stdout
            pair.wait_written()
            back = f"python3 /root/order.py take-over {token.strip()}"
            until("it to be taken back", lambda: master.run(back, check=False, timeout_s=60).returncode == 0, 60, 1.0)
            pair.wait_serves(master)
            master.run("carpctl state 1@eth0 auto")
            compare = f"python3 /root/order.py compare {token.strip()}"
            until("a comparison to begin", lambda: master.run(compare, check=False).returncode == 0, 60, 1.0)
            told = master.run("journalctl -b -t hast-order -t systemd -u hast-order -o cat").stdout
            assert "Operation not permitted" not in told
            assert "Permission denied" not in told
            master.run("systemctl disable -q --now hast-order.socket; rm /etc/hast-order.token")
            assert '"there": false' in master.run(page).stdout
            master.run("apt-get -q purge hast-monitor", timeout_s=180)

    @pytest.mark.timeout(3600)
    def test_poweroffs_in_a_row(self, tell: Tell) -> None:
        pauses = []
        for _ in range(int(os.environ.get("HAST_POWEROFFS", "2"))):
            with tell(PLANNED_S) as pair:
                machine = pair.master
                since = time.monotonic()
                machine.poweroff()
                pair.wait_serves(pair.other(machine))
                pair.wait_written()
                machine.power_on(wait=False)
                pauses.append(pair.pause_s(since))
        print(f"median pause of {len(pauses)} poweroffs: {statistics.median(pauses):.1f} s")


class TestWitness:
    def test_the_readme_adds_a_witness(self, tell: Tell) -> None:
        with tell(PLANNED_S) as pair:
            pair.with_witness()

    def test_witness_reboots(self, tell: Tell) -> None:
        with tell(UNTOUCHED_S) as pair:
            witness = pair.with_witness()
            witness.reboot()
            witness.wait_booted()

    def test_who_died_first_boots_alone_and_serves_nothing(self, tell: Tell) -> None:
        with tell(300.0) as pair:
            pair.with_witness()
            slave, master = pair.slave, pair.master
            slave.cut()
            pair.wait_written(30)
            master.cut()
            slave.power_on()
            end = time.monotonic() + ALONE_S
            while time.monotonic() < end:
                assert not pair.serves(slave), pair.describe()
                time.sleep(1)
            master.power_on()
            pair.wait_serves(master, 120)

    def test_both_cables_of_the_master(self, tell: Tell) -> None:
        with tell(CRASH_S) as pair:
            pair.with_witness()
            master = pair.master
            for cable in ("pub", "repl"):
                master.cable(cable).pull()
            pair.wait_serves(pair.other(master), 60)
            pair.wait_written()
            for cable in ("pub", "repl"):
                master.cable(cable).plug()


class TestEnd:
    def test_purge(self, stage: Stage, tell: Tell) -> None:
        with tell(PLANNED_S, check=False) as pair:
            machine, other = pair.master, pair.slave
            machine.run("apt-get -q -y purge hast python3-hast", timeout_s=200)
            pair.wait_serves(other)
            pair.wait_written()
            pair.stop_writer()
            assert pair.missing() == []
            other.run("apt-get -q -y purge hast python3-hast", timeout_s=200)
            for each in pair.machines:
                until(f"no device on {each.name}", lambda each=each: not each.path("/dev/hast").exists(), 10)
                left = "ls -d /etc/*hast* /etc/carp* /etc/devd* /etc/failover* /var/lib/hast /run/hast* 2>/dev/null"
                assert each.run(left, check=False).stdout == ""
                assert each.run("pgrep -a 'hastd|carpd|hast-devd|failover'", check=False).stdout == ""
        stage.drop()
