"""A process that opens one disk for a worker that may not: `python -P -m hast.worker.disk.opener PATH FD`.

Started by the supervisor beside an order that needs a disk (hastctl attach, replace); FD is its end of a socket whose
other end goes to the worker with the order, once the process has said that it is ready. Each packet that comes there is
answered by the disk, freshly opened and locked, or by why not. It ends when the worker closes its end, and hangs where
the disk does: nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Callable

from hast.daemon.descriptors import receive
from hast.daemon.waiting import READY, START_DEADLINE_S, readable
from hast.worker.disk.provider_open import OpenedProvider, ProviderError, open_provider

MAX_REPLY_BYTES = 4096
_DESCRIPTORS = 3
Open = Callable[[str], OpenedProvider]
"""How a disk is opened: here (`open_provider`), or by somebody who may. Raises ProviderError."""


class Opener:
    """The supervisor's side: `theirs` goes to the worker."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def start(self, path: str) -> None:
        """Until it is ready: what it takes to start counts for no delay of the disk. Raises OSError."""
        try:
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hast.worker.disk.opener", path, str(self._ours.fileno())),
                pass_fds=(self._ours.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            self._ours.close()
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                await readable(self.theirs)
            self.theirs.recv(len(READY))
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"not ready within {START_DEADLINE_S:g} s") from None

    def close(self) -> None:
        """Once the worker has its end, or will not get it."""
        self.theirs.close()


def ask(sock: socket.socket, path: str) -> OpenedProvider:
    """The worker's side: the disk, opened. Raises ProviderError."""
    try:
        sock.send(b"open")
        payload, descriptors = receive(sock, MAX_REPLY_BYTES, _DESCRIPTORS)
        reply = json.loads(payload)
    except (OSError, ValueError) as error:
        raise ProviderError(f"Unable to open {path}: who opens it does not answer ({error}).", 71) from None
    if "error" in reply:
        raise ProviderError(str(reply["error"]), int(reply["exit"]))
    fd, store_fd, *witness = descriptors
    sizes = int(reply["size"]), int(reply["sector"]), bool(reply["block"])
    return OpenedProvider(fd, path, *sizes, store_fd, witness[0] if witness else -1)


def serve(path: str, sock: socket.socket) -> None:
    """Until the other side closes."""
    while sock.recv(16):
        try:
            opened = open_provider(path)
        except ProviderError as error:
            sock.send(json.dumps({"error": str(error), "exit": error.exit_code}).encode())
            continue
        told = {"size": opened.size_bytes, "sector": opened.sector_size_bytes, "block": opened.is_block_device}
        socket.send_fds(sock, [json.dumps(told).encode()], opened.descriptors())
        opened.close()


def main(arguments: list[str]) -> int:
    path, number = arguments
    with contextlib.suppress(OSError), socket.socket(fileno=int(number)) as sock:
        os.set_inheritable(sock.fileno(), False)
        sock.send(READY)
        serve(path, sock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
