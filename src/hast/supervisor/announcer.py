"""Tells what happens to one resource: a line in the log, an event for subscribers, the hook of the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hast.config.model import Resource
from hast.daemon.logs import LEVELS, context
from hast.format.constants import Role
from hast.supervisor.decisions.steps import Refusal
from hast.supervisor.environment import Environment
from hast.worker.disk import resolve

log = logging.getLogger("hast.supervisor")

MAX_NAME_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 1000
RESOLUTIONS = {
    resolve.DISCARD: "This copy's changes are discarded at the next connection ({reason}).",
    resolve.ABANDON: "The order to discard this copy's changes was taken back.",
}

DISK_CHANGES = {
    "detach": "The local disk was taken out of service.",
    "attach": "The local disk is in service again.",
    "replace": "The local disk is {path} from now on.",
}


class Announcer:
    """For one resource, whose settings may change."""

    def __init__(self, settings: Callable[[], Resource], environment: Environment) -> None:
        self._settings = settings
        self._events = environment.events
        self._hooks = environment.hooks

    @property
    def name(self) -> str:
        return self._settings().name

    def role_changed(self, old: Role, new: Role, text: str = "") -> None:
        line = text or f"Role changed from {old} to {new}."
        log.info("%s", line, extra=context(self.name, new))
        self._events.publish("role", self.name, line, old=str(old), new=str(new))
        self._hooks.fire(self._settings().exec_path, "role", self.name, (str(old), str(new)))

    def refused(self, role: Role, refusal: Refusal) -> None:
        """A promotion that subscribers are to hear of failed; `role` is the present one."""
        log.error("%s", refusal.remember or refusal.reason, extra=context(self.name, role))
        self._events.publish("refused", self.name, refusal.reason, "error", role=str(role))

    def worker_event(self, role: Role, message: dict[str, Any]) -> None:
        """What a worker said; its lengths and types are not trusted."""
        name = event_name(message)
        text = str(message.get("text") or name)[:MAX_TEXT_CHARACTERS]
        level = str(message.get("level") or "info")
        log.log(LEVELS.get(level, logging.INFO), "%s", text, extra=context(self.name, role))
        if level == "debug":
            return
        more = {"details": message["details"]} if isinstance(message.get("details"), dict) else {}
        self._events.publish(name, self.name, text, level, role=str(role), **more)
        self._hooks.fire(self._settings().exec_path, name, self.name)

    def asked(self, question: str) -> None:
        """A worker waits for the arbiter's word."""
        self._events.publish("ask", self.name, f"The arbiter is asked: {question}.", "warning", question=question)

    def arbiter_heard(self, role: Role, reached: bool) -> None:
        """It answers again, or does not any more."""
        text = "The arbiter answers again." if reached else "The arbiter does not answer."
        log.log(logging.INFO if reached else logging.ERROR, "%s", text, extra=context(self.name, role))
        name, level = ("arbiter-back", "info") if reached else ("arbiter-lost", "error")
        self._events.publish(name, self.name, text, level, role=str(role))
        self._hooks.fire(self._settings().exec_path, name, self.name)

    def taken_over(self, role: Role, text: str) -> None:
        """After an earlier hastd died."""
        log.warning("%s", text, extra=context(self.name, role))
        self._events.publish("adopted", self.name, text, "warning", role=str(role))

    def restarted(self, role: Role) -> None:
        text = "The worker was restarted; the device was kept."
        log.info("%s", text, extra=context(self.name, role))
        self._events.publish("restarted", self.name, text, "warning")

    def disk_changed(self, role: Role, order: str, path: str) -> None:
        """`hastctl detach`, `attach` or `replace` was carried out."""
        text = DISK_CHANGES[order].format(path=path)
        log.warning("%s", text, extra=context(self.name, role))
        self._events.publish(order, self.name, text, "warning", role=str(role))

    def resolution(self, role: Role, order: str, reason: str, details: dict[str, Any]) -> None:
        """An order about a split brain (`resolve.DISCARD` or `ABANDON`) was carried out."""
        text = RESOLUTIONS[order].format(reason=reason)
        log.warning("%s", text, extra=context(self.name, role))
        self._events.publish(f"resolve-{order}", self.name, text, "warning", details=details)


def event_name(message: dict[str, Any]) -> str:
    """The name of the event in a worker's message."""
    return str(message.get("name") or "unknown")[:MAX_NAME_CHARACTERS]
