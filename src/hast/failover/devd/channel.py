"""Messages between the two halves of hast-devd: one JSON object a packet, at most one descriptor with it.

From the half without rights (`remote_actions.py`) to the one that runs actions (`action_server.py`)
    {"run": [generation, rule, action], "id": n, "event": {variables}}   by number in the rules that were sent last or
        before that; answered {"done": n, "code": exit code}
    {"newer": n}                         something else was asked for while n runs
    {"open": "carpd"|"hastd", "since": n|null, "id": n}  answered {"opened": n} with a descriptor to read events from,
        or {"opened": n, "error": text}
    {"told": {variables}, "moves": bool} an event was taken; the service moves by the rules
    {"leave": n}                         move the service away; answered {"left": n}
    {"reload": true}
From there
    {"rules": [...], "generation": n, "path": text}      first of all, and after each reload
    {"error": text, "exit": n}           instead: the rules cannot be read
    {"event": {variables}}               of the look at the node
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from hast.config.devd_model import Match, Rule, RuleKind
from hast.worker import messages

_log = logging.getLogger("hast.devd")

MAX_UNSENT = 1000
KEPT_GENERATIONS = 8
"""What was read before is known for so many times of reading again."""
Receive = Callable[[dict[str, Any], list[int]], None]


class Channel:
    """One end. `received(message, descriptors)` owns the descriptors; `closed()` is called once, when the other side is
    gone or says what is no message."""

    def __init__(self, sock: socket.socket, received: Receive, closed: Callable[[], None]) -> None:
        self._sock = sock
        self._received = received
        self._closed = closed
        self._unsent: list[tuple[dict[str, Any], list[int]]] = []
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.MAX_MESSAGE_BYTES * 2)
        self._loop.add_reader(sock, self._readable)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Takes the descriptors. What the other side does not take is given up with it."""
        if self._sock.fileno() < 0 or len(self._unsent) >= MAX_UNSENT:
            _close(descriptors)
            self.close()
            return
        self._unsent.append((message, list(descriptors)))
        self._flush()

    def close(self) -> None:
        """Also tells `closed`."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _message, descriptors in self._unsent:
            _close(descriptors)
        self._unsent.clear()
        self._closed()

    def _flush(self) -> None:
        while self._unsent:
            message, descriptors = self._unsent[0]
            try:
                messages.send(self._sock, message, descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except (OSError, ValueError) as error:
                _log.error("the other half of hast-devd cannot be told: %s", error)
                self.close()
                return
            self._unsent.pop(0)
            _close(descriptors)
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            message, descriptors = messages.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            _log.error("the other half of hast-devd says what is no message: %s", error)
            message, descriptors = None, []
        if message is None:
            self.close()
            return
        self._received(message, descriptors)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def rules_to_json(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """For a `rules` message."""
    return [
        {
            "kind": str(rule.kind),
            "priority": rule.priority,
            "matches": [[match.variable, match.regex, match.negated] for match in rule.matches],
            "actions": list(rule.actions),
            "location": rule.location,
        }
        for rule in rules
    ]


def rules_from_json(value: Sequence[dict[str, Any]]) -> tuple[Rule, ...]:
    """The reverse."""
    return tuple(
        Rule(
            RuleKind(each["kind"]),
            int(each["priority"]),
            tuple(Match(variable, regex, negated) for variable, regex, negated in each["matches"]),
            tuple(each["actions"]),
            each["location"],
        )
        for each in value
    )
