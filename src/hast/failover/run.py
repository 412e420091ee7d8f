"""Carries out a fail-over plan: one run at a time, parts of a step side by side, everything within its deadline.

Decides nothing about the order (election/failover.py) and nothing about how a part is moved (its adapter).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from hast.config.failover_model import FailoverConfiguration, HookTime
from hast.election import failover as plans
from hast.election.failover import Answer, Direction, Ending, Outcome, Step, Verb
from hast.failover.build import Stages
from hast.failover.commands import Commands
from hast.failover.former import former_texts
from hast.failover.log import Log
from hast.failover.part import Context, Ghost, GiveWay, Part, PartError
from hast.failover.state import RunFiles

MARGIN_S = 5.0
"""What a part may take beyond its deadline before the run goes on without it."""
LOCK_POLL_S = 0.02


class Run:
    """One run of `master` or `slave`. `told_to_end` is asked besides the request file.

    No part gets time beyond `ends_at_s` on the monotonic clock.
    """

    def __init__(
        self,
        configuration: FailoverConfiguration,
        verb: Verb,
        stages: Stages,
        files: RunFiles,
        log: Log,
        told_to_end: Callable[[], bool] = lambda: False,
        ends_at_s: float = math.inf,
    ) -> None:
        self._configuration = configuration
        self._verb = verb
        self._stages = stages
        self._files = files
        self._log = log
        self._told_to_end = told_to_end
        self._ends_at_s = ends_at_s
        self._commands = Commands(str(files.state_path))
        self._state: dict[str, Any] = {}

    def overruled(self) -> bool:
        """Whether this run should end at the next safe point."""
        return self._told_to_end() or self._files.overruled()

    def execute(self) -> Ending:
        """Wait for the turn, then drive the plan to its end. Raises StateError."""
        if not self._take_turn():
            return Ending(Outcome.GAVE_WAY)
        try:
            self._begin()
            ending = self._drive()
            self._finish(ending)
            return ending
        finally:
            self._files.unlock()

    def _take_turn(self) -> bool:
        """Wait until no other run is in progress; one that is in the way for too long is killed."""
        patience_s = max((part.timeout_s for part in self._stages.parts.values()), default=0.0) + 2 * MARGIN_S
        until = time.monotonic() + patience_s
        told = False
        while not self._files.try_lock():
            if self.overruled():
                self._log.debug(f"A later request overrules this {self._verb}; nothing was done.")
                return False
            holder = self._files.holder()
            if not told and holder["pid"]:
                told = True
                self._log.debug(f"Waiting for failover {holder.get('verb')} (process {holder['pid']}).")
            if time.monotonic() >= until:
                until += patience_s
                if holder.get("verb") != self._verb and (pid := self._files.kill_holder()):
                    self._log.error(f"Process {pid} did not give way within {patience_s:.0f} s and was killed.")
            time.sleep(LOCK_POLL_S)
        return True

    def _begin(self) -> None:
        self._state = {
            "verb": self._verb,
            "request": self._files.request,
            "phase": "running",
            "started_s": time.time(),
            "resources": list(self._stages.resources),
            "configuration": self._configuration.text,
            "former": former_texts(self._files.load(), self._configuration.text),
            "step": None,
            "done": [],
            "failures": {},
        }
        self._files.save(self._state)
        stuck = self._commands.end_leftovers(MARGIN_S) if self._commands.leftovers() else []
        if stuck:
            self._log.error(f"Programs of an earlier run cannot be ended: processes {stuck}.")
        names = " ".join(self._stages.resources)
        kind = "primary" if self._verb is Verb.MASTER else "secondary"
        self._log.debug(f"Switching to {kind} provider for {names}.")

    def _drive(self) -> Ending:
        plan = plans.plan(self._verb, self._stages.items)
        try:
            step = next(plan)
            while True:
                answer = Answer(give_way=True) if self.overruled() else self._perform(step)
                step = plan.send(answer)
        except StopIteration as stop:
            ending = stop.value
            assert isinstance(ending, Ending)
            return ending

    def _perform(self, step: Step) -> Answer:
        self._state["step"] = {"direction": step.direction, "items": list(step.items), "since_s": time.time()}
        self._files.save(self._state)
        workers = [_Worker(self._stages.parts[name], step.direction, self._context) for name in step.items]
        for worker in workers:
            worker.start()
        failures: dict[str, str] = {}
        gave_way = False
        for worker in workers:
            failure = worker.result()
            gave_way = gave_way or worker.gave_way
            if failure is None:
                self._state["done"] += [worker.part.name] if worker.is_done else []
            else:
                failures[worker.part.name] = failure
        if step.direction is not Direction.LET_GO:
            self._state["failures"] |= failures
        if step.direction is Direction.UP and not failures and self._stages.switched_after in step.items:
            self._log.debug(f"Role for HAST resources {' '.join(self._stages.resources)} switched to primary.")
        renew = frozenset(worker.part.name for worker in workers if worker.to_renew)
        loose = frozenset(worker.part.name for worker in workers if worker.is_ghost)
        return Answer(failures, give_way=gave_way or self.overruled(), renew=renew, loose=loose)

    def _context(self, timeout_s: float) -> Context:
        left_s = max(0.0, self._ends_at_s - time.monotonic())
        return Context(self._log, self._commands, min(timeout_s, left_s), self.overruled)

    def _finish(self, ending: Ending) -> None:
        self._state |= {"phase": ending.outcome, "step": None, "finished_s": time.time()}
        self._state["failures"] = dict(ending.failures)
        self._files.save(self._state)
        if ending.outcome is Outcome.GAVE_WAY:
            self._log.debug(f"failover {self._verb} gave way; what it had done is the next run's to undo.")
        if ending.outcome is Outcome.FAILED:
            for name, why in ending.failures.items():
                self._log.error(f"failover {self._verb}: {name}: {why}")
            self._run_failure_hooks(ending)

    def _run_failure_hooks(self, ending: Ending) -> None:
        told = "\n".join(f"{name}: {why}" for name, why in ending.failures.items())
        environment = {"HAST_FAILOVER_VERB": str(self._verb), "HAST_FAILOVER_FAILURES": told}
        for hook in self._configuration.hooks:
            if hook.when is HookTime.FAILURE:
                argv = ("/bin/sh", "-c", hook.command)
                result = self._commands.run(argv, hook.timeout_s, marked=False, environment=environment)
                if result.code != 0:
                    self._log.error(f"Hook failure failed: {hook.command}: {result.problem()}.")


class _Worker:
    """One part of a step, in a thread of its own so that a hanging kernel call never hangs the run."""

    def __init__(self, part: Part, direction: Direction, context: Callable[[float], Context]) -> None:
        self.part = part
        self.gave_way = self.to_renew = self.is_ghost = False
        self._direction = direction
        self._up = direction is Direction.UP
        self._context = context(part.timeout_s)
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._work, name=part.name, daemon=True)

    @property
    def is_done(self) -> bool:
        """Whether the part, which did not fail, is where the run wants it."""
        return not self.to_renew and self._direction is not Direction.LET_GO

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def result(self) -> str | None:
        """Wait for the end, at most MARGIN_S past the deadline; None or one line of what went wrong."""
        self._thread.join(self._context.left_s() + MARGIN_S)
        if self._thread.is_alive():
            return f"still busy after {self.part.timeout_s + MARGIN_S:.0f} s (a kernel call hangs); gone on without it"
        return self._failure

    def _work(self) -> None:
        try:
            if self._direction is Direction.LET_GO:
                self.part.let_go(self._context)
                return
            if self.part.is_up(self._context) is self._up:
                self._look_after()
                return
            (self.part.up if self._up else self.part.down)(self._context)
        except GiveWay:
            self.gave_way = True
            self._failure = "interrupted: gave way to a later request"
        except (PartError, OSError) as error:
            self._failure = str(error)
            self.is_ghost = isinstance(error, Ghost)
        except Exception as error:
            self._failure = f"error in the program: {type(error).__name__}: {error}"

    def _look_after(self) -> None:
        """A part that is up is not always well."""
        ailment = self.part.ailment(self._context) if self._up else ""
        if not ailment:
            return
        self._context.log.error(f"{self.part.name}: {ailment}.")
        self.to_renew = not self.part.mend(self._context, ailment)
