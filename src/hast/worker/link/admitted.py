"""The session of a connection that was accepted, made by the worker that is to serve it, before anything else happens.

Waits for the other side, within a deadline: the process has nothing else to do yet. What the session is used for, and
how its keys are changed later, is sealed.py's.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import socket
import ssl
import time
from typing import NamedTuple

from hast.daemon import kernel_tls
from hast.daemon.kernel_tls import Handover, KernelSession
from hast.daemon.tls import READ_BYTES, Channel, TlsError, offer_new_keys


def binding(connection: str, token: bytes) -> bytes:
    """What the second session of connection "A" or "B" begins with."""
    return b"HAST-" + connection.encode() + token


class Session(NamedTuple):
    """What `accept` made, and what the next one on this connection needs."""

    channel: Channel
    kernel: KernelSession | None
    context: ssl.SSLContext
    bound_to: bytes


def accept(
    sock: socket.socket, context: ssl.SSLContext, fingerprints: tuple[str, ...], bound_to: bytes, deadline_s: float
) -> Session:
    """The second session, on the side that accepted: waits for it, in a process that has nothing else to do yet, and
    that makes one session with `context` at a time. Raises TlsError, TimeoutError, OSError."""
    until_s = time.monotonic() + deadline_s
    if kernel_tls.missing():
        offer_new_keys(context)
    channel = Channel(context, server=True)
    with kernel_tls.begin(context) or contextlib.nullcontext() as handover:
        while not channel.established:
            _receive(sock, channel, until_s, handover)
            try:
                sock.sendall(channel.handshake())
            except TlsError:
                sock.sendall(channel.last_words())
                raise
        channel.require(fingerprints)
        kernel = handover.give(sock, channel, server=True) if handover is not None else None
        session = Session(channel, kernel, context, bound_to)
    if not hmac.compare_digest(_begins_with(sock, session, len(bound_to), until_s), bound_to):
        raise TlsError("it does not belong to the connection that was admitted")
    return session


def _begins_with(sock: socket.socket, session: Session, size: int, until_s: float) -> bytes:
    """The first `size` bytes of what the other side says."""
    channel, kernel = session.channel, session.kernel
    told = bytearray(size)
    view = memoryview(told)
    done = 0
    while done < size:
        if kernel is not None and kernel.receives:
            _await(sock, until_s)
            try:
                count = kernel.recv_into(view[done:])
            except BlockingIOError:  # the record is not whole yet
                continue
            ended = not count
        else:
            count = channel.open_into(view[done:])
            ended = channel.ended
            if not count and not ended:
                _receive(sock, channel, until_s)
        done += count
        if ended:
            raise TlsError("it ended the session")
    return bytes(told)


def _receive(sock: socket.socket, channel: Channel, until_s: float, handover: Handover | None = None) -> None:
    _await(sock, until_s)
    data = sock.recv(READ_BYTES if handover is None else handover.wanted_bytes)
    if not data:
        raise TlsError("it closed the connection in the TLS handshake")
    if handover is not None:
        handover.took(data)
    channel.receive(data)


def _await(sock: socket.socket, until_s: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(max(0.0, until_s - time.monotonic()) * 1000):
        raise TimeoutError("no TLS handshake in time")
