"""Every message as an entry of the journal with fields to search by, or as a line of the log where there is none."""

from __future__ import annotations

import logging
import uuid

from hast.config.notify_model import Topic
from hast.daemon import journal
from hast.daemon.logs import LEVELS
from hast.watch.notify.decisions.message import Message
from hast.watch.notify.forms import next_step

_log = logging.getLogger("hast.notify")
_PRIORITIES = {"info": "6", "warning": "4", "error": "3", "critical": "2"}
_NAMESPACE = uuid.UUID("5b9a3c1e-0d0e-4d5c-9a51-6a1f1c1f7d2b")
MESSAGE_IDS = {topic: uuid.uuid5(_NAMESPACE, topic).hex for topic in Topic}
"""Never changed: people search by them (docs/hast-notify.8.md)."""


def tell(message: Message, path: str = journal.SOCKET) -> None:
    """Never waits, never fails."""
    if not journal.send(fields(message), path):
        _log.log(LEVELS[message.level], "%s", message.line)


def fields(message: Message) -> dict[str, str]:
    """Those of the journal, and our own."""
    return {
        "MESSAGE": message.line,
        "MESSAGE_ID": MESSAGE_IDS[message.topic],
        "PRIORITY": _PRIORITIES[message.level],
        "SYSLOG_IDENTIFIER": "hast-notify",
        "HAST_EVENT": str(message.topic),
        "HAST_STATE": str(message.state),
        "HAST_RESOURCE": message.resource,
        "HAST_TEXT": message.text,
        "HAST_NEXT_STEP": next_step(message),
        "HAST_TIME": f"{message.time_s:.3f}",
    }
