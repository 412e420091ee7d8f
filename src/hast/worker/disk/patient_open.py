"""Opening and reading a provider within a deadline: its thread is left behind where the disk does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hast.replication.types import Metadata
from hast.worker.disk.provider_open import OpenedProvider, ProviderError, open_provider, read_metadata

EXIT_NO_ANSWER = 74


class NoAnswer(ProviderError):
    """The disk hangs, and a thread of this process in it."""


@dataclass(slots=True)
class Found:
    """What the thread came to."""

    opened: OpenedProvider | None = None
    contents: tuple[Metadata, bytes] | None = None
    error: Exception | None = None


def open_and_read(
    path: str, resource: str, limit_s: float, open_by: Callable[[str], OpenedProvider] = open_provider
) -> Found:
    """`opened` alone when the metadata will not do; `error` says why something is missing. `limit_s`: 0 waits for ever.

    Raises NoAnswer.
    """
    found = Found()
    thread = threading.Thread(target=_open_and_read, args=(path, resource, found, open_by), name="open", daemon=True)
    thread.start()
    thread.join(limit_s or None)
    if thread.is_alive():
        raise NoAnswer(f"Provider {path} does not answer: not opened and read within {limit_s:g} s.", EXIT_NO_ANSWER)
    if found.error is not None and not isinstance(found.error, ProviderError):
        raise found.error
    return found


def _open_and_read(path: str, resource: str, found: Found, open_by: Callable[[str], OpenedProvider]) -> None:
    try:
        found.opened = open_by(path)
        found.contents = read_metadata(found.opened, resource)
    except Exception as error:
        found.error = error
