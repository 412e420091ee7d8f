"""Runs a program of the administrator's outside of the daemon that wants it, where that daemon's service is confined.

Hooks, the fence program and `failover leave` do what they please, as root: mount, import pools, talk to services. A
confined hastd has them run by a service that is not (hast-action.service): `python -P -m hast.daemon.elsewhere PROGRAM
ARGUMENT …` takes the program's place, with its standard streams and exit code; when it is killed, so is the program,
with its children. `serve` is the other side. Only root is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from hast.daemon.descriptors import receive
from hast.daemon.waiting import readable

VARIABLE = "HAST_PROGRAMS"
"""Names the socket of the service; unset where programs are run by the daemon itself."""
UNAVAILABLE = 69
MAX_REQUEST_BYTES = 128 * 1024
MAX_PROGRAMS = 64
REQUEST_S = 5.0
_STREAMS = 3
_log = logging.getLogger("hast.programs")


def is_used() -> bool:
    """Whether this daemon is confined."""
    return bool(os.environ.get(VARIABLE))


def through(argv: Sequence[str]) -> list[str]:
    """The command line to start instead of `argv`."""
    return [sys.executable, "-P", "-m", "hast.daemon.elsewhere", *argv] if is_used() else list(argv)


def main(arguments: list[str]) -> int:
    """The stand-in."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    request = json.dumps({"argv": arguments, "env": environment, "cwd": os.getcwd()}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(os.environ[VARIABLE])
            socket.send_fds(sock, [request], [0, 1, 2])
            answer = sock.recv(64)
        except OSError as error:
            print(f"{os.environ.get(VARIABLE)}: {error.strerror}; is hast-action.service running?", file=sys.stderr)
            return UNAVAILABLE
    if not answer:
        print(f"{arguments[:1]}: the service that ran it is gone", file=sys.stderr)
        return UNAVAILABLE
    code = int(answer)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def listen(path: str) -> socket.socket:
    """Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path):
        os.unlink(path)
    old_mask = os.umask(0o177)
    try:
        listening.bind(path)
    finally:
        os.umask(old_mask)
    listening.listen(8)
    listening.setblocking(False)
    return listening


async def serve(listening: socket.socket) -> None:
    """Until cancelled; what runs then goes on."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    while True:
        sock, _address = await loop.sock_accept(listening)
        if len(running) >= MAX_PROGRAMS:
            _log.error("more than %d programs at once; refused", MAX_PROGRAMS)
            sock.close()
            continue
        task = loop.create_task(_serve_one(sock))
        running.add(task)
        task.add_done_callback(running.discard)


async def _serve_one(sock: socket.socket) -> None:
    streams: list[int] = []
    with sock:
        sock.setblocking(False)
        try:
            _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                _log.warning("user %d wants a program to be run; refused", uid)
                return
            async with asyncio.timeout(REQUEST_S):
                request, streams = await _receive(sock)
            process = await asyncio.create_subprocess_exec(
                *request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                start_new_session=True,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("a program cannot be run: %s", error)
            return
        finally:
            for stream in streams:
                os.close(stream)
        await _wait(process, sock)


async def _wait(process: asyncio.subprocess.Process, sock: socket.socket) -> None:
    """For its end, or that of who wants it."""
    ended = asyncio.ensure_future(process.wait())
    unwanted = asyncio.ensure_future(readable(sock))
    await asyncio.wait((ended, unwanted), return_when=asyncio.FIRST_COMPLETED)
    unwanted.cancel()
    if ended.done():
        with contextlib.suppress(OSError):
            sock.send(str(process.returncode).encode())
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await ended


async def _receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    await readable(sock)
    payload, streams = receive(sock, MAX_REQUEST_BYTES, _STREAMS)
    request = json.loads(payload)
    if len(streams) != _STREAMS or not isinstance(request, dict):
        raise ValueError("not a request")
    return request, streams


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
