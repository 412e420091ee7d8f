"""A provider that truly hangs: a FUSE file whose server is stopped, so that threads sleep in the kernel and cannot be
killed. Needs root and /dev/fuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from hast.device.device_steps import abort_connection, mount_fuse, mount_minor, unmount

SERVER = Path(__file__).parent / "ram_worker.py"
BREATH_S = 0.004
"""How long a slow disk works between two times in which it does not."""


def missing_for_hangs() -> str:
    """Why there can be none here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "needs /dev/fuse"


class HangingDisk:
    """`path` is the provider, its contents are those of `image`."""

    def __init__(self, directory: Path, image: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._descriptor = mount_fuse(directory)
        self.path = directory / "disk"
        self._slow_s = 0.0
        self._thread: threading.Thread | None = None
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER), "fuse", str(self._descriptor), str(image), "new", "1"],
            pass_fds=[self._descriptor],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"

    def hang(self) -> None:
        """Whoever asks from now on sleeps."""
        self._server.send_signal(signal.SIGSTOP)

    def answer(self) -> None:
        """Go on, with what was asked meanwhile too."""
        self._server.send_signal(signal.SIGCONT)

    def be_slow(self, seconds: float) -> None:
        """From now on most of what is asked takes up to so long."""
        self._slow_s = seconds
        self._thread = threading.Thread(target=self._stutter, daemon=True)
        self._thread.start()

    def be_quick(self) -> None:
        """The end of that."""
        self._slow_s = 0.0
        if self._thread is not None:
            self._thread.join(10)

    def _stutter(self) -> None:
        while self._slow_s:
            self.hang()
            time.sleep(self._slow_s)
            self.answer()
            time.sleep(BREATH_S)

    def close(self) -> None:
        """Fail whatever sleeps, and take it away."""
        minor = mount_minor(self._directory)
        if minor is not None:
            abort_connection(minor)
            unmount(self._directory)
        self._server.kill()
        self._server.wait(10)
        assert self._server.stdout is not None
        self._server.stdout.close()
        os.close(self._descriptor)
        self._directory.rmdir()
