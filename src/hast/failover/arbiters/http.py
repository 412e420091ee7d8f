"""One HTTP/1.1 POST with a JSON body and a JSON answer, for etcd's gateway. Bounded in time and size; no redirects."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from hast.format.text import printable

MAX_ANSWER_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 16 * 1024


class HttpError(Exception):
    """No answer, or not one in JSON; `str()` is one line. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


async def post(
    url: str, body: dict[str, Any], deadline_s: float, context: ssl.SSLContext | None = None, token: str = ""
) -> dict[str, Any]:
    """Send `body`, return the JSON object of a 200 answer. `context` for https, `token` for Authorization.

    Raises HttpError.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await _post(url, body, context, token)
    except TimeoutError:
        raise HttpError(f"{url}: no answer within {deadline_s:.1f} s") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise HttpError(f"{url}: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:
        raise HttpError(f"{url}: {error}") from None


async def _post(url: str, body: dict[str, Any], context: ssl.SSLContext | None, token: str) -> dict[str, Any]:
    parts = urlsplit(url)
    tls = (context or ssl.create_default_context()) if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=_MAX_LINE_BYTES)
    try:
        payload = json.dumps(body).encode()
        authorization = f"Authorization: {token}\r\n" if token else ""
        head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\nConnection: close\r\n"
            f"{authorization}\r\n"
        )
        writer.write(head.encode("ascii") + payload)
        await writer.drain()
        status, headers = await _read_head(reader)
        answer = await _read_body(reader, headers)
    finally:
        writer.close()
    if status != 200:
        raise HttpError(f"{url}: HTTP {status}: {printable(answer[:200].decode(errors='replace').strip())}", status)
    value = json.loads(answer.splitlines()[0] if answer else b"")
    if not isinstance(value, dict):
        raise ValueError("the answer is not a JSON object")
    return value


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    words = (await reader.readline()).split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).strip()) and len(headers) < 100:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(words[1]), headers


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    length = headers.get("content-length")
    if length is None:
        return await reader.read(MAX_ANSWER_BYTES)
    if not length.isdigit() or int(length) > MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of {length[:20]} bytes")
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        if size < 0 or len(body) + size > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        body += await reader.readexactly(size)
        await reader.readline()
        if body.endswith(b"\n"):
            return body
    return body
