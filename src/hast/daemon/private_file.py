"""Files that hold a secret: whether others can read them. Looks, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from hast.daemon.privileges import worker_identity

FOR_OTHERS = 0o077


def complaint(path: str, what: str) -> str:
    """One line on a file that holds `what`; nothing where all is well, or no file."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if status.st_mode & FOR_OTHERS:
        return f"{path} holds {what} and can be read by others: chmod 600 {path}"
    if not is_ours(status):
        return f"{path} holds {what} and belongs to the user {status.st_uid}: chown root {path}"
    return ""


def is_readable_by_others(path: Path) -> bool:
    """Whether more than its owner, and the group of hastd's workers, may open it; a file that is not there is
    nobody's."""
    try:
        status = path.stat()
    except OSError:
        return False
    worker = worker_identity()
    allowed = 0o040 if worker is not None and status.st_gid == worker.gid else 0
    return bool(status.st_mode & FOR_OTHERS & ~allowed)


def is_private(status: os.stat_result) -> bool:
    """Nobody else may open it, or let others."""
    return is_ours(status) and not status.st_mode & FOR_OTHERS


def is_ours(status: os.stat_result) -> bool:
    """It belongs to root, or to the user of this process."""
    return status.st_uid in (0, os.geteuid())
