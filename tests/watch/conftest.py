"""The fixture that starts a real hastd."""

from __future__ import annotations

from daemon_fixtures import daemon, make_daemon
from secure_pair import secure

__all__ = ["daemon", "make_daemon", "secure"]
