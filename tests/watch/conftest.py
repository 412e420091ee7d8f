"""The fixture that starts a real hastd."""

from __future__ import annotations

from daemon_fixtures import make_daemon

__all__ = ["make_daemon"]
