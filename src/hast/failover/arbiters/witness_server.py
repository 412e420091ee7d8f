"""The witness: remembers leases and outdated copies for others, and holds no data.

Answers one request after another; the rules are those of election/arbiter.py. Who asks is found out by
witness_listener.py: a node of a pair that the file of nodes names, or, where there is no such file, whoever the request
says. What must be durable is on the disk before the answer is given (witness_state.py).
"""

from __future__ import annotations

import logging
from typing import Any

from hast.config.witness_nodes import Member
from hast.election.arbiter import MAX_NAME_BYTES, Lease, Refused
from hast.failover.arbiters.witness_state import Keeper, StateError, StateFile

MIN_TTL_S = 1.0
MAX_TTL_S = 60.0
MAX_EPOCH = 1 << 62
MAX_PEER_CHARACTERS = 255
MAX_RESOURCES_OF_PAIR = 1000
"""So that none can leave no room for the others."""
BY_FORCE_NOT = "and its pair may not force (no-force in the witness's file of nodes)"

_log = logging.getLogger("hast.witness")


class RequestError(ValueError):
    """A request that cannot be understood; `str()` is one line."""


class Witness:
    """Answers requests against one table."""

    def __init__(self, state: StateFile, now: float) -> None:
        self._state = state
        self._table = state.load(now)
        self._keeper = Keeper(state, self._table)

    @property
    def knows_pairs(self) -> bool:
        """Something is remembered for a pair that was known by its keys."""
        return any(_SEPARATOR in name for name in self._table.entries)

    async def answer(self, request: Any, now: float, member: Member | None = None) -> dict[str, Any]:
        """The reply to one decoded request, of `member` where it is known who asks.

        A change that cannot be made durable is answered as an error; it holds in memory, where it can only make the
        witness refuse more, and is written with the next change.
        """
        try:
            asked = _Request(request, member)
            self._take_over(asked)
            reply = self._answer(asked, now)
            await self._keeper.kept(self._table.change_of(asked.key))
        except RequestError as error:
            return {"error": str(error)}
        except StateError as error:
            _log.error("%s.", error)
            return {"error": str(error)}
        return {"witness": self._state.identity, **reply}

    def _take_over(self, asked: _Request) -> None:
        """What was recorded of this resource before the pair had keys, if it names one of its nodes, counts on."""
        former = self._table.entries.get(asked.resource)
        if asked.member is None or former is None or asked.key in self._table.entries:
            return
        if asked.member.pair.nodes & {former.holder, former.sole}:
            self._table.rename(asked.resource, asked.key)
            _log.warning("%s: goes on with what was known of %s without keys.", asked.key, asked.resource)

    def _answer(self, asked: _Request, now: float) -> dict[str, Any]:
        table, key, node = self._table, asked.key, asked.node
        match asked.do:
            case "is-outdated":
                return {"outdated": table.is_outdated(key, asked.about)}
            case "acquire":
                answer = self._acquire(asked, now)
                _log.info("%s: %s", key, _describe(node, answer))
                return _reply(answer)
            case "keepalive":
                return _reply(table.keepalive(key, node, asked.epoch, now))
            case "record-outdated":
                known = table.sole(key)
                answer = table.record_outdated(key, node, asked.epoch, asked.peer, now)
                if isinstance(answer, Lease) and known != node:
                    _log.warning("%s: %s goes on without its peer.", key, node)
                return _reply(answer)
            case "clear-outdated":
                return _reply(table.clear_outdated(key, node, asked.epoch, now))
            case "release":
                return {"released": table.release(key, node, asked.epoch)}
        raise RequestError(f"unknown request {str(asked.do)[:40]!r}")

    def _acquire(self, asked: _Request, now: float) -> Lease | Refused:
        """Force is a right of its own: what it overrides is the only word against old data being served."""
        table, key, node = self._table, asked.key, asked.node
        if key not in table.entries and self._count(asked.member) >= MAX_RESOURCES_OF_PAIR:
            return Refused(f"the witness knows {MAX_RESOURCES_OF_PAIR} resources of this pair already")
        overridden = asked.force and table.is_outdated(key, node)
        may = asked.member is None or asked.member.pair.may_force
        answer = table.acquire(key, node, asked.epoch, asked.ttl_s, now, asked.force and may)
        if overridden and isinstance(answer, Lease):
            _log.warning(
                "%s: %s takes over an outdated copy by force; what the other has alone is given up.", key, node
            )
        elif overridden and not may:
            _log.warning("%s: %s asked for an outdated copy by force, %s.", key, node, BY_FORCE_NOT)
            return _with_reason(answer, BY_FORCE_NOT)
        return answer

    def _count(self, member: Member | None) -> int:
        """Resources of a pair that is known by its keys."""
        prefix = f"{member.pair.name}{_SEPARATOR}" if member is not None else None
        return sum(name.startswith(prefix) for name in self._table.entries) if prefix else 0


_SEPARATOR = "%"
"""Between the names of a pair and a resource: hast.conf allows it in neither."""


class _Request:
    """One request, as far as all have the same fields. Raises RequestError, also when a field is read."""

    def __init__(self, request: Any, member: Member | None) -> None:
        if not isinstance(request, dict):
            raise RequestError("the request is not a JSON object")
        self._request: dict[str, Any] = request
        self.member = member
        self.do = request.get("do")
        self.resource, self.about = self._name("resource"), self._name("node")
        if member is None and _SEPARATOR in self.resource:
            raise RequestError("resource is a name with %, and no resource has one")
        self.node = self.about if member is None else member.node
        """Who asks. A key says more than a name that anybody can write."""
        if member is not None and self.about not in member.pair.nodes:
            self.about = member.node
        self.key = self.resource if member is None else f"{member.pair.name}{_SEPARATOR}{self.resource}"
        """Two pairs may call their resources alike."""

    @property
    def force(self) -> bool:
        return self._request.get("force") is True

    @property
    def peer(self) -> str:
        return str(self._request.get("peer"))[:MAX_PEER_CHARACTERS]

    @property
    def epoch(self) -> int:
        value = self._request.get("epoch")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_EPOCH:
            raise RequestError("epoch is not a number")
        return value

    @property
    def ttl_s(self) -> float:
        value = self._request.get("ttl_s")
        if not isinstance(value, int | float) or isinstance(value, bool) or not MIN_TTL_S <= value <= MAX_TTL_S:
            raise RequestError(f"ttl_s is not a number from {MIN_TTL_S:g} to {MAX_TTL_S:g}")
        return float(value)

    def _name(self, key: str) -> str:
        value = self._request.get(key)
        if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES:
            raise RequestError(f"{key} is not a name of 1 to {MAX_NAME_BYTES} bytes")
        return value


def _describe(node: str, answer: Lease | Refused) -> str:
    if isinstance(answer, Refused):
        return f"lease refused to {node}: {answer.reason}."
    return f"lease given to {node}, epoch {answer.epoch}."


def _with_reason(answer: Lease | Refused, more: str) -> Lease | Refused:
    return Refused(f"{answer.reason}, {more}", answer.holder, answer.epoch) if isinstance(answer, Refused) else answer


def _reply(answer: Lease | Refused) -> dict[str, Any]:
    if isinstance(answer, Refused):
        return {"refused": answer.reason, "holder": answer.holder, "epoch": answer.epoch}
    return {"epoch": answer.epoch, "ttl_s": answer.ttl_s}
