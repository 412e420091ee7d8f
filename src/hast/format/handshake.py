"""Messages 1 to 4 of the handshake as values (specification section 4), with our extra fields.

Ours: `features` (u32) in messages 1 and 2, `bootid` (u8[16]) in messages 3 and 4; a FreeBSD peer ignores them and does
not send them. With Feature.SPLIT_BRAIN_INFO also what each node changed while apart: `changes` (u64, extents) and
`aheadsince` (u64, seconds since 1970, 0 unknown) in message 3 and in the refusal of a split brain, which then carries
`reason` (string) and the secondary's map as well; `discards` (u64, extents) in message 4 when those are given up.
What a message means for a role is decided elsewhere; here a message is only read and written. No I/O, no state.
"""

from __future__ import annotations

from dataclasses import dataclass

from hast.format import nv
from hast.format.constants import PROTOCOL_VERSION, TOKEN_SIZE_BYTES, SyncSource
from hast.format.nv import Buffer, Field, IntegerType, Nv, NvType
from hast.format.text import printable

BOOT_ID_SIZE_BYTES = 16


class HandshakeError(ValueError):
    """A message that is not what the handshake has at this point; drop the connection. `str()` is one line."""


MAX_WORD_CHARACTERS = 32
"""Of a keyword of the peer's configuration that is shown."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Message 1, primary to secondary on connection A. `version` is 1 when the message says none."""

    resource: str
    version: int = PROTOCOL_VERSION
    features: int = 0

    def fields(self) -> list[Field]:
        return [nv.string("resource", self.resource), nv.u8("version", self.version), *_features(self.features)]


@dataclass(frozen=True, slots=True)
class HelloReply:
    """Message 2, the answer on connection A. With `errmsg` it is a refusal and the rest means nothing."""

    version: int = PROTOCOL_VERSION
    token: bytes = b""
    features: int = 0
    errmsg: str = ""
    wait: bool = False
    """Refused only for now: the other node is still primary."""

    def fields(self) -> list[Field]:
        if self.errmsg:
            return refusal(self.errmsg, self.wait)
        return [nv.u8("version", self.version), nv.u8s("token", self.token), *_features(self.features)]


@dataclass(frozen=True, slots=True)
class SecondHello:
    """Message 3, primary to secondary on connection B. `virgin`: the primary has just drawn `resuid`."""

    resource: str
    token: bytes
    resuid: int
    localcnt: int
    remotecnt: int
    virgin: bool = False
    boot_id: bytes = b""
    changes: int | None = None
    ahead_since_s: int = 0
    replication: str = ""
    """The primary's mode, for a peer of ours: the two configurations may differ."""

    def fields(self) -> list[Field]:
        return [
            nv.string("resource", self.resource),
            nv.u8s("token", self.token),
            *([nv.i8("virgin", 1)] if self.virgin else []),
            nv.u64("resuid", self.resuid),
            nv.u64("localcnt", self.localcnt),
            nv.u64("remotecnt", self.remotecnt),
            *_boot_id(self.boot_id),
            *_changes(self.changes, self.ahead_since_s),
            *([nv.string("replication", self.replication)] if self.replication else []),
        ]


@dataclass(frozen=True, slots=True)
class SecondReply:
    """Message 4, the answer to message 3, on connection A. With `errmsg` it is a refusal.

    `bitmap` is the secondary's map as the message's data block, `mapsize_bytes` long, None when that is 0. A refusal of
    message 3 by the secondary's parent has no sizes and counters: they are 0.
    """

    datasize_bytes: int = 0
    extentsize_bytes: int = 0
    localcnt: int = 0
    remotecnt: int = 0
    syncsrc: SyncSource = SyncSource.UNDEFINED
    virgin: bool = False
    mapsize_bytes: int = 0
    bitmap: bytes | None = None
    boot_id: bytes = b""
    errmsg: str = ""
    wait: bool = False
    changes: int | None = None
    """Extents that the secondary changed since the copies were in step; only in the refusal of a split brain."""
    ahead_since_s: int = 0
    reason: str = ""
    discards: int | None = None
    """Extents with changes of its own that the secondary gives up; only where it does."""

    def fields(self) -> list[Field]:
        """All but the data block: give `bitmap` to frame.encode as its data."""
        prefix = [
            nv.i64("datasize", self.datasize_bytes),
            nv.i32("extentsize", self.extentsize_bytes),
            nv.u64("localcnt", self.localcnt),
            nv.u64("remotecnt", self.remotecnt),
        ]
        if self.errmsg:
            return [*prefix, *refusal(self.errmsg, self.wait), *self._split_brain()]
        return [
            *prefix,
            *([nv.i8("virgin", 1)] if self.virgin else []),
            nv.u8("syncsrc", self.syncsrc),
            nv.u32("mapsize", self.mapsize_bytes),
            *_boot_id(self.boot_id),
            *([nv.u64("discards", self.discards)] if self.discards is not None else []),
        ]

    def _split_brain(self) -> list[Field]:
        return [
            *_changes(self.changes, self.ahead_since_s),
            *([nv.string("reason", self.reason)] if self.reason else []),
            *([nv.u32("mapsize", self.mapsize_bytes)] if self.mapsize_bytes else []),
        ]


