"""The typed, frozen form of hast-notify.conf. Holds no parser and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_NOTIFY_CONF = "/etc/hast-notify.conf"
DEFAULT_SENDMAIL = "/usr/sbin/sendmail"
DEFAULT_DEGRADED_S = 60


class Topic(StrEnum):
    """What can be told; the words of `only`."""

    DEGRADED = "degraded"
    SPLIT_BRAIN = "split-brain"
    DISK_FAILED = "disk-failed"
    SLOW_DISK = "slow-disk"
    COPIES_DIFFER = "copies-differ"
    FROZEN = "frozen"
    ARBITER_LOST = "arbiter-lost"
    HASTD_AWAY = "hastd-away"
    RESYNC_DONE = "resync-done"
    FAILOVER_DONE = "failover-done"
    FAILOVER_FAILED = "failover-failed"
    EVENTS_LOST = "events-lost"
    TRY = "try"
    """Sent by hand, to see whether messages arrive; to everybody."""


class Kind(StrEnum):
    """Ways in which a receiver is reached."""

    MAIL = "mail"
    WEBHOOK = "webhook"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Receiver:
    """One who is told."""

    kind: Kind
    target: str
    """An address, a URL, or a shell command."""
    only: frozenset[Topic] = frozenset()
    """What it is told of; empty: everything."""
    gather_s: int = 5
    """What comes within this time of the first goes out together."""
    limit_per_hour: int = 20
    timeout_s: int = 30
    """Of one attempt."""
    retry_s: int = 6 * 3600
    """For how long a message is tried again."""
    sender: str = ""
    sendmail: str = DEFAULT_SENDMAIL
    headers: tuple[tuple[str, str], ...] = ()
    ca: str = ""

    @property
    def name(self) -> str:
        """Unique in a configuration; for the log and the file of what waits."""
        return f"{self.kind} {self.target}"

    def wants(self, topic: Topic) -> bool:
        return not self.only or topic in self.only or topic is Topic.TRY


@dataclass(frozen=True, slots=True)
class NotifyConfiguration:
    """The whole file."""

    path: str
    receivers: tuple[Receiver, ...] = ()
    degraded_s: int = DEFAULT_DEGRADED_S
    """How long a resource is without a second copy, or hastd without an answer, before it is told."""
    host: str = ""
    """Name of this host in messages; empty: its own."""
    hastd: str = ""
    """Socket of hastd; empty: `observe.sock` in the run directory."""
