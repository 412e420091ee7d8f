"""Many faults in a row on one pair under load (`make torture`); HAST_SEED and HAST_ROUNDS choose which and how many.

After every fault: no acknowledged write is missing, the pair becomes complete and clean; at the end both copies are
the same byte for byte.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from hast.lab import Host, Lab, one_disk
from hast.lab.load import Writer

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.timeout(3600)]

BLOCKS = 2048
PRIMARY_WORKER = r"^hastd: disk1 \(primary\)"
SECONDARY_WORKER = r"^hastd: disk1 \(secondary\)"


class Trial:
    """A pair, who is primary, and the writer on the primary's device."""

    def __init__(self, lab: Lab, dice: random.Random) -> None:
        self.lab = lab
        self.dice = dice
        self.primary: Host = lab.hast1
        self.secondary: Host = lab.hast2
        self.writer = Writer(one_disk.device(self.primary), BLOCKS)

    def write_on(self) -> None:
        """Go on writing where the last writer ended."""
        last = self.writer
        self.writer = Writer(one_disk.device(self.primary), BLOCKS)
        self.writer.acknowledged = list(last.acknowledged)
        self.writer.issued = list(last.issued)
        self.writer.first_generation = max(last.issued) + 1
        self.writer.start()

    def check(self) -> None:
        """Stop writing; everything acknowledged must be there."""
        self.writer.stop()
        assert self.writer.wrong_blocks(one_disk.device(self.primary)) == [], self.primary.log()[-4000:]

    def pause(self, least_s: float = 0.1, most_s: float = 1.5) -> None:
        time.sleep(self.dice.uniform(least_s, most_s))

    def exchange(self) -> None:
        self.primary, self.secondary = self.secondary, self.primary


def kill_primary_worker(trial: Trial) -> None:
    for process in trial.primary.processes(PRIMARY_WORKER):
        process.kill()


def kill_secondary_worker(trial: Trial) -> None:
    for process in trial.secondary.processes(SECONDARY_WORKER):
        process.kill()


def kill_secondary_daemon(trial: Trial) -> None:
    for process in trial.secondary.processes("hastd"):
        process.kill()
    trial.pause()
    one_disk.start(trial.secondary, "secondary")


def freeze_secondary(trial: Trial) -> None:
    frozen = trial.secondary.processes(SECONDARY_WORKER)
    for process in frozen:
        process.kill(signal.SIGSTOP)
    trial.pause(0.5, 8.0)
    for process in frozen:
        process.kill(signal.SIGCONT)


def pull_cable(trial: Trial) -> None:
    cable = trial.dice.choice([trial.primary, trial.secondary]).cable("repl")
    cable.pull()
    trial.pause(0.1, 8.0)
    cable.plug()


def lose_frames(trial: Trial) -> None:
    trial.primary.cable("repl").lose(trial.dice.choice([1, 5, 20]))
    trial.pause(1.0, 4.0)
    trial.lab.switch.heal()


def switch(trial: Trial) -> None:
    one_disk.wait_complete(trial.primary)
    trial.check()
    one_disk.set_role(trial.primary, "secondary")
    trial.exchange()
    one_disk.set_role(trial.primary, "primary")


def cut_power_of_primary(trial: Trial) -> None:
    one_disk.wait_complete(trial.primary)
    trial.pause(0.0, 0.5)
    trial.primary.power_off()
    trial.writer.stop()
    trial.exchange()
    one_disk.set_role(trial.primary, "primary")
    trial.check()
    trial.secondary.power_on()
    one_disk.start(trial.secondary, "secondary")


def cut_power_of_secondary(trial: Trial) -> None:
    trial.secondary.power_off()
    trial.pause()
    trial.secondary.power_on()
    one_disk.start(trial.secondary, "secondary")


FAULTS: tuple[Callable[[Trial], None], ...] = (
    kill_primary_worker,
    kill_secondary_worker,
    kill_secondary_daemon,
    freeze_secondary,
    pull_cable,
    lose_frames,
    switch,
    cut_power_of_primary,
    cut_power_of_secondary,
)


def test_many_faults_in_a_row_lose_nothing() -> None:
    seed = int(os.environ.get("HAST_SEED") or random.randrange(1 << 32))
    rounds = int(os.environ.get("HAST_ROUNDS") or 40)
    dice = random.Random(seed)
    with Lab(configuration=one_disk.configuration("timeout 5"), disk_size_bytes=32 << 20) as lab:
        one_disk.bring_up(lab)
        trial = Trial(lab, dice)
        for number in range(rounds):
            fault = dice.choice(FAULTS)
            print(f"seed {seed} round {number}: {fault.__name__}, primary {trial.primary.name}", flush=True)
            trial.write_on()
            trial.pause()
            fault(trial)
            trial.pause()
            one_disk.wait_complete(trial.primary)
            trial.check()
        first, second = one_disk.digests(lab)
        assert first == second, f"seed {seed}: copies differ"
