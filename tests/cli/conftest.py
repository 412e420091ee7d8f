"""The commands are tested against the same daemons as the supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "node"))

from daemon_fixtures import daemon, make_daemon, standing_daemon

__all__ = ["daemon", "make_daemon", "standing_daemon"]
