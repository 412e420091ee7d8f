"""Files that hold a secret: whether others can read them. Looks, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

FOR_OTHERS = 0o077


def is_readable_by_others(path: Path) -> bool:
    """Whether more than its owner may open it; a file that is not there is nobody's."""
    try:
        return bool(path.stat().st_mode & FOR_OTHERS)
    except OSError:
        return False


def complaint(path: str, what: str) -> str:
    """One line on a file that holds `what`, or nothing where all is well."""
    found = Path(path)
    if is_readable_by_others(found):
        return f"{path} holds {what} and can be read by others: chmod 600 {path}"
    try:
        owner = found.stat().st_uid
    except OSError:
        return ""
    if owner not in (0, os.geteuid()):
        return f"{path} holds {what} and belongs to the user {owner}: chown root {path}"
    return ""
