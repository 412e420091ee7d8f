"""Numbers and names that are the interface: commands, roles, modes, sizes (specification section 0)."""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum

PROTOCOL_VERSION = 2
DEFAULT_PORT = 8457
METADATA_SIZE_BYTES = 4096
DEFAULT_EXTENT_SIZE_BYTES = 2 * 1024 * 1024
DEFAULT_KEEPDIRTY = 64
DEFAULT_TIMEOUT_S = 20
KEEPALIVE_S = 10
TOKEN_SIZE_BYTES = 16
REFERENCE_MAX_DATA_BYTES = 131072
"""Largest data block of one request that the reference secondary takes."""
MAX_DATA_BYTES = 1024 * 1024
"""Largest data block of one request between two of our own nodes, and the most that is accepted from anybody."""
MAX_BODY_BYTES = 64 * 1024
MAX_CONTROL_BODY_BYTES = 16 * 1024 * 1024
MAX_NAME_BYTES = 254

SPLIT_BRAIN_TEXT = "Split-brain condition!"


class Command(IntEnum):
    """Requests on connection A (section 5.1). From 64 up: ours, sent only when both ends said so in the handshake."""

    READ = 1
    WRITE = 2
    DELETE = 3
    FLUSH = 4
    KEEPALIVE = 5
    ZERO = 64
    """Make `length` bytes at `offset` read as zeros; no data follows. Carries seq, offset, length."""
    PING = 65
    """Keepalive that is answered (seq only), by the reactor and not by the disk."""
    SYNC_BEGIN = 66
    """The writes that follow leave the receiver inconsistent until SYNC_END. Answered once that is on its disk."""
    SYNC_END = 67
    """The receiver's copy is consistent again. Answered once that is on its disk."""
    TAKE_LEAD = 68
    """The sender's copy is stale: the receiver raises its localcnt and marks every extent. Answered once durable."""
    LEAVING = 69
    """The sender lets go of the role in order, within `length` milliseconds."""
    LEFT = 70
    """The sender has let go: it serves nobody and acknowledges nothing from here on."""


class Feature(IntFlag):
    """Bits of the extra field `features` (u32) in messages 1 and 2; absent from a FreeBSD peer."""

    NONE = 0
    BIG_DATA = 1
    """Up to MAX_DATA_BYTES in one request."""
    ZERO = 2
    PING = 4
    SYNC_MARK = 8
    TAKE_LEAD = 16
    SPLIT_BRAIN_INFO = 32
    """Messages 3 and 4 tell what each node changed while they were apart."""
    LEAVING = 64
    """A primary tells when it lets go in order, and a secondary when it stops (reply PEER_LEAVES_SEQ)."""


OUR_FEATURES = (
    Feature.BIG_DATA
    | Feature.ZERO
    | Feature.PING
    | Feature.SYNC_MARK
    | Feature.TAKE_LEAD
    | Feature.SPLIT_BRAIN_INFO
    | Feature.LEAVING
)
PEER_LEAVES_SEQ = (1 << 64) - 1
"""No request has this seq: a reply that carries it says that the secondary stops in order (Feature.LEAVING)."""


class Role(StrEnum):
    """Role of a resource on a node; wire numbers in ROLE_NUMBERS."""

    INIT = "init"
    PRIMARY = "primary"
    SECONDARY = "secondary"


ROLE_NUMBERS = {1: Role.INIT, 2: Role.PRIMARY, 3: Role.SECONDARY}


class Replication(StrEnum):
    """When a write is acknowledged (section 5.6)."""

    FULLSYNC = "fullsync"
    MEMSYNC = "memsync"
    ASYNC = "async"


class Checksum(StrEnum):
    """Checksum over the data block as it stands on the wire."""

    NONE = "none"
    CRC32 = "crc32"
    SHA256 = "sha256"


class Compression(StrEnum):
    """Compression of a data block on the wire."""

    NONE = "none"
    HOLE = "hole"
    LZF = "lzf"


class SyncSource(IntEnum):
    """Who has the newer data (section 4.3)."""

    UNDEFINED = 0
    PRIMARY = 1
    SECONDARY = 2


class ControlCommand(IntEnum):
    """Requests on the control socket (section 9.5). From 64 up: ours."""

    SETROLE = 1
    STATUS = 2
    JSON = 64
    """Request and reply each carry one string field `json`; see docs/control.md."""


class HastError(IntEnum):
    """HAST error numbers on the control socket."""

    OK = 0
    NOENTRY = 1
    INVALID = 2
    NOMEMORY = 3
    UNIMPLEMENTED = 4
