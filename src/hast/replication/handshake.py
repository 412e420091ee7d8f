"""The primary's side of the handshake (section 4.2) as decisions: what to make of messages 2 and 4. Sans-I/O.

The shell opens connection A, sends message 1, hands message 2 to `check_first_reply`; calls `Primary.begin_handshake`
and waits for `hello_ready`; opens connection B, sends message 3 with `second_hello`; hands message 4 to
`check_second_reply`, and its result to `Primary.attach`. It watches both connections for refusals all the while.
"""

from __future__ import annotations

from typing import NamedTuple

from hast.format.constants import (
    PROTOCOL_VERSION,
    SPLIT_BRAIN_TEXT,
    TOKEN_SIZE_BYTES,
    Feature,
    SyncSource,
)
from hast.replication.splitbrain import Changes
from hast.replication.types import Metadata, Peer


class FirstReply(NamedTuple):
    """Message 2, as values; `version` is 0 where the field is absent."""

    version: int = 0
    token: bytes | None = None
    features: int = 0
    errmsg: str | None = None
    wait: bool = False


class SecondReplyValues(NamedTuple):
    """Message 4 as read; None where a field is absent. `bitmap` is the data block, decompressed."""

    datasize_bytes: int | None = None
    extentsize_bytes: int | None = None
    localcnt: int | None = None
    remotecnt: int | None = None
    errmsg: str | None = None
    virgin: bool = False
    syncsrc: int | None = None
    mapsize_bytes: int | None = None
    bitmap: bytes | None = None
    changes: int | None = None
    ahead_since_s: int = 0
    reason: str = ""
    discards: int | None = None
    boot_id: bytes = b""


class Accepted(NamedTuple):
    """Message 2 was good."""

    version: int
    token: bytes
    features: Feature


class PeerChanges(NamedTuple):
    """What a secondary that refuses for a split brain tells. `bitmap`: its map; `reason`: why no policy resolved it."""

    changes: Changes | None = None
    bitmap: bytes | None = None
    reason: str = ""


PEER_IS_IDLE = "Remote node acts as init "
"""How a node that was given no role yet begins its refusal (section 4.1)."""
PEER_IS_STOPPING = "Remote node is stopping."
"""How one of ours refuses whose hastd comes to its end."""


class Refused(Exception):
    """The handshake cannot go on; `str()` says why.

    `busy`: the peer is primary. `idle`: it has no role yet, or no more. `split_brain`: both copies changed.
    """

    def __init__(self, text: str, *, busy: bool = False, peer_changes: PeerChanges | None = None) -> None:
        super().__init__(text)
        self.busy = busy
        self.idle = text.startswith(PEER_IS_IDLE) or text == PEER_IS_STOPPING
        self.split_brain = peer_changes is not None
        self.peer_changes = peer_changes


def check_first_reply(reply: FirstReply, offered: Feature) -> Accepted:
    """What message 2 agrees on. Raises Refused."""
    if reply.errmsg is not None:
        raise Refused(reply.errmsg, busy=reply.wait)
    version = reply.version or 1
    if version > PROTOCOL_VERSION:
        raise Refused(f"The peer speaks protocol version {version}, this node at most {PROTOCOL_VERSION}.")
    if reply.token is None or len(reply.token) != TOKEN_SIZE_BYTES:
        raise Refused("The peer sent no usable token.")
    return Accepted(version, reply.token, Feature(reply.features) & offered)


def check_second_reply(reply: SecondReplyValues, accepted: Accepted, metadata: Metadata) -> Peer:
    """What message 4 says of the peer. Raises Refused."""
    if reply.errmsg is not None:
        raise Refused(reply.errmsg, peer_changes=_peer_changes(reply) if reply.errmsg == SPLIT_BRAIN_TEXT else None)
    if reply.datasize_bytes != metadata.datasize_bytes:
        raise Refused(
            f"Data size differs between nodes (local={metadata.datasize_bytes}, remote={reply.datasize_bytes})."
        )
    if reply.extentsize_bytes != metadata.extentsize_bytes:
        raise Refused(
            f"Extent size differs between nodes (local={metadata.extentsize_bytes}, remote={reply.extentsize_bytes})."
        )
    if reply.localcnt is None or reply.remotecnt is None:
        raise Refused("The peer sent no counters.")
    if reply.syncsrc not in (SyncSource.PRIMARY, SyncSource.SECONDARY):
        raise Refused(f"The peer sent an unknown sync source ({reply.syncsrc}).")
    if reply.virgin and reply.syncsrc != SyncSource.PRIMARY:
        raise Refused("A peer that was never connected claims to have the newer data.")
    bitmap = _check_bitmap(reply, metadata)
    return Peer(
        version=accepted.version,
        features=accepted.features,
        datasize_bytes=metadata.datasize_bytes,
        extentsize_bytes=metadata.extentsize_bytes,
        localcnt=reply.localcnt,
        remotecnt=reply.remotecnt,
        syncsrc=SyncSource(reply.syncsrc),
        virgin=reply.virgin,
        bitmap=bitmap,
        boot_id=reply.boot_id,
        discards=reply.discards,
    )


def _peer_changes(reply: SecondReplyValues) -> PeerChanges:
    changes = None if reply.changes is None else Changes(reply.changes, reply.ahead_since_s)
    return PeerChanges(changes, reply.bitmap, reply.reason)


def _check_bitmap(reply: SecondReplyValues, metadata: Metadata) -> bytes | None:
    if not reply.mapsize_bytes:
        return None
    extents = -(-metadata.datasize_bytes // metadata.extentsize_bytes)
    needed = -(-extents // 8)
    if reply.mapsize_bytes < needed:
        raise Refused(f"The peer's map is too short ({reply.mapsize_bytes} bytes, {needed} needed).")
    if reply.bitmap is None or len(reply.bitmap) < needed:
        raise Refused("The peer announced a map and did not send it.")
    return bytes(reply.bitmap[: reply.mapsize_bytes])
