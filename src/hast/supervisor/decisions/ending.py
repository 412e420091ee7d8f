"""How hastd ends: does it let go of everything, or leave its workers to the next hastd? Pure.

asked to              the service manager starts it again    it does
stop                  no                                     let go, in order, of every device and role
stop                  yes                                    leave everything running for the hastd that comes
replace itself        -                                      the same, and become that hastd
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto


class End(Enum):
    """What the end of this hastd is."""

    LET_GO = auto()
    LEAVE_RUNNING = auto()
    BECOME_NEXT = auto()


def end(replaces_itself: bool, starts_again: bool) -> End:
    """The table above."""
    if replaces_itself:
        return End.BECOME_NEXT
    return End.LEAVE_RUNNING if starts_again else End.LET_GO


def to_renew(releases: dict[str, str], present: str, all_of_them: bool) -> Collection[str]:
    """Which resources' workers, by the release that each runs, give way to one of the present release."""
    return [name for name, release in releases.items() if all_of_them or release != present]
