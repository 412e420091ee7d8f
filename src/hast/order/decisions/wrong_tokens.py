"""How many wrong tokens are taken before none is looked at for a while. Pure, with a memory; the time is handed in.

While it is shut the right token is refused as well: else a guess would cost nothing. A token of ours cannot be
guessed anyway (secret.py); this keeps a flood of guesses out of the log, and one that was made by hand from falling.
"""

from __future__ import annotations

MOST = 5
FIRST_S = 30.0
LONGEST_S = 3600.0
FORGOTTEN_S = 7200.0


class WrongTokens:
    """After MOST wrong ones in a row it is shut for FIRST_S, twice as long after each further one."""

    def __init__(self) -> None:
        self._count = 0
        self._last_s = float("-inf")
        self._shut_until_s = float("-inf")

    def shut_for_s(self, now_s: float) -> float:
        """0 while tokens are looked at."""
        return max(0.0, self._shut_until_s - now_s)

    def is_remembered(self, now_s: float) -> bool:
        """Whether a new process would be milder."""
        return self._count > 0 and now_s - self._last_s < FORGOTTEN_S

    def note(self, now_s: float, *, is_right: bool) -> None:
        """One was looked at."""
        if is_right or not self.is_remembered(now_s):
            self._count = 0
        if is_right:
            return
        self._count += 1
        self._last_s = now_s
        if self._count >= MOST:
            self._shut_until_s = now_s + min(LONGEST_S, FIRST_S * 2.0 ** (self._count - MOST))
