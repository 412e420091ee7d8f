"""The fixtures that start a real hastd."""

from __future__ import annotations

from daemon_fixtures import daemon, make_daemon, standing_daemon

__all__ = ["daemon", "make_daemon", "standing_daemon"]
