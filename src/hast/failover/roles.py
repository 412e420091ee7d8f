"""The two lowest stages of a fail-over: the role of a resource, and its device under /dev/hast."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from hast.device.users import users_of
from hast.failover import blockdev
from hast.failover.hastd import Abandoned, Hastd, HastdAbsent, HastdError
from hast.failover.isolation import Isolation
from hast.failover.part import Context, GiveWay, Part, PartError
from hast.worker.worker_record import end_orphan

RETRY_S = 0.2
STATUS_S = 5.0
FINAL_CODES = (1, 2)
"""Codes of refusals that do not go away by asking again: not configured, invalid."""
FINAL_WORDS = ("inconsistent", "outdated", "copy is stale", "split-brain", "metadata")
"""The same for code 69, by what the reason says; any other reason may pass, such as a peer that is still primary."""


def is_final(error: HastdError) -> bool:
    """Whether asking again is useless."""
    text = str(error).lower()
    return isinstance(error, HastdAbsent) or error.code in FINAL_CODES or any(word in text for word in FINAL_WORDS)


class RolePart(Part):
    """Primary while the node is master, secondary otherwise."""

    def __init__(
        self,
        resource: str,
        hastd: Hastd,
        device: Path,
        timeout_s: float,
        isolation: Isolation | None = None,
        *,
        may_be_unknown: bool = False,
    ) -> None:
        self._may_be_unknown = may_be_unknown
        self._isolation = isolation
        self.name = f"role {resource}"
        self.timeout_s = timeout_s
        self._resource = resource
        self._hastd = hastd
        self._device = device

    def is_up(self, context: Context) -> bool | None:
        """True when primary, False when secondary, None in any other role or when hastd cannot be asked."""
        try:
            entry = self._hastd.roles(min(STATUS_S, context.left_s())).get(self._resource)
        except HastdError:
            return None
        if entry is None and self._may_be_unknown:
            return False
        role = entry.get("role") if entry else None
        return True if role == "primary" else False if role == "secondary" else None

    def up(self, context: Context) -> None:
        """Become primary. A refusal that may pass (the peer is still primary) is asked again until the deadline."""
        while True:
            try:
                self._hastd.set_role(self._resource, "primary", context.left_s(), context.overruled)
                return
            except Abandoned:
                raise GiveWay from None
            except HastdError as error:
                if is_final(error) or context.left_s() <= RETRY_S:
                    context.log.debug(f"Unable to change role to primary for resource {self._resource}.")
                    raise PartError(str(error)) from None
            context.pause(RETRY_S)

    def down(self, context: Context) -> None:
        """Become secondary. Where hastd is dead its worker ends in order: until then the other is refused the role."""
        try:
            self._hastd.set_role(self._resource, "secondary", context.left_s())
        except HastdAbsent as error:
            if not end_orphan(self._resource, context.left_s()):
                self._say_unable(context)
                raise PartError(str(error)) from None
            context.log.error(f"hastd does not run here; its worker of {self._resource} has let go.")
            return
        except HastdError as error:
            self._say_unable(context)
            users = users_of(str(self._device))
            raise PartError(f"{error}; {self._device} is in use by {users}" if users else str(error)) from None
        context.log.debug(f"Role switched to secondary for resource {self._resource}.")
        if self._isolation is not None:
            self._isolation.settle(self._resource)

    def _say_unable(self, context: Context) -> None:
        context.log.debug(f"Unable to switch role to secondary for resource {self._resource}.")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"role {'primary' if up else 'secondary'} for resource {self._resource}"


class DevicePart(Part):
    """Waits for /dev/hast/NAME. Nothing to do downwards: it goes with the role."""

    def __init__(self, resource: str, path: Path, timeout_s: float) -> None:
        self.name = f"device {resource}"
        self.timeout_s = timeout_s
        self._path = path

    def is_up(self, context: Context) -> bool | None:
        """Whether the path leads to a block device with something behind it or, on loopback set-ups, to a file."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        mode = status.st_mode
        if stat.S_ISBLK(mode) and blockdev.is_lost(status.st_rdev):
            return False
        return stat.S_ISBLK(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)

    def up(self, context: Context) -> None:
        """Wait until it is there."""
        started = time.monotonic()
        while not self.is_up(context):
            if not context.left_s():
                context.log.debug(f"GEOM provider {self._path} did not appear.")
                waited = time.monotonic() - started
                raise PartError(f"{self._path} is not there after {waited:.0f} s; see hastctl status and hastd's log")
            context.pause()

    def down(self, context: Context) -> None:
        """The device goes with the role."""

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"wait for {self._path}" if up else ""


class DelayPart(Part):
    """The article's `delay`: a pause between becoming master and touching the resources."""

    timeout_s: float

    def __init__(self, delay_s: float) -> None:
        self.name = "delay"
        self.timeout_s = delay_s + 1.0
        self._delay_s = delay_s

    @property
    def blind(self) -> bool:
        """Always."""
        return True

    def is_up(self, context: Context) -> bool | None:
        """Waited for every time."""
        return None

    def up(self, context: Context) -> None:
        """Wait; a later request ends it at once."""
        context.pause(self._delay_s)

    def down(self, context: Context) -> None:
        """Nothing."""

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"wait {self._delay_s:g} s (delay)" if up else ""
