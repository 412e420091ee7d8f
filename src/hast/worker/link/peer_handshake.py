"""Messages 1 to 4 on the primary's side: values to bytes and back, between the link and the engine's decisions.

One object per attempt; it holds what message 2 agreed on. Sends nothing itself. What a message means is decided by
replication/handshake.py; every refusal is its `Refused`.
"""

from __future__ import annotations

from dataclasses import replace

from hast.format import frame, handshake
from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION, Feature
from hast.format.frame import Frame
from hast.replication.handshake import (
    Accepted,
    FirstReply,
    Refused,
    SecondReplyValues,
    check_first_reply,
    check_second_reply,
)
from hast.replication.splitbrain import Changes
from hast.replication.types import Buffer, Metadata, Peer
from hast.worker.link.admitted import binding


class PeerHandshake:
    """`version` is what messages are headed with: the one negotiated last with this peer, 1 at first (section 3)."""

    def __init__(
        self, resource: str, version: int, boot_id: bytes, replication: str = "", features: Feature = OUR_FEATURES
    ) -> None:
        self.version = version
        self.accepted: Accepted | None = None
        self._resource = resource
        self._boot_id = boot_id
        self._replication = replication
        self._features = features

    def first_hello(self) -> list[Buffer]:
        """Message 1."""
        hello = handshake.Hello(self._resource, PROTOCOL_VERSION, int(self._features))
        return frame.encode(self.version, hello.fields())

    def first_reply(self, message: Frame) -> None:
        """Message 2. Raises Refused, and handshake.HandshakeError for a message that is none."""
        reply = handshake.read_hello_reply(message.nv)
        values = FirstReply(reply.version, reply.token, reply.features, reply.errmsg or None, reply.wait)
        self.accepted = check_first_reply(values, self._features)
        self.version = self.accepted.version

    def binding(self, connection: str) -> bytes:
        """What the session with the worker begins with on connection "A" or "B"."""
        assert self.accepted is not None, "the token comes with message 2"
        return binding(connection, self.accepted.token)

    def second_hello(self, counters: tuple[int, int, int, bool], changes: Changes) -> bytes:
        """Message 3. `counters` are resuid, localcnt, remotecnt, virgin."""
        assert self.accepted is not None, "message 3 comes after message 2"
        hello = handshake.SecondHello(self._resource, self.accepted.token, *counters, self._boot_id)
        if Feature.SPLIT_BRAIN_INFO in self.accepted.features:
            hello = replace(hello, changes=changes.extents, ahead_since_s=changes.since_s)
        if self.accepted.features:
            hello = replace(hello, replication=self._replication)
        return b"".join(bytes(part) for part in frame.encode(self.version, hello.fields()))

    def second_reply(self, message: Frame, metadata: Metadata) -> Peer:
        """Message 4. Raises Refused, and handshake.HandshakeError for a message that is none."""
        assert self.accepted is not None, "message 4 comes after message 2"
        reply = handshake.read_second_reply(message.nv, message.data)
        values = SecondReplyValues(
            reply.datasize_bytes,
            reply.extentsize_bytes,
            reply.localcnt,
            reply.remotecnt,
            reply.errmsg or None,
            reply.virgin,
            int(reply.syncsrc),
            reply.mapsize_bytes,
            reply.bitmap,
            reply.changes,
            reply.ahead_since_s,
            reply.reason,
            reply.discards,
            reply.boot_id,
        )
        return check_second_reply(values, self.accepted, metadata)

    def second_refusal(self, message: Frame) -> None:
        """A message on connection B before message 4: always a refusal of message 3. Raises."""
        reply = handshake.read_second_reply(message.nv, message.data)
        raise Refused(reply.errmsg or "unexpected answer on the second connection", busy=reply.wait)
