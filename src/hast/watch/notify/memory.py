"""The file that outlives a restart of hast-notify: what was told, what waits, how far hastd's events were read."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

VERSION = 1
MAX_BYTES = 8 * 1024 * 1024
_log = logging.getLogger("hast.notify")


class Memory:
    """Replaced whole, so that a death at any moment leaves a file that can be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._failed = False

    def load(self) -> dict[str, Any]:
        """Empty where there is none; one that cannot be read is said and begun anew."""
        try:
            with self._path.open("rb") as file:
                value = json.loads(file.read(MAX_BYTES))
            if not isinstance(value, dict) or value.get("version") != VERSION:
                raise ValueError("it is of another version")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s is begun anew: %s", self._path, getattr(error, "strerror", None) or error)
            return {}
        return value

    def save(self, value: dict[str, Any]) -> None:
        """Nothing happens where nothing changed. A failure is told once."""
        text = json.dumps({"version": VERSION, **value})
        if text == self._written:
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            new.replace(self._path)
        except OSError as error:
            if not self._failed:
                _log.error("%s cannot be written: %s; a restart may lose messages", self._path, error.strerror)
            self._failed = True
            return
        self._written, self._failed = text, False
