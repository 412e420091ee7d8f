"""Tells the service manager that a daemon is ready, what it does, and that it still lives (sd_notify(3)).

Does nothing where nobody listens. Sends datagrams and nothing else: a full or vanished socket is not an error of ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE = "WATCHDOG_PID"
_BEATS_PER_PERIOD = 3


class Notifier:
    """What this process may tell. Takes the variables out of the environment: they are not for our children."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        path = variables.pop(SOCKET_VARIABLE, "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        period_us = variables.pop(WATCHDOG_VARIABLE, "")
        pid = variables.pop(WATCHDOG_PID_VARIABLE, "")
        watched = bool(self._address) and period_us.isdecimal() and pid in ("", str(os.getpid()))
        self.watchdog_s = int(period_us) / 1e6 if watched else None
        """Seconds within which `alive` has to be said again; None when nobody watches."""

    def ready(self, status: str) -> None:
        """Everything is open: clients and peers that come now are served."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=Stopping.")

    @property
    def beat_s(self) -> float | None:
        """How often `alive` should be said; None when nobody watches."""
        return None if self.watchdog_s is None else self.watchdog_s / _BEATS_PER_PERIOD

    def alive(self) -> None:
        """To be said by the loop that matters, once its round is done."""
        if self.watchdog_s is not None:
            self._tell("WATCHDOG=1")

    async def beat(self) -> None:
        """Say `alive` from the event loop for as long as the loop turns; ends at once when nobody watches."""
        while self.beat_s is not None:
            self.alive()
            await asyncio.sleep(self.beat_s)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError:
            pass
