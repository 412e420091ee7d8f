"""Accepts peers: reads message 1 or 3, has `replication/accept.py` judge it, answers, and hands connections to workers.

Every connection is a task of its own with a deadline, so that a silent peer costs one slot and nothing else
(specification section 4.1). Strangers are dropped before a byte is read.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from hast.config.model import Resource
from hast.daemon.accepting import connections
from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.daemon.logs import context, in_words
from hast.daemon.throttle import Throttle
from hast.daemon.tls import HANDSHAKE_RECORD, TlsError, known_certificates, server_context
from hast.daemon.tls_stream import PlainStream, TlsStream, first_byte
from hast.format import handshake
from hast.format.constants import DEFAULT_TIMEOUT_S, MAX_BODY_BYTES, TOKEN_SIZE_BYTES, Role
from hast.format.nv import NvError, NvType
from hast.replication import accept
from hast.supervisor.peer_names import PeerNames, normal_address
from hast.supervisor.report import FIELD as REPORT
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.secondary_holder import Admission, PendingConnection
from hast.supervisor.worker_talk import RoleError

log = logging.getLogger("hast.listener")

MAX_HALF_OPEN = 128
MAX_HALF_OPEN_PER_ADDRESS = 16
"""Connections whose message has not come yet. Beyond it the oldest of that address gives way."""
LOG_INTERVAL_S = 5.0
"""Between two lines of one cause."""
PENDING_DEADLINE_S = float(DEFAULT_TIMEOUT_S)
"""How long a connection A waits for its connection B."""


PeerStream = PlainStream | TlsStream
ReportFor = Callable[[str, Callable[[Resource], bool]], Awaitable[bytes | None]]
"""The report for the node with a key, of those resources that it may know."""


class PeerListener:
    """The sockets of one `listen` address."""

    def __init__(
        self,
        listening: list[socket.socket],
        states: Mapping[str, ResourceState],
        names: PeerNames,
        fetch_certificates: Callable[[], None] = lambda: None,
        report_for: ReportFor | None = None,
        most_half_open: Callable[[], int] = lambda: MAX_HALF_OPEN,
    ) -> None:
        self._listening = listening
        self._fetch_certificates = fetch_certificates
        self._report_for = report_for
        self._most_half_open = most_half_open
        self._states = states
        self._names = names
        self._half_open: dict[asyncio.Task[bool], str] = {}
        self._refusals: dict[str, tuple[str, str]] = {}
        """Resource → who was refused last, and why."""
        self._told = Throttle(LOG_INTERVAL_S, asyncio.get_running_loop().time)
        self._acceptors = [asyncio.create_task(self._accept(sock)) for sock in listening]

    def close(self) -> None:
        """Stop accepting and drop the conversations under way; connections already handed on stay."""
        for task in (*self._acceptors, *self._half_open):
            task.cancel()
        for sock in self._listening:
            sock.close()

    async def _accept(self, listening: socket.socket) -> None:
        async for sock, where in connections(listening, partial(self._warn, "accept")):
            address = normal_address(where)
            if not self._make_room(address):
                sock.close()
                continue
            task = asyncio.create_task(self._serve(sock, address))
            self._half_open[task] = address
            task.add_done_callback(partial(self._served, sock))

    def _served(self, sock: socket.socket, done: asyncio.Task[bool]) -> None:
        """A victim may have been cancelled before its first step."""
        self._half_open.pop(done, None)
        if done.cancelled() or not done.result():
            sock.close()

    def _make_room(self, address: str) -> bool:
        """Keep the number of half-open connections bounded, in all and for one address. Strangers give way first."""
        most = self._most_half_open()
        same = [task for task, where in self._half_open.items() if where == address]
        if len(same) >= min(MAX_HALF_OPEN_PER_ADDRESS, most // 2):
            return self._dismiss(same[0])
        if len(self._half_open) < most:
            return True
        if not self._allowed(address):
            return False
        strangers = (task for task, where in self._half_open.items() if not self._allowed(where))
        stranger = next(strangers, None)
        return stranger is not None and self._dismiss(stranger)

    def _dismiss(self, victim: asyncio.Task[bool]) -> bool:
        """It is closed before the next connection is accepted, and counts no more."""
        self._half_open.pop(victim)
        return victim.cancel()

    def _warn(self, cause: str, text: str) -> None:
        """Log it, but not each of many."""
        count = self._told.count(cause)
        if count:
            log.warning("%s%s", text, f" ({count} such connections)" if count > 1 else "")

    async def _serve(self, sock: socket.socket, address: str) -> bool:
        """True when the socket was handed on."""
        try:
            if await self._is_known(address):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return await self._converse(await self._begin(sock), address)
            self._warn(f"stranger {address}", f"Client {address} isn't known.")
        except (ConversationError, handshake.HandshakeError, NvError, OSError) as error:
            self._warn(f"dropped {address}", f"Connection from {address} dropped: {in_words(error)}.")
        except Exception:
            log.exception("Connection from %s dropped", address)
        return False

    def _allowed(self, address: str) -> set[str]:
        """Names of the resources whose peer this may be."""
        return {
            name for name, state in self._states.items() if address in self._names.addresses(state.resource.remotes)
        }

    async def _is_known(self, address: str) -> bool:
        if self._allowed(address):
            return True
        await self._names.refresh_unknown()
        return bool(self._allowed(address))

    async def _begin(self, sock: socket.socket) -> PeerStream:
        """Which of both a connection speaks is seen from its first byte; whether it may is asked when the resource is
        known."""
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT_S):
                if await first_byte(sock) == HANDSHAKE_RECORD:
                    return await self._secured(sock)
                return PlainStream(sock)
        except TimeoutError:
            raise ConversationError(f"no message within {DEFAULT_TIMEOUT_S} s") from None

    async def _secured(self, sock: socket.socket) -> TlsStream:
        """With any node that some resource knows; which resource it may speak of is asked later."""
        wanted = {known for state in self._states.values() for known in state.resource.peer_fingerprints}
        known = known_certificates(wanted)
        stream = TlsStream(sock, server_context(known))
        try:
            await stream.handshake()
        except TlsError:
            if len(known) == len(wanted):
                raise
            self._fetch_certificates()
            raise ConversationError("its certificate is not known yet, and is asked for") from None
        return stream

    async def _converse(self, stream: PeerStream, address: str) -> bool:
        """True when the socket was handed on."""
        message, body = await receive_frame(stream, MAX_BODY_BYTES, DEFAULT_TIMEOUT_S)
        if stream.peer and message.nv.get(REPORT, NvType.UINT8):
            await self._report(stream, address)
            return False
        first = handshake.read_first(message.nv)
        state = self._states.get(first.resource)
        decision = accept.decide(_opening(first), self._view(state, stream.peer, address))
        match decision:
            case accept.Ignore(reason):
                self._warn(f"ignored {address}", f"Connection from {address} dropped: {reason}.")
                return False
            case accept.Refuse():
                await self._refuse(stream, decision, first.resource, address)
                return False
            case accept.AcceptA():
                assert state is not None
                return await self._first_connection(state, stream, address, decision)
        assert state is not None
        assert isinstance(first, handshake.SecondHello)
        return await self._second_connection(state, stream, address, Admission(first.token, body))

    async def _report(self, stream: PeerStream, address: str) -> None:
        """For a node that has shown its key: what it may know of this one."""

        def allowed(resource: Resource) -> bool:
            return address in self._names.addresses(resource.remotes)

        answer = await self._report_for(stream.peer, allowed) if self._report_for is not None else None
        if answer is None:
            self._warn(f"ignored {address}", f"Connection from {address} dropped: a report was asked for.")
            return
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT_S):
                await stream.send(answer)
        except TimeoutError:
            raise ConversationError("the report was not taken") from None

    def _view(self, state: ResourceState | None, peer: str, address: str) -> accept.View:
        if state is None:
            return accept.View(known=False)
        resource = state.resource
        return accept.View(
            known=True,
            peer_allowed=address in self._names.addresses(resource.remotes),
            peer_proven=peer in resource.peer_fingerprints if resource.is_secured else not peer,
            role=state.role,
            stopping=state.stopping,
            token=state.incoming.pending.token if state.incoming.pending is not None else None,
        )

    async def _refuse(self, stream: PeerStream, refusal: accept.Refuse, resource: str, address: str) -> None:
        """Each reason once: a peer may try every other second, and a stranger make up names."""
        known = resource in self._states
        text = f"Connection from {address} refused: {_seen_from_here(refusal.errmsg)}"
        if known and self._refusals.get(resource) == (address, refusal.errmsg):
            log.debug("%s", text, extra=context(resource))
        elif self._told.count(f"refused {address} {resource if known else ''}"):
            log.warning("%s", text, extra=context(resource))
            if known:
                self._refusals[resource] = (address, refusal.errmsg)
        fields = handshake.refusal(refusal.errmsg, refusal.wait)
        await send_frame(stream, fields, DEFAULT_TIMEOUT_S, refusal.version)

    async def _first_connection(
        self, state: ResourceState, stream: PeerStream, address: str, decision: accept.AcceptA
    ) -> bool:
        """Message 1 was accepted: answer with a token, keep the socket for connection B. A connection that lives goes
        on: whoever sent this has not shown yet that it hears the answer."""
        if state.no_disk is not None:
            refusal = accept.Refuse(f"The secondary cannot be used: {state.no_disk}", version=decision.version)
            await self._refuse(stream, refusal, state.name, address)
            return False
        self._refusals.pop(state.name, None)
        pending = PendingConnection(
            stream.sock, secrets.token_bytes(TOKEN_SIZE_BYTES), decision.version, int(decision.features), address
        )
        if not await state.wait_for_second(pending):
            text = f"Remote node acts as {state.role} for the resource and not as secondary."
            refusal = accept.Refuse(text, wait=state.role is Role.PRIMARY, version=decision.version)
            await self._refuse(stream, refusal, state.name, address)
            return False
        asyncio.get_running_loop().call_later(PENDING_DEADLINE_S, state.incoming.expire_pending, pending)
        reply = handshake.HelloReply(decision.version, pending.token, int(decision.features))
        try:
            await send_frame(stream, reply.fields(), DEFAULT_TIMEOUT_S, decision.version)
            await _leave(stream)
        except ConversationError:
            state.incoming.expire_pending(pending)
            raise
        pending.free.set()
        return True

    async def _second_connection(
        self, state: ResourceState, stream: PeerStream, address: str, admission: Admission
    ) -> bool:
        """Message 3 was accepted: the worker of a former connection ends, a new one gets both."""
        try:
            await state.start_secondary(stream.sock, admission, address, partial(_leave, stream))
        except RoleError as error:
            await self._refuse(stream, accept.Refuse(str(error)), state.name, address)
            return False
        return True


async def _leave(stream: PeerStream) -> None:
    """The socket is about to be handed on. Raises ConversationError."""
    try:
        async with asyncio.timeout(DEFAULT_TIMEOUT_S):
            await stream.leave()
    except TimeoutError:
        raise ConversationError(f"the session was not ended within {DEFAULT_TIMEOUT_S} s") from None
    except OSError as error:
        raise ConversationError(in_words(error)) from None


def _opening(first: handshake.Hello | handshake.SecondHello) -> accept.Opening:
    if isinstance(first, handshake.SecondHello):
        return accept.Opening(first.resource, token=first.token)
    return accept.Opening(first.resource, first.version, None, first.features)


def _seen_from_here(errmsg: str) -> str:
    """A refusal is worded for the peer, to whom this node is the remote one."""
    return errmsg.replace("Remote node", "This node").replace("see the log of the remote node", "see the log")
