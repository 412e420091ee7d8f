"""What can happen to a pair: one function for each action of a step. It strikes, and returns how that is mended."""

from __future__ import annotations

import time
from collections.abc import Callable

from hast.drill.decisions import ground
from hast.drill.decisions.steps import HICCUP_S
from hast.drill.pair import RESTART_S, Pair
from hast.lab.host import Host

Mend = Callable[[], None]
Action = Callable[[Pair, Host, Host], Mend]
WRITE_ON = 20
"""Records that clients have acknowledged between the two failures of a double one."""


def nothing() -> None:
    """There is nothing to mend."""


def switch(pair: Pair, master: Host, slave: Host) -> Mend:
    vhid = pair.vhid(master)
    master.run(f"carpctl state {vhid} backup", check=True)
    return lambda: _quietly(master, f"carpctl state {vhid} auto")


def client_cable(pair: Pair, master: Host, slave: Host) -> Mend:
    return _pull(pair, master, ground.PUB)


def link_cable(pair: Pair, master: Host, slave: Host) -> Mend:
    return _pull(pair, master, pair.rehearsed.link)


def both_cables(pair: Pair, master: Host, slave: Host) -> Mend:
    """They are put back when the host that is cut off has let go."""
    plug = _pull(pair, master, ground.PUB, ground.REPL)

    def mend() -> None:
        pair.wait_let_go(master)
        plug()

    return mend


def cables_out_and_in(pair: Pair, master: Host, slave: Host) -> Mend:
    """They are put back as soon as the other serves."""
    return _pull(pair, master, ground.PUB, ground.REPL)


def slave_client_cable(pair: Pair, master: Host, slave: Host) -> Mend:
    return _pull(pair, slave, ground.PUB)


def master_power(pair: Pair, master: Host, slave: Host) -> Mend:
    return _power(pair, master)


def slave_power(pair: Pair, master: Host, slave: Host) -> Mend:
    return _power(pair, slave)


def hiccup(pair: Pair, master: Host, slave: Host) -> Mend:
    pair.lab.switch.partition(master.name, slave.name, pair.rehearsed.link)
    time.sleep(HICCUP_S)
    pair.lab.switch.heal()
    return nothing


def worker_killed(pair: Pair, master: Host, slave: Host) -> Mend:
    workers = master.processes(r"^hastd: \S+ \(primary\)")
    workers[0].kill()
    return nothing


def hastd_killed(pair: Pair, master: Host, slave: Host) -> Mend:
    """The workers go on."""
    master.run(["sh", "-c", "kill -9 $(cat /var/run/hastd.pid)"], check=True)
    return _restarted(pair, master, "hastd")


def _killed(program: str, of_slave: bool = False) -> Action:
    """All processes of a program."""

    def kill(pair: Pair, master: Host, slave: Host) -> Mend:
        host = slave if of_slave else master
        pair.cluster.kill(host, program)
        return _restarted(pair, host, program)

    return kill


def service_killed(pair: Pair, master: Host, slave: Host) -> Mend:
    for process in master.processes(r"hast\.drill\.volume start"):
        process.kill()
    return nothing


def arbiter_lost(pair: Pair, master: Host, slave: Host) -> Mend:
    pair.lab.hosts[ground.WITNESS].power_off()
    return pair.start_arbiter


def link_then_master(pair: Pair, master: Host, slave: Host) -> Mend:
    plug = _pull(pair, master, pair.rehearsed.link)
    _write_on(pair)
    power = _power(pair, master)

    def mend() -> None:
        power()
        plug()

    return mend


def slave_then_master(pair: Pair, master: Host, slave: Host) -> Mend:
    _cut(pair, slave)
    _write_on(pair)
    power = _power(pair, master)
    pair.cluster.boot(slave)
    return power


def both_power(pair: Pair, master: Host, slave: Host) -> Mend:
    _cut(pair, slave, master)
    for host in (master, slave):
        pair.cluster.boot(host)
    return nothing


def both_power_one_boots(pair: Pair, master: Host, slave: Host) -> Mend:
    _cut(pair, slave, master)
    pair.cluster.boot(slave)
    return lambda: pair.cluster.boot(master)


def arbiter_then_master(pair: Pair, master: Host, slave: Host) -> Mend:
    back = arbiter_lost(pair, master, slave)
    time.sleep(2.0)
    power = _power(pair, master)

    def mend() -> None:
        back()
        power()

    return mend


ACTIONS: dict[str, Action] = {
    **{
        action.__name__: action
        for action in (
            switch,
            client_cable,
            link_cable,
            both_cables,
            slave_client_cable,
            master_power,
            slave_power,
            hiccup,
            worker_killed,
            hastd_killed,
            service_killed,
            arbiter_lost,
            link_then_master,
            slave_then_master,
            cables_out_and_in,
            both_power,
            both_power_one_boots,
            arbiter_then_master,
        )
    },
    "hastd_and_workers_killed": _killed("hastd"),
    "carpd_killed": _killed("carpd"),
    "devd_killed": _killed("hast-devd"),
    "slave_hastd_killed": _killed("hastd", of_slave=True),
    "slave_carpd_killed": _killed("carpd", of_slave=True),
}


def _pull(pair: Pair, host: Host, *networks: str) -> Mend:
    pair.cluster.pull(host.name, *networks)
    return lambda: pair.cluster.plug(host.name, *networks)


def _power(pair: Pair, host: Host) -> Mend:
    _cut(pair, host)
    return lambda: pair.cluster.boot(host)


def _cut(pair: Pair, *hosts: Host) -> None:
    """No kernel is left that would close the host's connections, so none may."""
    for host in hosts:
        for network in (ground.PUB, ground.REPL):
            pair.lab.cable(host.name, network).pull()
    for host in hosts:
        host.power_off()


def _restarted(pair: Pair, host: Host, program: str) -> Mend:
    """As systemd does, after RestartSec."""
    time.sleep(RESTART_S[program])
    pair.cluster.boot(host, program)
    return nothing


def _quietly(host: Host, command: str) -> None:
    host.run(command)


def _write_on(pair: Pair) -> None:
    """Clients write what the slave lacks."""
    pair.cluster.wait_written(WRITE_ON, timeout_s=90)
