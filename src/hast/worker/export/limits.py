"""What the clients of one export may use, one by one and together."""

from __future__ import annotations

from dataclasses import dataclass

from hast.worker.buffers import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """What clients may use. A single request may exceed a byte limit that is not yet reached."""

    clients: int = 64
    handshake_s: float = 10.0
    payload_s: float = 60.0
    """For a payload larger than a chunk to arrive, so that its memory is not held for nothing."""
    requests: int = 1024
    """In flight, of one client."""
    client_bytes: int = 32 * 1024 * 1024
    """Of one client: requested, received or waiting to be sent."""
    export_bytes: int = 128 * 1024 * 1024
    """Of all clients."""
    chunk_bytes: int = CHUNK_BYTES
    """Receive chunk of a client; a larger request has memory of its own."""
