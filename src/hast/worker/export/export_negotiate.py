"""The NBD handshake of one client, from the server's greeting to the transmission phase, without sockets.

Bytes in, bytes out: `advance` takes whole options from the receive buffer and returns what is to be sent. It answers
for one export only. It may not touch the engine: a client that never gets past here costs nothing but its connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from hast.format import nbd
from hast.format.nbd import Info, NbdError, Option, OptionReply, TransmissionFlag
from hast.worker.buffers import ReceiveBuffer

MAX_OPTIONS = 64
"""Options a client may haggle over before it is considered to be playing."""
PREFERRED_BLOCK_BYTES = 4096


class Phase(Enum):
    """Where the handshake stands."""

    CLIENT_FLAGS = auto()
    """Greeting sent, the client's flags awaited."""
    OPTIONS = auto()
    """Options are read and answered, one after the other."""
    TRANSMISSION = auto()
    """GO or EXPORT_NAME succeeded; what follows in the buffer are requests."""
    CLOSED = auto()
    """The client gave up, or asked by EXPORT_NAME for an export that is not here: send what is left and close."""


@dataclass(frozen=True, slots=True)
class ExportDescription:
    """What the handshake tells about the export. The empty name means it too."""

    name: str
    size_bytes: int
    block_size_bytes: int

    def knows(self, name: bytes) -> bool:
        return name in (b"", self.name.encode())

    def flags(self, structured: bool) -> int:
        """Transmission flags; DF needs structured replies."""
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.SEND_TRIM
            | TransmissionFlag.SEND_WRITE_ZEROES
            | TransmissionFlag.CAN_MULTI_CONN
        )
        return int(flags | TransmissionFlag.SEND_DF) if structured else int(flags)


class Negotiation:
    """One client's handshake. Send `nbd.SERVER_GREETING` first."""

    def __init__(self, export: ExportDescription) -> None:
        self.phase = Phase.CLIENT_FLAGS
        self.structured = False
        self._export = export
        self._no_zeroes = False
        self._options = 0

    def advance(self, buffer: ReceiveBuffer) -> bytes:
        """Answer what has arrived. Raises NbdError when the client does not speak NBD."""
        out = bytearray()
        if self.phase is Phase.CLIENT_FLAGS and len(buffer) >= nbd.CLIENT_FLAGS.size:
            self._client_flags(buffer)
        while self.phase is Phase.OPTIONS:
            request, size = nbd.decode_option(buffer.view, buffer.start, buffer.end)
            if request is None:
                buffer.reserve(size)
                break
            buffer.consume(size)
            self._options += 1
            if self._options > MAX_OPTIONS:
                raise NbdError(f"more than {MAX_OPTIONS} options")
            out += self._answer(request)
        return bytes(out)

    def _client_flags(self, buffer: ReceiveBuffer) -> None:
        (flags,) = nbd.CLIENT_FLAGS.unpack_from(buffer.view, buffer.start)
        buffer.consume(nbd.CLIENT_FLAGS.size)
        known = nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE | nbd.HANDSHAKE_FLAG_NO_ZEROES
        if flags & ~known:
            raise NbdError(f"unknown client flags {flags:#x}")
        self._no_zeroes = bool(flags & nbd.HANDSHAKE_FLAG_NO_ZEROES)
        self.phase = Phase.OPTIONS

    def _answer(self, request: nbd.OptionRequest) -> bytes:
        option, data = request
        if option == Option.EXPORT_NAME:
            return self._export_name(data)
        if option in (Option.GO, Option.INFO):
            return self._information(option, data)
        if option == Option.ABORT:
            self.phase = Phase.CLOSED
            return nbd.option_reply(option, OptionReply.ACK)
        if option not in (Option.LIST, Option.STRUCTURED_REPLY):
            return nbd.option_reply(option, OptionReply.ERR_UNSUP)
        if data:
            return nbd.option_reply(option, OptionReply.ERR_INVALID)
        answer = nbd.option_reply(option, OptionReply.ACK)
        if option == Option.LIST:
            name = nbd.server_reply_data(self._export.name.encode())
            return nbd.option_reply(option, OptionReply.SERVER, name) + answer
        self.structured = True
        return answer

    def _export_name(self, name: bytes) -> bytes:
        """EXPORT_NAME cannot be refused but by closing."""
        if not self._export.knows(name):
            raise NbdError(f"unknown export {name[:64].decode(errors='replace')!r}, this is {self._export.name!r}")
        self.phase = Phase.TRANSMISSION
        return nbd.export_name_reply(self._export.size_bytes, self._export.flags(self.structured), self._no_zeroes)

    def _information(self, option: int, data: bytes) -> bytes:
        """INFO and GO. The block size is told unasked, since smaller requests will be refused."""
        export = self._export
        try:
            name, wanted = nbd.decode_info_request(data)
        except NbdError:
            return nbd.option_reply(option, OptionReply.ERR_INVALID)
        if not export.knows(name):
            return nbd.option_reply(option, OptionReply.ERR_UNKNOWN, b"no such export")
        preferred = max(PREFERRED_BLOCK_BYTES, export.block_size_bytes)
        answers = [
            nbd.export_information(export.size_bytes, export.flags(self.structured)),
            nbd.block_size_information(export.block_size_bytes, preferred, nbd.MAX_PAYLOAD_BYTES),
        ]
        if Info.NAME in wanted:
            answers.append(nbd.name_information(export.name.encode()))
        if option == Option.GO:
            self.phase = Phase.TRANSMISSION
        replies = [nbd.option_reply(option, OptionReply.INFO, answer) for answer in answers]
        return b"".join(replies) + nbd.option_reply(option, OptionReply.ACK)
