"""A worker process that has done its imports and waits to be needed: `python -P -m hast.supervisor.standby FD`.

Starting an interpreter and its modules takes longer than all the rest of a fail-over, so hastd keeps some of these. It
becomes the worker of whichever resource its start message names, and ends when hastd does.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys

from setproctitle import setproctitle

from hast.daemon import privileges

TITLE = "hastd: standby"
_PRELOAD = (
    "hast.worker.worker_primary",
    "hast.worker.worker_secondary",
    "hast.worker.export.fuse",
    "hast.worker.export.ublk",
    "encodings.idna",
)
"""Also what is needed later only: a worker that is no longer root may not be able to read its own program."""


def main(arguments: list[str]) -> int:
    """Wait for a start message, then be that worker."""
    module = importlib.import_module(os.environ.get("HAST_WORKER_MODULE", "hast.worker.worker"))
    if module.__name__ == "hast.worker.worker":
        for name in _PRELOAD:
            importlib.import_module(name)
        privileges.prepare()
    setproctitle(TITLE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    poll = select.poll()
    poll.register(int(arguments[0]), select.POLLIN)
    poll.poll()
    return int(module.main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
