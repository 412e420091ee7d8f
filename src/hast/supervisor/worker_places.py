"""Makes what workers need that are no longer root: a directory of theirs for what outlives them, one for maps of
discarded changes, a key that they can read, and the kernel's module for TLS.

In a directory of the workers root opens nothing: it makes, gives away and removes names there, and follows no links.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from hast.daemon import kernel_tls, node_key, paths
from hast.daemon.in_thread import in_thread
from hast.daemon.logs import NOTICE, in_words
from hast.daemon.privileges import WORKER_USER, WORKER_VARIABLE, Identity, worker_identity

log = logging.getLogger("hast.supervisor")

MODULE_DEADLINE_S = 10.0
THROUGH = 0o711
"""Others may go through the state directory to what they can name and may read."""


def prepare() -> Identity | None:
    """Before the first worker starts. Returns whom workers are to become; None: they stay what hastd is."""
    user = worker_identity()
    try:
        _own(paths.make_run_directory() / "worker", user)
        _take_in(user)
        if user is not None:
            state = paths.make_state_directory()
            if state.stat().st_mode & 0o777 != THROUGH:
                state.chmod(THROUGH)
            _own(state / "discarded", user)
            node_key.share_own()
    except OSError as error:
        log.warning("What workers need cannot be made: %s: %s.", error.filename, in_words(error))
    return user


def tell_rights() -> None:
    """A line in the log where workers keep the rights of root."""
    if worker_identity() is None and os.geteuid() == 0:
        name = os.environ.get(WORKER_VARIABLE, WORKER_USER)
        log.log(NOTICE, "There is no user %s: workers run as root (see hastd(8), security).", name)


async def load_tls() -> None:
    """The kernel loads its module for root that asks. Under systemd, which takes that right away, the unit did it."""
    with suppress(TimeoutError):
        if reason := await in_thread(kernel_tls.missing, MODULE_DEADLINE_S):
            log.debug("TLS is done in user space: %s.", reason)


def _own(directory: Path, user: Identity | None) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    who = user or Identity(os.geteuid(), os.getegid())
    found = directory.stat()
    if (found.st_uid, found.st_gid) != who:
        os.chown(directory, *who)


def _take_in(user: Identity | None) -> None:
    """Marks of flushes that workers left which were root: they go on to count."""
    run = paths.run_directory()
    for mark in run.glob("*.flush"):
        if user is not None:
            mark.chmod(0o666)  # nobody else gets there: hastd may not give files away, confined as it is
        mark.rename(run / "worker" / mark.name)
