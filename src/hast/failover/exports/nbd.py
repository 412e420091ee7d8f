"""NBD over TCP: a forwarder process in front of hastd's NBD socket of one resource, on the master only."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from hast.config.failover_model import NbdExport
from hast.failover.part import Context, Part, PartError

TERM_S = 1.0


class NbdOverTcp(Part):
    """One export. `socket` is hastd's NBD socket, `record` the file that the forwarder keeps locked."""

    def __init__(self, export: NbdExport, socket: Path, record: Path) -> None:
        self.name = f"export nbd {export.resource}"
        self.timeout_s = export.timeout_s
        self._export = export
        self._socket = socket
        self._record = record

    def is_up(self, context: Context) -> bool | None:
        """Whether a forwarder runs with these settings; None when one runs with others."""
        running = self._running()
        if running is None:
            return False
        wanted = (str(self._socket), list(self._export.listen), self._export.max_clients)
        return True if (running.get("target"), running.get("listen"), running.get("clients")) == wanted else None

    def up(self, context: Context) -> None:
        """Start the forwarder, in place of one with other settings."""
        self.down(context)
        listen = [word for address in self._export.listen for word in ("--listen", address)]
        module = (sys.executable, "-m", "hast.failover.exports.forwarder")
        argv = (*module, "--target", str(self._socket), *listen, "--clients", str(self._export.max_clients))
        result = context.commands.run((*argv, "--record", str(self._record)), context.left_s(), marked=False)
        if result.code != 0:
            context.log.error(f"Unable to export resource {self._export.resource} by NBD: {result.problem()}.")
            raise PartError(result.problem())
        context.log.debug(f"Resource {self._export.resource} exported by NBD on {', '.join(self._export.listen)}.")

    def down(self, context: Context) -> None:
        """End the forwarder; its clients are cut off."""
        term_until_s = context.left_s() - TERM_S
        first = True
        while (running := self._running()) is not None:
            if not context.left_s():
                raise PartError(f"the forwarder (process {running.get('pid')}) cannot be ended")
            pid = running.get("pid")
            if isinstance(pid, int) and pid > 1:
                self._signal(pid, signal.SIGTERM if context.left_s() > term_until_s else signal.SIGKILL)
            first = False
            context.pause(0.02)
        if not first:
            context.log.debug(f"Resource {self._export.resource} no longer exported by NBD.")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        where = ", ".join(self._export.listen)
        return f"serve {self._export.resource} by NBD on {where}" if up else f"end NBD on {where}"

    def _running(self) -> dict[str, Any] | None:
        """The forwarder's record while it lives (the file is locked), None when there is none."""
        try:
            descriptor = os.open(self._record, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except OSError:
            data = os.pread(descriptor, 65536, 0)
        finally:
            os.close(descriptor)
        try:
            record = json.loads(data or b"{}")
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except OSError:
            pass
