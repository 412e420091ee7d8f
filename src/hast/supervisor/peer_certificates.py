"""Gets the certificates behind the fingerprints that hast.conf names: TLS verifies a certificate, not a fingerprint.

Asked of the other node itself, at its `remote` addresses: whoever answers there proves nothing, and only a certificate
with the right fingerprint is kept. Nothing is told to the other side but this node's own certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from hast.config.address import AddressError, AddressKind, parse_address
from hast.config.model import Resource
from hast.daemon.logs import context
from hast.daemon.node_key import fingerprint
from hast.daemon.tls import TlsError, client_context, keep_certificate, known_certificates, shown
from hast.supervisor.resource_state import ResourceState

log = logging.getLogger("hast.peers")

LOOK_EVERY_S = 2.0
LEAST_PAUSE_S = 0.2
ANSWER_S = 3.0


class PeerCertificates:
    """Looks for what is missing until it is there, and again whenever `look` says so."""

    def __init__(self, states: Mapping[str, ResourceState]) -> None:
        self._states = states
        self._wanted = asyncio.Event()
        self._told: set[str] = set()
        """What could not be done, each told once."""
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        self._task.cancel()

    def look(self) -> None:
        """Something may be missing: the configuration has changed, or somebody came who could not be verified."""
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            missing = [state.resource for state in self._states.values() if is_missing(state.resource)]
            for resource in missing:
                await self._fetch(resource)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if missing else None):
                    await self._wanted.wait()
                await asyncio.sleep(LEAST_PAUSE_S)

    async def _fetch(self, resource: Resource) -> None:
        for remote in resource.remotes:
            try:
                found = await shown_by(remote)
            except (OSError, TimeoutError, AddressError) as error:
                log.debug("No certificate from %s: %s", remote, error, extra=context(resource.name))
                continue
            if fingerprint(found) not in resource.peer_fingerprints:
                self._tell(f"{remote} shows a key that hast.conf does not name: {fingerprint(found)}.", resource.name)
                continue
            try:
                keep_certificate(found)
            except OSError as error:
                self._tell(
                    f"The certificate of {remote} cannot be kept: {error.filename}: {error.strerror}.", resource.name
                )

    def _tell(self, text: str, name: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text, extra=context(name))


def is_missing(resource: Resource) -> bool:
    """Whether a connection of the other node could not be verified."""
    wanted = resource.peer_fingerprints if resource.is_secured else ()
    return len(known_certificates(wanted)) < len(wanted)


async def shown_by(remote: str) -> bytes:
    """The certificate (DER) that whoever is at this address shows. Raises OSError, TimeoutError, AddressError."""
    address = parse_address(remote)
    if address.kind is not AddressKind.TCP:
        raise TlsError("not a TCP address")
    async with asyncio.timeout(ANSWER_S):
        _reader, writer = await asyncio.open_connection(address.host, address.port, ssl=client_context())
    try:
        return shown(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()
