"""The fixtures that start a real hastd."""

from __future__ import annotations

from daemon_fixtures import daemon, make_daemon, standing_daemon
from daemon_pair import pair
from writing_client import writer

__all__ = ["daemon", "make_daemon", "pair", "standing_daemon", "writer"]
