"""Carries out how this host leaves (election/leaving.py): looks at hastd, carpd and systemd, then does the steps.

The steps downwards are a run of `slave` like any other: what hast-devd starts at the same moment waits for it and finds
nothing left to do.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hast.config.failover_model import ALL_RESOURCES, FailoverConfiguration
from hast.election import leaving
from hast.election.failover import Outcome as RunOutcome
from hast.election.failover import Verb
from hast.election.leaving import Action, Decision, Facts, Outcome, Program, Resource, Step, Vhid
from hast.failover.console import shout
from hast.failover.hastd import Hastd, HastdAbsent, HastdError
from hast.failover.jobs import jobs
from hast.failover.log import Log
from hast.failover.state import RunFiles
from hast.failover.successor import has_lost_disk, lacking
from hast.net.client import Carpd, CarpdError

DEADLINE_S = 120.0
ASK_S = 5.0
POLL_S = 0.05
AFTER_S = 20.0
"""The addresses are not taken back for so long after the end: what was to be ended after it has time to end."""
SUCCESSOR_S = 15.0
"""How long the other host may take from the address to the roles (failover.conf's `delay` is part of it)."""
SILENCE_S = 5.0
"""After so long without a new master on the segment there is none."""
DEFAULT_CONTROL = FailoverConfiguration("").control


class Overruled(Exception):
    """A later request wants this host to be master, or the program was told to end."""


@dataclass(frozen=True, slots=True)
class Request:
    """`load` reads failover.conf: None where there is none. `control`: hastd's socket."""

    load: Callable[[], FailoverConfiguration | None]
    control: str
    carpd: str
    ending: Program | None = None
    deadline_s: float = DEADLINE_S


class Leaving:
    """One request to leave. `told_to_end` is asked while it waits."""

    def __init__(self, request: Request, files: RunFiles, log: Log, told_to_end: Callable[[], bool]) -> None:
        self._request = request
        self._files = files
        self._log = log
        self._told_to_end = told_to_end
        self._hastd = Hastd(request.control)
        self._carpd = Carpd(request.carpd)
        self._ends_at_s = time.monotonic() + request.deadline_s
        self._served: list[str] = []
        self._without_disk: set[str] = set()
        self._gave_address = False
        self.failures: dict[str, str] = {}

    def execute(self) -> Outcome:
        """Look, decide, do. Raises Overruled, StateError."""
        facts = self._look()
        self._served = [resource.name for resource in facts.resources if resource.primary]
        plan = leaving.leave(facts)
        done = None
        try:
            while True:
                step = next(plan) if done is None else plan.send(done)
                done = self._perform(step)
        except StopIteration as stop:
            outcome = stop.value
            assert isinstance(outcome, Outcome)
        finally:
            if self._gave_address:
                self._tell_carpd(lambda: self._carpd.leave(AFTER_S))
        return outcome

    def foresee(self) -> tuple[Decision, list[str]]:
        """What `execute` would decide and do, in order, as long as nothing fails; nothing is changed."""
        facts = self._look()
        plan = leaving.leave(facts)
        lines: list[str] = []
        try:
            step = next(plan)
            while True:
                lines += self._in_words(step)
                step = plan.send(True)
        except StopIteration:
            return leaving.decide(facts), lines

    def _in_words(self, step: Step) -> list[str]:
        match step.action:
            case Action.KEEP_ADDRESS:
                return ["carpd keeps the virtual addresses for the carpd that comes next"]
            case Action.WARN:
                return [f"say aloud: {reason}" for reason in step.reasons]
            case Action.GIVE_ADDRESS:
                return ["give the virtual addresses to the other host, which begins at once"]
            case Action.TAKE_DOWN:
                return self._slave_lines()
            case Action.AWAIT_SUCCESSOR:
                return [f"wait until the other host serves, at most {SUCCESSOR_S:g} s"]

    def _slave_lines(self) -> list[str]:
        """What `failover slave` would do."""
        from hast.failover.build import build
        from hast.failover.former import leftover, remembered
        from hast.failover.report import look, plan_lines

        configuration = self._configuration
        if configuration is None:
            return ["wait until the rules of hast-devd have taken everything down (there is no failover.conf)"]
        last = self._files.load()
        try:
            stages = build(configuration, remembered(last), left=leftover(configuration, last))
        except HastdError as error:
            return [f"failover slave, of which nothing can be told: {error}"]
        steps = plan_lines(Verb.SLAVE, stages, look(stages, self._files))
        return [step.partition(". ")[2] for step in steps]

    def _perform(self, step: Step) -> bool:
        match step.action:
            case Action.KEEP_ADDRESS:
                return self._tell_carpd(self._carpd.keep)
            case Action.WARN:
                return self._warn(step.reasons)
            case Action.GIVE_ADDRESS:
                self._gave_address = self._tell_carpd(lambda: self._carpd.leave(self._left_s() + AFTER_S))
                return self._gave_address
            case Action.TAKE_DOWN:
                return self._take_down()
            case Action.AWAIT_SUCCESSOR:
                return self._await_successor()

    # Looking

    def _look(self) -> Facts:
        try:
            entries: Mapping[str, dict[str, Any]] = self._hastd.roles(ASK_S)
            hastd = True
        except HastdError:
            entries, hastd = {}, False
        try:
            vhids: Sequence[dict[str, Any]] = self._carpd.vhids()
            carpd = True
        except CarpdError:
            vhids, carpd = (), False
        last = self._files.load()
        self._without_disk = {name for name, entry in entries.items() if has_lost_disk(entry)}
        resources = [Resource(name, entry.get("role") == "primary", lacking(entry)) for name, entry in entries.items()]
        return Facts(
            [resource for resource in resources if resource.primary and self._is_ours(resource.name)],
            [_vhid(each, entries) for each in vhids],
            hastd,
            carpd,
            last.get("verb") == Verb.MASTER or (bool(last) and last.get("phase") != RunOutcome.DONE),
            self._request.ending,
            jobs() if self._request.ending else {},
        )

    def _primaries(self) -> list[str]:
        """Resources that are primary here; without a hastd there is none."""
        try:
            entries = self._hastd.roles(ASK_S)
        except HastdAbsent:
            return []
        except HastdError:
            return self._served
        return [name for name, entry in entries.items() if entry.get("role") == "primary" and self._is_ours(name)]

    def _is_ours(self, name: str) -> bool:
        """Whether failover.conf moves this resource."""
        ours = self._configuration.resources if self._configuration is not None else ALL_RESOURCES
        return ours == ALL_RESOURCES or name in ours

    @cached_property
    def _configuration(self) -> FailoverConfiguration | None:
        return self._request.load()

    def _left_s(self) -> float:
        return max(0.0, self._ends_at_s - time.monotonic())

    # Steps

    def _tell_carpd(self, tell: Callable[[], None]) -> bool:
        try:
            tell()
        except CarpdError as error:
            self._log.error(str(error))
            return False
        return True

    def _warn(self, reasons: Sequence[str]) -> bool:
        host = socket.gethostname().split(".")[0]
        what = f"{self._request.ending} ends" if self._request.ending else "it leaves"
        text = f"{host} was master, and {what} without a successor for its service: {'; '.join(reasons)}."
        self._log.error(text)
        if self._request.ending:
            shout(f"HAST: {text}")
        return True

    def _take_down(self) -> bool:
        if self._configuration is None:
            self._wait_for_rules()
        else:
            self._run_slave(self._configuration)
        left = self._primaries()
        for name in left:
            self.failures.setdefault(f"role {name}", "is still primary")
        return not left

    def _run_slave(self, configuration: FailoverConfiguration) -> None:
        from hast.failover.build import build
        from hast.failover.former import leftover, remembered
        from hast.failover.run import Run

        self._files.ask(Verb.SLAVE)
        last = self._files.load()
        try:
            stages = build(configuration, remembered(last, self._served), left=leftover(configuration, last))
        except HastdError as error:
            self.failures["roles"] = str(error)
            return
        run = Run(configuration, Verb.SLAVE, stages, self._files, self._log, self._is_over, self._ends_at_s)
        ending = run.execute()
        self.failures = dict(ending.failures)
        if ending.outcome is RunOutcome.GAVE_WAY:
            if self._left_s():
                raise Overruled
            self.failures.setdefault("deadline", f"not done within {self._request.deadline_s:g} s")

    def _wait_for_rules(self) -> None:
        """Without failover.conf: hast-devd's rules do it, now that the address is gone."""
        while self._gave_address and self._left_s() and self._primaries():
            self._pause()

    def _await_successor(self) -> bool:
        began_s = time.monotonic()
        while self._left_s() and time.monotonic() - began_s < SUCCESSOR_S:
            try:
                entries = self._hastd.roles(ASK_S)
            except HastdError:
                return False
            if all(self._is_served_there(name, entries) for name in self._served):
                return True
            if time.monotonic() - began_s > SILENCE_S and not self._another_master():
                return False
            self._pause()
        return False

    def _is_served_there(self, name: str, entries: Mapping[str, Mapping[str, Any]]) -> bool:
        """A secondary is connected only to a primary. Where this host has no disk to connect, carpd's word counts."""
        entry = entries.get(name, {})
        if entry.get("role") != "secondary" or entry.get("transition"):
            return False
        return bool(entry.get("connected")) or (name in self._without_disk and self._another_master())

    def _another_master(self) -> bool:
        try:
            masters = [each.get("master") or {} for each in self._carpd.vhids()]
        except CarpdError:
            return False
        return any(master.get("ago_s", SILENCE_S) < SILENCE_S for master in masters)

    def _is_over(self) -> bool:
        return self._told_to_end() or not self._left_s()

    def _pause(self) -> None:
        if self._told_to_end():
            raise Overruled
        time.sleep(min(POLL_S, self._left_s()))


def _vhid(each: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> Vhid:
    names = [str(name) for name in each.get("resources") or ()]
    held = bool(names) and all(entries.get(name, {}).get("role") == "primary" for name in names)
    label = f"{each.get('vhid')}@{each.get('interface')}"
    return Vhid(label, each.get("state") == "MASTER", bool(names), held)


def control_of(path: str, load: Callable[[], FailoverConfiguration | None]) -> str:
    """hastd's control socket as failover.conf names it; a file that cannot name one is not parsed."""
    try:
        if "control" not in Path(path).read_text():
            return DEFAULT_CONTROL
    except (OSError, ValueError):
        return DEFAULT_CONTROL
    configuration = load()
    return configuration.control if configuration is not None else DEFAULT_CONTROL