def refusal(errmsg: str, wait: bool = False) -> list[Field]:
    """The fields of a refusal that has nothing else to say (sections 4, 4.1)."""
    return [nv.string("errmsg", errmsg), *([nv.u8("wait", 1)] if wait else [])]


def read_first(fields: Nv) -> Hello | SecondHello:
    """The first message on an accepted connection: message 1, or with a token message 3. Raises HandshakeError.

    The counters of message 3 are read as the reference does: 0 when absent.
    """
    resource = fields.get("resource", NvType.STRING)
    if not resource:
        raise HandshakeError("the first message names no resource")
    if "token" not in fields:
        version = fields.get("version", NvType.UINT8) or 1
        return Hello(resource, version, fields.get("features", NvType.UINT32) or 0)
    return SecondHello(
        resource,
        _token(fields),
        fields.get("resuid", NvType.UINT64) or 0,
        fields.get("localcnt", NvType.UINT64) or 0,
        fields.get("remotecnt", NvType.UINT64) or 0,
        "virgin" in fields,
        _read_boot_id(fields),
        fields.get("changes", NvType.UINT64),
        fields.get("aheadsince", NvType.UINT64) or 0,
        (fields.get("replication", NvType.STRING) or "")[:MAX_WORD_CHARACTERS],
    )


def read_hello_reply(fields: Nv) -> HelloReply:
    """Message 2. Raises HandshakeError."""
    if "errmsg" in fields:
        return HelloReply(errmsg=_errmsg(fields), wait="wait" in fields)
    version = fields.get("version", NvType.UINT8) or 1
    if version > PROTOCOL_VERSION:
        raise HandshakeError(f"the peer chose protocol version {version}, at most {PROTOCOL_VERSION} was offered")
    return HelloReply(version, _token(fields), fields.get("features", NvType.UINT32) or 0)


def read_second_reply(fields: Nv, data: Buffer | None) -> SecondReply:
    """Message 4 with its data block, or the refusal of message 3 on connection B. Raises HandshakeError."""
    if "errmsg" in fields:
        mapsize_bytes = fields.get("mapsize", NvType.UINT32) or 0
        usable = data is not None and len(data) == mapsize_bytes
        return SecondReply(
            datasize_bytes=fields.get("datasize", NvType.INT64) or 0,
            extentsize_bytes=fields.get("extentsize", NvType.INT32) or 0,
            localcnt=fields.get("localcnt", NvType.UINT64) or 0,
            remotecnt=fields.get("remotecnt", NvType.UINT64) or 0,
            errmsg=_errmsg(fields),
            wait="wait" in fields,
            changes=fields.get("changes", NvType.UINT64),
            ahead_since_s=fields.get("aheadsince", NvType.UINT64) or 0,
            reason=printable(fields.get("reason", NvType.STRING) or ""),
            mapsize_bytes=mapsize_bytes if usable else 0,
            bitmap=bytes(data) if data is not None and usable else None,
        )
    syncsrc = _number(fields, "syncsrc", NvType.UINT8)
    if syncsrc > SyncSource.SECONDARY:
        raise HandshakeError(f"the peer names sync source {syncsrc}, which does not exist")
    mapsize_bytes = _number(fields, "mapsize", NvType.UINT32)
    if mapsize_bytes != (0 if data is None else len(data)):
        got = "none" if data is None else f"{len(data)} bytes"
        raise HandshakeError(f"the peer announces a map of {mapsize_bytes} bytes and sends {got}")
    return SecondReply(
        datasize_bytes=_number(fields, "datasize", NvType.INT64),
        extentsize_bytes=_number(fields, "extentsize", NvType.INT32),
        localcnt=_number(fields, "localcnt", NvType.UINT64),
        remotecnt=_number(fields, "remotecnt", NvType.UINT64),
        syncsrc=SyncSource(syncsrc),
        virgin="virgin" in fields,
        mapsize_bytes=mapsize_bytes,
        bitmap=None if data is None else bytes(data),
        boot_id=_read_boot_id(fields),
        discards=fields.get("discards", NvType.UINT64),
    )


def _features(features: int) -> list[Field]:
    return [nv.u32("features", features)] if features else []


def _boot_id(boot_id: bytes) -> list[Field]:
    return [nv.u8s("bootid", boot_id)] if boot_id else []


def _changes(changes: int | None, ahead_since_s: int) -> list[Field]:
    return [] if changes is None else [nv.u64("changes", changes), nv.u64("aheadsince", ahead_since_s)]


def _read_boot_id(fields: Nv) -> bytes:
    boot_id = fields.get("bootid", NvType.UINT8_ARRAY)
    return boot_id if boot_id is not None and len(boot_id) == BOOT_ID_SIZE_BYTES else b""


def _token(fields: Nv) -> bytes:
    token = fields.get("token", NvType.UINT8_ARRAY)
    if token is None or len(token) != TOKEN_SIZE_BYTES:
        raise HandshakeError(f"the peer sends no token of {TOKEN_SIZE_BYTES} bytes")
    return token


def _errmsg(fields: Nv) -> str:
    return printable(fields.get("errmsg", NvType.STRING) or "") or "refused without a reason"


def _number(fields: Nv, name: str, kind: IntegerType) -> int:
    value = fields.get(name, kind)
    if value is None:
        raise HandshakeError(f"the peer's answer has no field {name}")
    return value
