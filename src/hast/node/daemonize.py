"""Going into the background, as daemon(3). Not for use once threads or an event loop run.

hastd has bound its sockets and locked its pidfile before it calls this, so whatever can fail at start was told on the
terminal, and a client that comes right after the shell prompt is served.
"""

from __future__ import annotations

import os
import sys


def daemonize() -> None:
    """Return in a grandchild: own session, no terminal, directory `/`, descriptors 0-2 on /dev/null."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
