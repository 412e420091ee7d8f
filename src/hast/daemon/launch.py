"""Starts a program of the administrator's so that its file may be anywhere, also where nothing answers.

A process is started by waiting until the kernel has read its program. From a file system that is frozen, and a frozen
primary's is one, that wait does not end, and no signal but SIGKILL ends it. So the shell is started, from the system's
own disk, and reads the program itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from hast.daemon import elsewhere

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of the shell when the program cannot be run."""


def by_shell(argv: Sequence[str]) -> list[str]:
    """The command line to start instead of `argv`: the same process with the same arguments, once it runs; outside of a
    confined service."""
    return elsewhere.through(["/bin/sh", "-c", 'exec "$@"', "hast", *argv])


def why_not_run(exit_code: int) -> str | None:
    """What an exit code says about a program that was never run; None when it was."""
    return {NOT_EXECUTABLE: "not executable", NOT_FOUND: "not found"}.get(exit_code)
