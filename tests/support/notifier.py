"""A real hast-notify for tests, beside a Daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from daemon import DIES_WITH_THE_TESTS, Daemon, wait_for


class Notifier:
    """hast-notify -F beside a hastd."""

    def __init__(self, hastd: Daemon, text: str) -> None:
        self.hastd = hastd
        self.config = hastd.directory / "notify.conf"
        self.state = hastd.directory / "notify" / "state.json"
        self.log_path = hastd.directory / "notify.log"
        self.config.write_text(f"host east\nhastd {hastd.directory}/ctl\n{text}\n")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "hast.cli.hast_notify", "-c", str(self.config), *options]

    def start(self) -> None:
        options = ["-F", "-d", "-P", f"{self.hastd.directory}/notify.pid", "--state", str(self.state)]
        before = self.log().count("receivers of")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*DIES_WITH_THE_TESTS, *self.command(*options)], env=self.hastd.environment, stdout=log, stderr=log
            )
        wait_for(lambda: self.log().count("receivers of") > before, "hast-notify to start", 20)
        self.wait_read()

    def wait_read(self) -> None:
        """Until it has read hastd's last event."""
        wait_for(lambda: self.place() == self.last_seq(), f"the last event to be read: {self.log()}", 20)

    def place(self) -> int:
        try:
            return int(json.loads(self.state.read_text())["place"]["seq"])
        except (OSError, TypeError, ValueError):
            return -1

    def last_seq(self) -> int:
        return int(next(self.hastd.events())["seq"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""


def told(web: Any) -> list[str]:
    return [f"{m['resource']} {m['event']} {m['state']}" for post in web.taken for m in post["messages"]]
