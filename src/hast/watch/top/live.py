"""The live view: looks once a second, follows the events, draws, and answers keys, until it is told to end.

It survives every end of hastd; it ends with `q`, a signal, or its terminal. Nothing is ordered but what was planned,
shown, and confirmed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.text import Text

from hast.config.host import this_host
from hast.watch.catalogue import kind_of
from hast.watch.picture import Picture, unknown
from hast.watch.problems import find
from hast.watch.rates import between
from hast.watch.source import NoAnswer, Source
from hast.watch.top.actions import Action, action
from hast.watch.top.frame import frame
from hast.watch.top.terminal import Closed, Terminal, size
from hast.watch.top.view import Dialog, View

DRAW_S = 1.0
LOOK_S = 1.0
WINDOW = 4
"""So many pictures lie between the two that rates are taken from, at most."""
MAX_EVENTS = 200
RETRY_S = 1.0
PLAN_S = 60.0
ACT_S = 600.0
MAX_OUTPUT_LINES = 200

Command = Callable[[Sequence[str]], list[str]]
"""From the words of a command line to those that start the program."""


class Live:
    """One run. `command` finds the programs that actions and their plans are."""

    def __init__(self, source: Source, command: Command) -> None:
        self._source = source
        self._command = command
        self._pictures: deque[Picture] = deque([unknown(this_host().name, "not asked yet")], WINDOW + 1)
        self._looked_s = time.monotonic()
        self._drawn_s = -DRAW_S
        self._events: deque[dict[str, object]] = deque(maxlen=MAX_EVENTS)
        self._selected = 0
        self._dialog: Dialog | None = None
        self._action: Action | None = None
        self._busy: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._terminal: Terminal | None = None

    async def once(self) -> View:
        """Two looks a second apart, for the rates, and the events so far."""
        listening = asyncio.ensure_future(self._listen())
        await self._look()
        if not self._pictures[-1].here.error:
            await asyncio.sleep(LOOK_S)
            await self._look()
        listening.cancel()
        return self._view(has_keys=False)

    async def run(self, terminal: Terminal) -> None:
        """Until it is told to end."""
        self._terminal = terminal
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ended.set)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        with terminal:
            await self._show(loop, terminal)

    async def _show(self, loop: asyncio.AbstractEventLoop, terminal: Terminal) -> None:
        if terminal.keys is not None:
            loop.add_reader(terminal.keys, self._key_pressed)
        tasks = [asyncio.ensure_future(each) for each in (self._keep_looking(), self._listen())]
        try:
            while not self._ended.is_set():
                if time.monotonic() - self._drawn_s >= DRAW_S / 2:
                    self._draw()
                try:
                    async with asyncio.timeout(DRAW_S):
                        await self._ended.wait()
                except TimeoutError:
                    continue
        finally:
            if terminal.keys is not None:
                loop.remove_reader(terminal.keys)
            for task in [*tasks, *([self._busy] if self._busy is not None else [])]:
                task.cancel()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            self._draw()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        picture = await self._source.picture()
        if picture.here.error != self._pictures[-1].here.error:
            self._pictures.clear()
        self._pictures.append(picture)
        self._looked_s = time.monotonic()

    async def _listen(self) -> None:
        """Keep the newest events; a hastd that begins anew tells its own from the beginning."""
        while True:
            self._events.clear()
            try:
                async for event in self._source.events(since=0):
                    self._events.append(event)
            except NoAnswer:
                await asyncio.sleep(RETRY_S)

    def _view(self, has_keys: bool) -> View:
        picture, now_s = self._pictures[-1], time.time()
        rates = between(self._pictures[0], picture) if len(self._pictures) > 1 else {}
        age_s = time.monotonic() - self._looked_s
        problems = find(picture, now_s)
        return View(picture, problems, now_s, rates, list(self._events), self._selected, age_s, self._dialog, has_keys)

    def _draw(self) -> None:
        assert self._terminal is not None
        self._drawn_s = time.monotonic()
        width, height = size()
        try:
            self._terminal.draw(frame(self._view(self._terminal.keys is not None), width, height), width)
        except Closed:
            self._ended.set()

    def _resized(self) -> None:
        if self._terminal is not None:
            self._terminal.forget()
            self._draw()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _key_pressed(self) -> None:
        assert self._terminal is not None
        try:
            key = self._terminal.read_key()
        except Closed:
            self._ended.set()
            return
        self._answer(key)
        self._draw()

    def _answer(self, key: str) -> None:
        if self._dialog is not None:
            self._answer_dialog(key)
        elif key == "q":
            self._ended.set()
        elif key in ("up", "k", "down", "j"):
            last = len(self._pictures[-1].pairs) - 1
            self._selected = max(0, min(last, self._selected + (1 if key in ("down", "j") else -1)))
        elif key == "e":
            self._explain()
        else:
            self._propose(key)

    def _answer_dialog(self, key: str) -> None:
        chosen, self._action = self._action, None
        if chosen is not None and key == "y":
            self._begin(chosen.title, chosen.words, ACT_S, None)
        elif self._busy is None or self._busy.done():
            self._dialog = None

    def _explain(self) -> None:
        found = {each.code: each for each in find(self._pictures[-1], time.time())}
        lines: list[str] = []
        for code in found:
            kind = kind_of(code)
            lines += [f"{code} ({kind.level.name}): {kind.meaning}"]
            lines += [f"  {number}. {step}" for number, step in enumerate(kind.steps, 1)]
        self._dialog = Dialog("what is wrong, and what to do", lines or ["nothing is wrong"])

    def _propose(self, key: str) -> None:
        pairs = self._pictures[-1].pairs
        if not pairs:
            return
        meant = action(key, self._pictures[-1], pairs[min(self._selected, len(pairs) - 1)].name)
        if isinstance(meant, str):
            self._dialog = Dialog("nothing is done", [meant])
        elif meant is not None:
            self._begin(f"the plan of: {' '.join(meant.words)}", meant.plan, PLAN_S, meant)

    def _begin(self, title: str, words: Sequence[str], limit_s: float, then: Action | None) -> None:
        if self._busy is None or self._busy.done():
            self._dialog = Dialog(title, [], is_busy=True)
            self._busy = asyncio.ensure_future(self._carry_out(title, words, limit_s, then))

    async def _carry_out(self, title: str, words: Sequence[str], limit_s: float, then: Action | None) -> None:
        """Run a command and show what it says; `then`: what is asked for after a plan that refuses nothing."""
        code, lines = await _run(self._command(words), limit_s)
        if code == 0 and then is not None:
            self._action = then
            self._dialog = Dialog(f"{then.title}: {' '.join(then.words)}", lines, "do this?  y yes, any other key no")
        else:
            self._dialog = Dialog(title, [*lines, "done" if code == 0 else f"exit code {code}"])
        self._draw()


async def _run(command: Sequence[str], limit_s: float) -> tuple[int | str, list[str]]:
    """Exit code and output of a program. It goes on when this one ends: half an order is worse than a whole."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return "none", [f"{command[0]}: {error.strerror}"]
    try:
        async with asyncio.timeout(limit_s):
            output, _nothing = await process.communicate()
    except TimeoutError:
        return "none", [f"no end within {limit_s:g} s; it goes on"]
    return process.returncode or 0, output.decode(errors="replace").splitlines()[:MAX_OUTPUT_LINES]


def plain(view: View, width: int) -> list[Text]:
    """One frame for a pipe: everything, however long."""
    return frame(view, width)
