"""How the advertisements of one vhid are signed, and how that is changed on two hosts one after the other.

Pass phrase and addresses go into the signature, so whoever changes them on one host only is not understood by the
other: each would take itself for the only one. So for a time after a change the former signature counts as well: what
is heard may carry either, and every advertisement is sent once with each. Performs no I/O and reads no clock.
"""

from __future__ import annotations

from hast.format.carp import Advertisement, AuthenticationError, Authenticator

OVERLAP_S = 120.0
"""Time to reload the other host."""


class Signing:
    """The present signature, and those of the last OVERLAP_S."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._present = authenticator
        self._former: list[tuple[Authenticator, float]] = []

    def change(self, authenticator: Authenticator, now: float) -> None:
        """Sign otherwise from now on."""
        self._former = [*self._former, (self._present, now + OVERLAP_S)]
        self._present = authenticator

    def keys(self, now: float) -> tuple[Authenticator, ...]:
        """All that count, the present one first."""
        self._former = [(former, until_s) for former, until_s in self._former if now < until_s]
        return (self._present, *(former for former, _ in self._former))

    def verify(self, heard: Advertisement, now: float) -> None:
        """Raises AuthenticationError when no signature that counts fits."""
        present, *former = self.keys(now)
        try:
            present.verify(heard)
        except AuthenticationError:
            if not any(_fits(key, heard) for key in former):
                raise


def _fits(key: Authenticator, heard: Advertisement) -> bool:
    try:
        key.verify(heard)
    except AuthenticationError:
        return False
    return True
