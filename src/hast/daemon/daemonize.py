"""Going into the background, as daemon(3). Not for use once threads or an event loop run.

hastd has bound its sockets and locked its pidfile before it calls this, so whatever can fail at start was told on the
terminal, and a client that comes right after the shell prompt is served.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def daemonize(claim: Callable[[], None]) -> None:
    """Return in a grandchild: own session, no terminal, directory `/`, descriptors 0-2 on /dev/null.

    The grandchild calls `claim` (which writes the pidfile) before the shell that waits for the first process goes on.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    claimed, claiming = os.pipe()
    if os.fork():
        os.close(claiming)
        os.read(claimed, 1)
        os._exit(0)
    os.close(claimed)
    os.setsid()
    if os.fork():
        os._exit(0)
    claim()
    os.close(claiming)
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
