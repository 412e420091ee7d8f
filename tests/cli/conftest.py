"""The commands are tested against the same daemons as the supervisor."""

from __future__ import annotations

from daemon_fixtures import daemon, make_daemon, standing_daemon
from secure_pair import secure

__all__ = ["daemon", "make_daemon", "secure", "standing_daemon"]
