"""What the command line of hast-devd says, for both of its halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hast.config.devd_model import DevdConfiguration
from hast.daemon.notify import Notifier


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the sources are and how long an action may take. `load` reads the configuration again."""

    load: Callable[[], DevdConfiguration]
    carpd: str
    hastd: str
    deadline_s: float
    notifier: Notifier
    failover: str | None = None
    """failover.conf of the node that is watched; None: nobody watches."""
