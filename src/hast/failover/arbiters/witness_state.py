"""What a witness remembers, on its disk: one small file, replaced and flushed before an answer follows from it.

Changes that come while the file is being written wait for the next write, and share it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from hast.election.arbiter import LeaseTable

EPOCHS_PER_S = 100
"""What is given out after a start begins with the time of it: no epoch twice, however old the file is."""


class StateError(Exception):
    """The state file cannot be used; `str()` is one line."""


class StateFile:
    """The file with everything that must survive a restart. Raises StateError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = secrets.token_hex(8)

    def load(self, now: float) -> LeaseTable:
        """What an earlier witness knew; an empty table, durable at once, where there is no file."""
        try:
            value = json.loads(self.path.read_text())
            self.identity = str(value["witness"])
            return LeaseTable.from_json(value["resources"], now, int(time.time() * EPOCHS_PER_S))
        except FileNotFoundError:
            table = LeaseTable()
            self.save(table.to_json())
            return table
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self.path} is not a witness state file: {error}") from None

    def save(self, resources: dict[str, Any]) -> None:
        """Write, flush, replace, flush the directory."""
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in resources.items())
        text = f'{{"witness": {json.dumps(self.identity)}, "resources": {{\n{lines}\n}}}}\n'
        temporary = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(temporary, "w", opener=_for_the_owner) as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StateError(f"{self.path} cannot be written: {error.strerror}") from None


class Keeper:
    """Keeps the file up with the table."""

    def __init__(self, file: StateFile, table: LeaseTable) -> None:
        self._file = file
        self._table = table
        self._kept = table.changes
        self._writing: asyncio.Task[None] | None = None

    async def kept(self, change: int) -> None:
        """Return when the file holds this change and all before it. Raises StateError; what could not be written then
        is written with the next change."""
        while self._kept < change:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())
                self._writing.add_done_callback(_retrieve)
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        """Takes its picture of the table when the loop comes round, so that all who ask in one round share it."""
        changes, resources = self._table.changes, self._table.to_json()
        try:
            await asyncio.to_thread(self._file.save, resources)
            self._kept = changes
        finally:
            self._writing = None


def _retrieve(done: asyncio.Task[None]) -> None:
    """Nobody may wait for it any more; asyncio would tell of an error that nobody saw."""
    if not done.cancelled():
        done.exception()


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
