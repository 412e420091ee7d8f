"""zfs-fuse on a lab host: the article's pool where the kernel has no ZFS."""

from __future__ import annotations

import signal

from hast.lab.host import Host
from hast.lab.processes import LabError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0


def start(host: Host) -> None:
    """Start zfs-fuse and wait until `zpool` reaches it. Raises LabError.

    Without the kernel's block cache: zfs-fuse cannot flush a loop device, so fsync would be an empty promise.
    """
    daemon = host.spawn(["zfs-fuse", "--no-daemon", "--no-kstat-mount", "--disable-block-cache"])

    def answers() -> bool:
        if daemon.poll() is not None:
            raise LabError(f"zfs-fuse ended on {host.name}: {daemon.output()}{daemon.errors()}")
        return host.run("zpool list", timeout_s=10).returncode == 0

    host.wait_for("zfs-fuse", answers, START_TIMEOUT_S)


def stop(host: Host) -> None:
    """End zfs-fuse in order; pools should be exported before."""
    for process in host.processes("^zfs-fuse"):
        process.kill(signal.SIGTERM)
    host.wait_for("the end of zfs-fuse", lambda: not host.processes("^zfs-fuse"), STOP_TIMEOUT_S)
