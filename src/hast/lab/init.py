"""Process 1 of a lab host: builds its root, keeps its log, ends with it.

Started as `unshare … python -m hast.lab.init`; the first line of standard input is the plan, a JSON object. It says
`ready` on standard output. End of file on standard input is a power cut, or the end of the lab: everything in the
host is killed, loop devices over the host's own FUSE mounts are detached, and the kernel removes the namespaces.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from hast.lab import loops, mounts

LOG = Path("/var/log/debug.log")
TIMELINE = Path("/var/log/timeline.log")
"""The same lines with the machine's monotonic clock in front of them, which all hosts share."""
CLEANUP_S = 2.0


def main() -> None:
    """Run as process 1 with the JSON object that Host.power_on writes."""
    plan = json.loads(sys.stdin.buffer.readline())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    socket.sethostname(plan["hostname"])
    mounts.build_root(
        Path(plan["state"]), plan["etc"], plan["disks"], plan["visible"], Path(plan["root"]), plan["sealed"]
    )
    log = _open_log()
    os.write(1, b"ready\n")
    _serve(log, plan["hostname"].partition(".")[0])
    _end()


def _open_log() -> socket.socket:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    log.bind("/dev/log")
    Path("/dev/log").chmod(0o666)
    return log


def _serve(log: socket.socket, host: str) -> None:
    """Write what arrives at /dev/log to /var/log/debug.log, as syslogd would, until told to end."""
    while True:
        ready, _, _ = select.select([0, log], [], [])
        if log in ready:
            now_s = time.monotonic()
            line = _log_line(log.recv(65536), host)
            with LOG.open("a") as file, TIMELINE.open("a") as timeline:
                file.write(line)
                timeline.write(f"{now_s:.4f} {line[16:]}")
        if 0 in ready:
            return


def _log_line(packet: bytes, host: str) -> str:
    """`<PRI>Mon dd hh:mm:ss tag: text` as it stands in a log file; the time is ours."""
    text = packet.decode(errors="replace").rstrip("\n\0").partition(">")[2]
    if len(text) > 16 and text[3] == " " and text[9] == text[12] == ":":
        text = text[16:]
    return f"{time.strftime('%b %e %H:%M:%S')} {host} {text}\n"


def _end() -> None:
    """Kill all, then detach the loop devices that a dead FUSE server of this host has left."""
    mine = loops.mounted_devices("/proc/self/mountinfo", kinds=("fuse",))
    _kill_all()
    deadline = time.monotonic() + CLEANUP_S
    while loops.detach_over(mine) and time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(0)


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main()
