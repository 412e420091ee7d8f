"""Who is answered by hast-monitor(8): by which name it may be called, and whether the token is known.

A page of somebody else that a browser has open can send requests here under a name that it has made point here (DNS
rebinding), so a name that is not ours is refused. With a token nothing but the way to give it is told without it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE = "hast-monitor"
MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_BYTES = 4096
OPEN_PATHS = frozenset({"/login", "/page.css"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TokenError(Exception):
    """A token file that is of no use. `str()` is one line."""


def read_token(path: Path) -> str:
    """The first line of the file. Raises TokenError."""
    try:
        with path.open("rb") as file:
            line = file.read(MAX_TOKEN_BYTES).partition(b"\n")[0].strip()
        token = line.decode("ascii")
    except OSError as error:
        raise TokenError(f"token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokenError(f"token file {path}: the token is not ASCII") from None
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise TokenError(f"token file {path}: the token has less than {MIN_TOKEN_CHARACTERS} characters")
    return token


class Guard:
    """`names`: by which this host is known, beside its addresses and localhost."""

    def __init__(self, names: Iterable[str] = (), token: str = "") -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._token = token
        self._session = hmac.new(token.encode(), b"hast-monitor: page", hashlib.sha256).hexdigest()

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    def knows_name(self, host: str) -> bool:
        """`host` is a Host header. An address is no name that can be made to point here."""
        name = host.strip().lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._names
        return True

    def is_token(self, given: str) -> bool:
        return self.has_token and hmac.compare_digest(_as_sent(given), self._token.encode())

    def admits(self, authorization: str, cookie: str) -> bool:
        """By `Authorization: Bearer TOKEN`, or by the cookie of who has given the token here."""
        if not self.has_token:
            return True
        kind, _, given = authorization.partition(" ")
        is_bearer = kind.lower() == "bearer" and self.is_token(given.strip())
        return is_bearer or hmac.compare_digest(_as_sent(cookie), self._session.encode())

    def admit(self, response: web.StreamResponse, *, secure: bool) -> None:
        """Give the cookie, which is good as long as the token is."""
        response.set_cookie(COOKIE, self._session, httponly=True, samesite="Strict", secure=secure, path="/")


def _as_sent(header: str) -> bytes:
    """Also of one that is no UTF-8."""
    return header.encode(errors="surrogateescape")


def middleware(guard: Guard) -> Middleware:
    """Before every route; also puts the headers of every answer."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not guard.knows_name(request.headers.get(hdrs.HOST, "")):
            text = "This name is not one of this host's: see --name in hast-monitor(8).\n"
            raise web.HTTPMisdirectedRequest(text=text)
        authorization, cookie = request.headers.get(hdrs.AUTHORIZATION, ""), request.cookies.get(COOKIE, "")
        if request.path not in OPEN_PATHS and not guard.admits(authorization, cookie):
            if request.path == "/" and request.method == hdrs.METH_GET:
                raise web.HTTPSeeOther("/login")
            raise web.HTTPUnauthorized(text="The token is missing or wrong.\n", headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return check


async def put_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal of aiohttp before an answer begins: also those of errors and streams."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
