"""NBD over TCP: a forwarder process in front of hastd's NBD socket of one resource, on the master only."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hast.config.failover_model import NbdExport, NbdTls
from hast.failover.exports.forwarder import parse_address
from hast.failover.part import Context, Part, PartError
from hast.format.nbd import GREETING

TERM_S = 1.0
ANSWER_S = 1.0


class NbdOverTcp(Part):
    """One export. `socket` is hastd's NBD socket, `record` the file that the forwarder keeps locked.

    `otherwise`: where to listen when the configuration does not say.
    """

    def __init__(self, export: NbdExport, socket: Path, record: Path, otherwise: Sequence[str] = ()) -> None:
        self.name = f"export nbd {export.resource}"
        self.timeout_s = export.timeout_s
        self._export = export
        self._listen = export.listen or tuple(otherwise)
        self._socket = socket
        self._record = record

    def is_up(self, context: Context) -> bool | None:
        """Whether a forwarder runs with these settings; None when one runs with others."""
        running = self._running()
        if running is None:
            return False
        return True if running.get("settings") == self._settings() else None

    def _settings(self) -> dict[str, Any]:
        """Options of the forwarder, as it notes them."""
        tls = self._export.tls or NbdTls()
        return {
            "target": str(self._socket),
            "listen": list(self._listen),
            "clients": self._export.max_clients,
            "allow": list(self._export.allow),
            "tls_certificates": tls.certificates,
            "tls_psk": tls.psk,
            "any_peer": not tls.verify_peer,
        }

    def ailment(self, context: Context) -> str:
        """No answer to a client: of the forwarder, or of hastd behind it."""
        if not _greets(lambda: _unix(self._socket)):
            return f"exported, but hastd does not answer on {self._socket}"
        for address in self._listen:
            host, port = parse_address(address)
            if _is_local(host) and not _answers(host, port):
                return f"exported, but nobody answers on {address}"
        return ""

    def up(self, context: Context) -> None:
        """Start the forwarder, in place of one with other settings."""
        self.down(context)
        if not self._listen:
            problem = "no address to listen on: carp.conf has none, and there is no `listen`"
            context.log.error(f"Unable to export resource {self._export.resource} by NBD: {problem}.")
            raise PartError(problem)
        options = [*_options(self._settings()), "--record", str(self._record)]
        argv = (sys.executable, "-m", "hast.failover.exports.forwarder", *options)
        result = context.commands.run(argv, context.left_s(), marked=False)
        if result.code != 0:
            context.log.error(f"Unable to export resource {self._export.resource} by NBD: {result.problem()}.")
            raise PartError(result.problem())
        context.log.debug(f"Resource {self._export.resource} exported by NBD on {', '.join(self._listen)}.")

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
        where = ", ".join(self._listen) or "no address"
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


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        match value:
            case bool():
                yield from [option] * value
            case list():
                yield from (f"{option}={each}" for each in value)
            case _:
                yield f"{option}={value}"


def _unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_S)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _greets(connect: Callable[[], socket.socket]) -> bool:
    try:
        with connect() as connection:
            return connection.recv(len(GREETING) + 2, socket.MSG_WAITALL).startswith(GREETING)
    except OSError:
        return False


def _answers(host: str, port: int) -> bool:
    """A full forwarder accepts and hangs up, which is an answer."""
    try:
        with socket.create_connection((host, port), ANSWER_S) as connection:
            connection.recv(1)
    except ConnectionResetError:
        return True
    except OSError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Whether the address is this host's: a shared one may be the other's, and is none of ours to ask."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.bind(address)
    except OSError:
        return False
    return True
