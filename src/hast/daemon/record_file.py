"""A small JSON object that another program keeps in a file: read whole, or taken for none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 1024 * 1024


def read_object(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, it cannot be read, or holds something else. Raises nothing."""
    try:
        with path.open("rb") as file:
            return parse_object(file.read(MAX_BYTES))
    except OSError:
        return None


def parse_object(data: bytes) -> dict[str, Any] | None:
    """None for what is no object."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
