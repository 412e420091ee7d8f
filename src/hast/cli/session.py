"""What every command of hastctl needs: the configuration, the connection to hastd, and a way to fail in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hast.cli.client import ControlClient
    from hast.config.model import Configuration

STATUS_TIMEOUT_S = 15.0
DISK_TIMEOUT_S = 150.0


class Failure(Exception):
    """The command failed; the text goes to stderr."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say_error(text: str) -> None:
    """One line on stderr."""
    print(" ".join(text.split("\n")), file=sys.stderr)


def first_code(entries: Sequence[dict[str, Any]]) -> int:
    """Exit code of a command over several resources: the first error, else 0."""
    return next((int(entry.get("code") or 1) for entry in entries if entry.get("error")), 0)


def complain(entries: Sequence[dict[str, Any]]) -> int:
    """Say what could not be done; returns the exit code."""
    for entry in entries:
        if entry.get("error"):
            say_error(f"[{entry['name']}] {entry['error']}")
    return first_code(entries)


class Session:
    """Configuration file and control connection, each made when first needed."""

    def __init__(self, config_path: str, debug: int = 0) -> None:
        self.config_path = config_path
        self._debug = debug

    def configuration(self) -> Configuration:
        """The parsed configuration. Raises Failure."""
        from hast.config import hastconf
        from hast.config.host import this_host
        from hast.config.model import ConfigError

        try:
            return hastconf.load(self.config_path, this_host())
        except ConfigError as error:
            raise Failure(str(error), error.exit_code) from None

    def client(self) -> ControlClient:
        """The daemon's control connection; its address comes from the daemon's record where that is current."""
        from hast.cli.client import ControlClient
        from hast.daemon import config_record

        address = config_record.read(self.config_path) or self.configuration().control
        self._tell(f"configuration {self.config_path}, hastd at {address}")
        return ControlClient(address)

    def _tell(self, text: str) -> None:
        if self._debug:
            say_error(f"[DEBUG][1] {text}")

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """One request to hastd. Raises Failure."""
        from hast.cli.client import ControlError

        client = self.client()
        self._tell(f"request {request}, at most {timeout_s:g} s")
        try:
            reply = client.ask(request, timeout_s)
        except ControlError as error:
            raise Failure(str(error), error.exit_code) from None
        self._tell(f"reply {reply}")
        return reply

    def status(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Status objects of these resources, of all when none is named."""
        request = {"command": "status", "resources": list(names) or ["all"], "fresh": True}
        resources = self.ask(request, STATUS_TIMEOUT_S).get("resources")
        return resources if isinstance(resources, list) else []
