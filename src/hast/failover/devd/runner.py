"""Runs the actions of rules: one queue per subsystem, in order, each action with a deadline, its output in the log.

A queue that overflows forgets its oldest event: the newest is the one that tells how things stand. While an action runs
and an event with other actions waits behind it, a descriptor told to the action by HAST_DEVD_NEWER_FD becomes readable,
so that a program that knows it (failover) can give way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hast.config.devd_model import Rule
from hast.daemon import elsewhere
from hast.failover.devd.events import Event
from hast.failover.devd.rules import choose, command, environment, variables

NEWER_VARIABLE = "HAST_DEVD_NEWER_FD"
MAX_QUEUE = 64
MAX_LINE_BYTES = 4096
MAX_LINES = 2000
TERM_S = 2.0
NOT_FOUND = 127
LEAVE_S = 150.0
"""More than `failover leave` gives itself."""
_log = logging.getLogger("hast.devd")


class Newer:
    """Whether something else was asked for while an action runs. Said once, heard also by who listens later."""

    def __init__(self) -> None:
        self._said = False
        self._listener: Callable[[], None] | None = None

    def say(self) -> None:
        said, self._said = self._said, True
        if not said and self._listener is not None:
            self._listener()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """`listener` is called once, at once if it was said already; None: nobody listens any more."""
        self._listener = listener
        if self._said and listener is not None:
            listener()


Execute = Callable[[Rule, int, Event, Newer], Awaitable[int]]
"""Runs the action of this number of a rule to its end; returns its exit code."""


class Runner:
    """Takes events, picks rules, has actions run by `execute`. Used from one event loop."""

    def __init__(self, rules: Sequence[Rule], execute: Execute) -> None:
        self.rules = tuple(rules)
        self.execute = execute
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._last: dict[tuple[str, str], Event] = {}

    def take(self, event: Event) -> None:
        """Act on an event. A `current` one that says what was already known is passed over."""
        last = self._last.get(event.queue)
        if event.current and last is not None and last.variables.get("type") == event.variables.get("type"):
            return
        self._last[event.queue] = event
        rule = choose(self.rules, event).rule
        _log.debug("event %s: %s", event, f"rule {rule.location}" if rule else "no rule")
        if rule is None:
            return
        queue = self._queues.get(event.queue)
        if queue is None or queue.done:
            queue = self._queues[event.queue] = _Queue(self)
        queue.put(event, rule)

    def repeat(self, wanted: Callable[[Event], bool]) -> None:
        """Act once more on the last event of each queue that is `wanted`: what it caused has been undone."""
        for event in [event for event in self._last.values() if wanted(event)]:
            self.take(replace(event, current=False))

    def carpd_gone(self) -> None:
        """carpd is away for good: its vhids are no longer master here, whatever was the last that it said."""
        for event in [event for event in self._last.values() if is_carpd(event)]:
            lost = _lost(event)
            if event.variables.get("type") not in (lost.variables["type"], "BACKUP"):
                self.take(lost)

    def moves_service(self) -> bool:
        """Whether a rule acts on the loss of an address that carpd told of: the service of this host moves by us."""
        return any(choose(self.rules, _lost(event)).rule for event in self._last.values() if is_carpd(event))

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing runs, at most `timeout_s`; waiting events are forgotten."""
        tasks = [queue.close() for queue in self._queues.values() if not queue.done]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)


def is_carpd(event: Event) -> bool:
    """Whether carpd told it: what it says is a state that lasts."""
    return "vhid" in event.variables


def _lost(event: Event) -> Event:
    """What carpd would have said last of a vhid, had it said so before it was gone."""
    down = "LINK_DOWN" if event.variables["system"] == "IFNET" else "INIT"
    return Event({**event.variables, "type": down, "reason": "carpd is gone"})


