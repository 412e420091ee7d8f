"""Which addresses the peers of each resource may connect from: names of `remote` resolved in the background.

Look-ups run in threads of their own with a deadline; a connection is judged by what is known, and only an unknown
address waits for a fresh look-up. A name that stops resolving keeps its last addresses, because DNS can fail.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from concurrent.futures import ThreadPoolExecutor

from hast.config.address import Address, AddressError, AddressKind, Family, parse_address
from hast.daemon.logs import in_words

log = logging.getLogger("hast.supervisor")

LOOKUP_DEADLINE_S = 5.0
FRESH_S = 30.0
RETRY_S = 2.0
MAX_LOOKUPS = 4
_FAMILIES = {Family.ANY: socket.AF_UNSPEC, Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


def normal_address(text: str) -> str:
    """An IP address as text that compares equal however it arrived: no scope, IPv4 inside IPv6 unwrapped."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


class _Name:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.known: frozenset[str] = frozenset()
        self.checked_at = float("-inf")
        self.task: asyncio.Task[None] | None = None
        try:
            self.known = frozenset({normal_address(address.host)})
            self.literal = True
        except ValueError:
            self.literal = False


class PeerNames:
    """Resolved `remote` addresses, shared by all resources that name the same host."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup")

    def configure(self, remotes: set[str]) -> None:
        """Keep exactly these addresses, as hast.conf writes them, and look up the new ones at once."""
        for text in list(self._names):
            if text not in remotes:
                del self._names[text]
        for text in remotes - self._names.keys():
            try:
                self._names[text] = _Name(parse_address(text))
            except AddressError as error:
                log.warning("Remote address %s cannot be used: %s.", text, error)
                continue
            self._refresh(self._names[text])

    def addresses(self, remotes: tuple[str, ...]) -> frozenset[str]:
        """What is known of these now."""
        found: set[str] = set()
        for text in remotes:
            name = self._names.get(text)
            if name is not None:
                found |= name.known
                if asyncio.get_running_loop().time() - name.checked_at > FRESH_S:
                    self._refresh(name)
        return frozenset(found)

    async def refresh_unknown(self) -> None:
        """Before an address is turned away: look all names up again, unless that was done a moment ago."""
        now = asyncio.get_running_loop().time()
        for name in self._names.values():
            if now - name.checked_at > RETRY_S:
                self._refresh(name)
        running = [name.task for name in self._names.values() if name.task is not None]
        if running:
            await asyncio.wait(running, timeout=LOOKUP_DEADLINE_S)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _refresh(self, name: _Name) -> None:
        if name.literal or name.address.kind is not AddressKind.TCP or name.task is not None:
            return
        name.checked_at = asyncio.get_running_loop().time()
        name.task = asyncio.create_task(self._look_up(name))

    async def _look_up(self, name: _Name) -> None:
        host, family = name.address.host, _FAMILIES[name.address.family]
        try:
            async with asyncio.timeout(LOOKUP_DEADLINE_S):
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
                )
            name.known = frozenset(normal_address(str(answer[4][0])) for answer in answers)
        except TimeoutError:
            log.warning("Looking up %s took longer than %g s.", host, LOOKUP_DEADLINE_S)
        except (OSError, ValueError, RuntimeError) as error:
            log.warning("Looking up %s failed: %s.", host, in_words(error))
        finally:
            name.task = None
