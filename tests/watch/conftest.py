"""Real daemons for the tests that look at them."""

from daemon_fixtures import make_daemon

__all__ = ["make_daemon"]
