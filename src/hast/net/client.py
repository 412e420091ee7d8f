"""A small client of carpd's control socket (docs/carpd.8.md): one JSON object a line, with a deadline."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from hast.daemon.paths import carpd_socket

ASK_S = 5.0


class CarpdError(Exception):
    """carpd did not do what was asked, or is not there. `str()` is one line."""


def control_path() -> str:
    """Where carpd listens: as carp.conf says, where there is one, else carpd.sock in the run directory."""
    usual = str(carpd_socket())
    from hast.config.carp_model import DEFAULT_CARP_CONF

    try:
        if "control" not in Path(DEFAULT_CARP_CONF).read_text():
            return usual
    except (OSError, ValueError):
        return usual
    from hast.config import carpconf
    from hast.config.carp_model import DEFAULT_CARP_CONTROL
    from hast.config.host import this_host
    from hast.config.model import ConfigError

    try:
        control = carpconf.load(DEFAULT_CARP_CONF, this_host()).control
    except ConfigError:
        return usual
    return usual if control == DEFAULT_CARP_CONTROL else control


class Carpd:
    """Talks to the daemon behind one socket. Every method raises CarpdError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def vhids(self) -> list[dict[str, Any]]:
        """The status object of every vhid."""
        found = self._ask({"command": "status"}).get("vhids")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    def leave(self, seconds: float) -> None:
        """Give all addresses to another host and take them from nobody for so long."""
        self._ask({"command": "leave", "seconds": seconds})

    def keep(self) -> None:
        """The end that comes is the first half of a restart."""
        self._ask({"command": "keep"})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(ASK_S)
                sock.connect(self.path)
                sock.sendall(json.dumps(request).encode() + b"\n")
                with sock.makefile("rb") as stream:
                    reply = json.loads(stream.readline() or b"{}")
        except (OSError, ValueError) as error:
            raise CarpdError(f"carpd at {self.path}: {getattr(error, 'strerror', None) or error}") from None
        if not isinstance(reply, dict) or reply.get("error", "no answer") is not None:
            raise CarpdError(f"carpd at {self.path}: {reply.get('error') if isinstance(reply, dict) else 'no answer'}")
        return reply
