"""The service behind hast-order(8): one request a connection, one order at a time, lines of JSON back until it ended.

The request is framed as docs/control.md has it; the answer is one JSON object a line: `line` (and `of`: the plan or
the command itself), at the end `result` and `text`. An order goes on when who asked for it is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hast.daemon.accepting import connections
from hast.daemon.conversation import ConversationError, receive_frame
from hast.daemon.throttle import Throttle
from hast.format import nv
from hast.order import secret
from hast.order.carrying import NOT_STARTED, Running
from hast.order.decisions.judge import Order, Refused, judge
from hast.order.decisions.request import NotUnderstood, Request, read
from hast.order.decisions.wrong_tokens import WrongTokens
from hast.order.diary import Diary, Entry
from hast.watch.source import Source
from hast.watch.web.decisions.actions import outcome
from hast.watch.web.plans import plans_of
from hast.worker.successor import user_of

MAX_REQUEST_BYTES = 128 * 1024
REQUEST_S = 10.0
SEND_S = 5.0
PLAN_S = 60.0
WRONG_TOKEN_S = 1.0
MAX_CLIENTS = 8
STRANGERS_S = 10.0
POLL_S = 1.0

log = logging.getLogger("hast.order")


@dataclass
class Settings:
    """`command`: from the words of a command line to those that start the program."""

    token_file: Path
    source: Source
    command: Callable[[Sequence[str]], list[str]]
    diary: Diary = field(default_factory=Diary)
    wrong_token_s: float = WRONG_TOKEN_S


class _Refusal(Exception):
    """`str()` is for who ordered."""


class _Stranger(_Refusal):
    """The token was not shown."""


class OrderServer:
    """`serve` until `stop`, or until nobody wanted anything for `idle_s`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wrong = WrongTokens()
        self._strangers = Throttle(STRANGERS_S, time.monotonic)
        self._under_way = ""
        self._conversations: set[asyncio.Task[None]] = set()
        self._last_s = time.monotonic()

    async def serve(self, listening: socket.socket, stop: asyncio.Event, idle_s: float | None) -> None:
        """What was begun is ended first."""
        accepting = asyncio.create_task(self._accept(listening))
        stopping = asyncio.create_task(stop.wait())
        while not (stop.is_set() or accepting.done() or self._is_idle(idle_s)):
            await asyncio.wait((stopping, accepting), timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if accepting.done():
            accepting.result()
        accepting.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations)

    def _is_idle(self, idle_s: float | None) -> bool:
        now_s = time.monotonic()
        if idle_s is None or self._conversations or self._wrong.is_remembered(now_s):
            return False
        return now_s - self._last_s >= idle_s

    async def _accept(self, listening: socket.socket) -> None:
        async for sock, _where in connections(listening, log.warning):
            if len(self._conversations) >= MAX_CLIENTS:
                sock.close()
                continue
            task = asyncio.create_task(self._converse(sock))
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)

    async def _converse(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        pid, uid = user_of(sock)
        entry = Entry("refused", "", uid=uid, pid=pid)
        try:
            found = await _receive(sock)
            _reader, writer = await asyncio.open_unix_connection(sock=sock)
        except (ConversationError, OSError) as error:
            log.debug("No order: %s", error)
            sock.close()
            return
        answer = _Answer(writer)
        try:
            request = _read(found)
            entry = Entry("refused", "", request.action, request.targets, "", request.origin, uid, pid, request.seen)
            await self._carry_out(request, entry, answer)
        except _Stranger as error:
            self._note_stranger(entry, str(error))
            await answer.end("refused", str(error))
        except _Refusal as error:
            self._settings.diary.note(entry.now("refused", str(error)))
            await answer.end("refused", str(error))
        except Exception:
            log.exception("An order failed")
            self._settings.diary.note(entry.now("failed", "an error in hast-order: see its log"))
            await answer.end("failed", "an error in hast-order: see its log")
        finally:
            self._last_s = time.monotonic()
            writer.close()

    def _note_stranger(self, entry: Entry, text: str) -> None:
        """What anybody can make happen must not fill the journal."""
        if times := self._strangers.count(text.partition(":")[0]):
            self._settings.diary.note(entry.now("refused", text if times == 1 else f"{text} ({times} times)"))

    async def _carry_out(self, request: Request, entry: Entry, answer: _Answer) -> None:
        await self._look_at_token(request.token)
        if self._under_way:
            raise _Refusal(f"Another order is under way: {self._under_way}.")
        self._under_way = shlex.join((request.action, *request.targets))
        try:
            order = await self._judged(request)
            entry = replace(entry, command=shlex.join(order.words))
            await self._planned(order, answer)
            await self._ordered(order, entry, answer)
        finally:
            self._under_way = ""

    async def _look_at_token(self, token: str) -> None:
        """Raises _Stranger."""
        shut_s = self._wrong.shut_for_s(time.monotonic())
        if shut_s:
            raise _Stranger(f"Too many wrong tokens: none is looked at for {shut_s:.0f} s.")
        try:
            is_right = secret.is_right(self._settings.token_file, token)
        except secret.SecretError as error:
            raise _Stranger(str(error)) from None
        self._wrong.note(time.monotonic(), is_right=is_right)
        if not is_right:
            await asyncio.sleep(self._settings.wrong_token_s)
            raise _Stranger("The token is wrong.")

    async def _judged(self, request: Request) -> Order:
        picture = await self._settings.source.picture()
        if picture.here.error:
            raise _Refusal(picture.here.error)
        order = judge(request, plans_of(picture))
        if isinstance(order, Refused):
            raise _Refusal(order.text)
        return order

    async def _planned(self, order: Order, answer: _Answer) -> None:
        """The plan of the command itself, which those who would refuse it are asked for. Raises _Refusal."""
        running = Running(self._settings.command((*order.words, "--plan")))
        code = await running.run(PLAN_S, lambda line: answer.line(line, "plan"))
        if code is None:
            raise _Refusal(f"no plan within {PLAN_S:g} s")
        if code:
            why = "the command cannot be started" if code == NOT_STARTED else "it would be refused"
            raise _Refusal(f"Nothing was done: {why}, as its plan above says.")

    async def _ordered(self, order: Order, entry: Entry, answer: _Answer) -> None:
        note = self._settings.diary.note
        note(entry.now("begun", entry.command))
        await answer.line(entry.command, "command")
        running = Running(self._settings.command(order.words))
        code = await running.run(order.limit_s, lambda line: answer.line(line, "output"))
        result = "unfinished" if code is None else "done" if code == 0 else "failed"
        text = outcome(order.action, code)
        note(entry.now(result, text, code))
        await answer.end(result, text)
        if code is None:
            code = await running.settled()
            note(entry.now("failed" if code else "done", f"after its time: {outcome(order.action, code)}", code))


class _Answer:
    """Lines to who asked, as long as they are taken."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._is_gone = False

    async def line(self, text: str, of: str) -> None:
        await self._send({"line": text, "of": of})

    async def end(self, result: str, text: str) -> None:
        """The last one; whoever asked need not wait for what comes after."""
        await self._send({"result": result, "text": text})
        self._writer.close()

    async def _send(self, told: dict[str, str]) -> None:
        if self._is_gone:
            return
        try:
            self._writer.write(json.dumps(told).encode() + b"\n")
            async with asyncio.timeout(SEND_S):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self._is_gone = True


def _read(found: Any) -> Request:
    """Raises _Stranger."""
    try:
        return read(found)
    except NotUnderstood as error:
        raise _Stranger(str(error)) from None


async def _receive(sock: socket.socket) -> Any:
    """Raises ConversationError."""
    message, _body = await receive_frame(sock, MAX_REQUEST_BYTES, REQUEST_S)
    try:
        return json.loads(message.nv.get("json", nv.NvType.STRING) or "null")
    except (ValueError, RecursionError) as error:
        raise ConversationError(f"no JSON: {type(error).__name__}") from None
