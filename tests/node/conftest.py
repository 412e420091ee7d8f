"""Makes the helpers beside the tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from daemon_fixtures import daemon, make_daemon, standing_daemon

__all__ = ["daemon", "make_daemon", "standing_daemon"]