class _Queue:
    """The waiting events of one subsystem and the task that works them off; the task ends when there are none."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: deque[tuple[Event, Rule]] = deque()
        self._running: Rule | None = None
        self._newer: Newer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def put(self, event: Event, rule: Rule) -> None:
        if len(self._waiting) >= MAX_QUEUE:
            forgotten, _ = self._waiting.popleft()
            _log.warning("too many events of %s wait; the oldest is forgotten: %s", event.queue[1], forgotten)
        self._waiting.append((event, rule))
        self._tell_newer()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def close(self) -> asyncio.Task[None]:
        assert self._task is not None
        self._waiting.clear()
        return self._task

    def _tell_newer(self) -> None:
        newer = any(rule.actions != self._running.actions for _, rule in self._waiting) if self._running else False
        if newer and self._newer is not None:
            self._newer.say()

    async def _work(self) -> None:
        while self._waiting:
            event, rule = self._waiting.popleft()
            self._running = rule
            self._newer = Newer()
            try:
                self._tell_newer()
                for number in range(len(rule.actions)):
                    await self._runner.execute(rule, number, event, self._newer)
            finally:
                self._newer = self._running = None


async def run_here(deadline_s: float, rule: Rule, number: int, event: Event, newer: Newer) -> int:
    """An `Execute` by this process."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC)
    newer.listen(lambda: os.eventfd_write(descriptor, 1))
    try:
        return await run_action(rule.actions[number], event, rule, deadline_s, descriptor)
    finally:
        newer.listen(None)
        os.close(descriptor)


async def run_action(action: str, event: Event, rule: Rule, deadline_s: float, newer: int | None = None) -> int:
    """Run one action to its end and log it; returns its exit code (negative: signal). Never raises OSError."""
    _log.info("%s: running: %s (event %s)", rule.location, action, event)
    text = command(action, variables(event))
    surroundings = environment(event) | ({} if newer is None else {NEWER_VARIABLE: str(newer)})
    descriptors = () if newer is None else (newer,)
    return await run_command(rule.location, action, text, deadline_s, surroundings, descriptors)


async def run_command(
    origin: str,
    action: str,
    text: str,
    deadline_s: float,
    surroundings: Mapping[str, str],
    descriptors: Sequence[int] = (),
) -> int:
    """Run `text` by the shell to its end; `origin` and `action` are for the log. Otherwise as `run_action`."""
    started = time.monotonic()
    try:
        process = await asyncio.create_subprocess_exec(
            *elsewhere.through(["/bin/sh", "-c", text]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **surroundings, "PATH": _path()},
            start_new_session=True,
            pass_fds=tuple(descriptors),
            limit=MAX_LINE_BYTES,
        )
    except OSError as error:
        _log.error("%s: cannot be started: %s: %s", origin, action, error.strerror)
        return NOT_FOUND
    assert process.stdout is not None
    reader = asyncio.create_task(_log_output(process.stdout, action))
    try:
        code = await asyncio.wait_for(process.wait(), deadline_s)
    except TimeoutError:
        _log.error("%s: not done after %.1f s, ended: %s", origin, deadline_s, action)
        code = await _end(process)
    finally:
        await asyncio.wait([reader], timeout=0.5)
        reader.cancel()
    _report(action, origin, code, time.monotonic() - started)
    return code


async def leave(program: str, options: str) -> None:
    """`failover leave` before this program ends; `options` are words of a shell command."""
    command = f"failover leave --stopping {program} {options}"
    await run_command("before the end", command, command, LEAVE_S, {})


def _report(action: str, origin: str, code: int, seconds: float) -> None:
    if code == 0:
        _log.info("%s: done after %.1f s: %s", origin, seconds, action)
        return
    hint = ""
    if code == NOT_FOUND:
        program = Path(action.split()[0]).name
        there = Path(sys.executable).with_name(program)
        hint = "; command not found" + (f", try: ln -s {there} {action.split()[0]}" if there.exists() else "")
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    _log.warning("%s: %s after %.1f s: %s%s", origin, ending, seconds, action, hint)


async def _end(process: asyncio.subprocess.Process) -> int:
    """TERM, a moment later KILL: to the whole process group, also when its leader has already ended."""
    code = None
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except OSError:
            pass
        try:
            code = await asyncio.wait_for(process.wait(), TERM_S)
        except TimeoutError:
            continue
    if code is None:
        _log.error("process %d cannot be killed; gone on without it", process.pid)
    return -signal.SIGKILL if code is None else code


async def _log_output(stream: asyncio.StreamReader, action: str) -> None:
    program = Path(action.split()[0]).name
    lines = 0
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            line = error.partial
            if not line:
                return
        except asyncio.LimitOverrunError:
            line = await stream.read(MAX_LINE_BYTES)
        lines += 1
        if lines <= MAX_LINES:
            _log.info("%s: %s", program, line.decode(errors="replace").rstrip())
        elif lines == MAX_LINES + 1:
            _log.warning("%s: prints too much; the rest is not logged", program)


def _path() -> str:
    """PATH of actions: as inherited, and the directory of this installation's programs."""
    inherited = os.environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{inherited}:{Path(sys.executable).parent}"
