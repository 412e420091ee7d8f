"""The ways out: a mail by the local sendmail, a POST of JSON, a command. Each attempt ends by its deadline.

Nothing that a message holds becomes a command, a header or an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid
from typing import Any

from hast.config.notify_model import Kind, Receiver
from hast.daemon.in_thread import in_thread
from hast.format.text import printable
from hast.watch.notify.decisions.message import Message
from hast.watch.notify.forms import body, document, environment, subject, worst

MARGIN_S = 1.0
KILLED_S = 2.0
MAX_OUTPUT_BYTES = 400
_IMPORTANCE = {"critical": "high", "error": "high"}


class DeliveryError(Exception):
    """The receiver did not take it; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out at once."""

    messages: Sequence[Message]
    host: str
    lost: int


async def deliver(receiver: Receiver, batch: Batch) -> None:
    """Raises DeliveryError."""
    match receiver.kind:
        case Kind.MAIL:
            await _mail(receiver, batch)
        case Kind.WEBHOOK:
            await _webhook(receiver, batch)
        case Kind.COMMAND:
            told = document(batch.messages, batch.host, batch.lost)
            variables = environment(batch.messages, batch.host, batch.lost)
            await _run(["/bin/sh", "-c", receiver.target], json.dumps(told).encode(), receiver.timeout_s, variables)


async def _mail(receiver: Receiver, batch: Batch) -> None:
    mail = EmailMessage()
    mail["To"] = receiver.target
    if receiver.sender:
        mail["From"] = receiver.sender
    mail["Subject"] = subject(batch.messages, batch.host)
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=batch.host)
    mail["Auto-Submitted"] = "auto-generated"
    if level := _IMPORTANCE.get(worst(batch.messages).level):
        mail["Importance"] = level
    mail.set_content(body(batch.messages, batch.host, batch.lost))
    sender = ["-f", receiver.sender] if receiver.sender else []
    await _run([receiver.sendmail, "-i", *sender, "--", receiver.target], mail.as_bytes(), receiver.timeout_s)


async def _run(argv: Sequence[str], given: bytes, timeout_s: float, variables: Mapping[str, str] | None = None) -> None:
    """Run a program to its end with `given` on its standard input. Its children go with it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryError(f"{argv[0]} cannot be run: {error.strerror}") from None
    output = bytearray()
    work = asyncio.gather(_feed(process, given), _collect(process, output))
    try:
        code = await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        raise DeliveryError(f"not done after {timeout_s:g} s") from None
    finally:
        await _end(process, work)
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        said = printable(output.decode(errors="replace").strip())
        raise DeliveryError(f"{how}{': ' if said else ''}{said}")


async def _feed(process: asyncio.subprocess.Process, given: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()


async def _collect(process: asyncio.subprocess.Process, output: bytearray) -> None:
    """The beginning of what it prints; the rest is read and dropped, so that nothing waits for us."""
    assert process.stdout is not None
    while piece := await process.stdout.read(4096):
        output += piece[: MAX_OUTPUT_BYTES - len(output)]


async def _end(process: asyncio.subprocess.Process, work: asyncio.Future[Any]) -> None:
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), KILLED_S)
    with contextlib.suppress(TimeoutError, asyncio.CancelledError, OSError):
        await asyncio.wait_for(work, 0.5)


# --- webhook ------------------------------------------------------------------------------------------------------


async def _webhook(receiver: Receiver, batch: Batch) -> None:
    content = json.dumps(document(batch.messages, batch.host, batch.lost)).encode()
    try:
        await in_thread(lambda: _post(receiver, content), receiver.timeout_s + MARGIN_S)
    except TimeoutError:
        raise DeliveryError(f"no answer within {receiver.timeout_s:g} s") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would arrive there as a GET without content, and count as done."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _post(receiver: Receiver, content: bytes) -> None:
    """In a thread. Raises DeliveryError; none of it shows the URL, which may hold a secret."""
    headers = {"Content-Type": "application/json", "User-Agent": "hast-notify", **dict(receiver.headers)}
    request = urllib.request.Request(receiver.target, content, headers, method="POST")
    try:
        context = ssl.create_default_context(cafile=receiver.ca or None)
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=receiver.timeout_s):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise DeliveryError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        reason = error.reason
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise DeliveryError(printable(why)) from None
    except Exception as error:
        raise DeliveryError(f"{type(error).__name__}: {printable(str(error), 200)}") from None
