"""The `witness` arbiter: asks hast-witness on a third machine (witness_link.py).

Several targets are several ways to the same witness, tried in order within one deadline; a second witness that answers
in between (another identity) is refused, because two witnesses could say yes to two nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hast.config.address import Address, parse_address
from hast.election.arbiter import LEASE_TTL_S, ArbiterError, Lease, Refused
from hast.failover.arbiters.witness_link import ask, ask_known

DEFAULT_WITNESS_PORT = 8459
DEADLINE_S = 0.9


class WitnessArbiter:
    """A client of hast-witness (docs/hast-witness.8.md)."""

    def __init__(
        self,
        targets: Sequence[str],
        deadline_s: float = DEADLINE_S,
        ttl_s: float = LEASE_TTL_S,
        fingerprints: Sequence[str] = (),
    ) -> None:
        self._targets = [parse_address(target, DEFAULT_WITNESS_PORT) for target in targets]
        self._deadline_s = deadline_s
        self._ttl_s = ttl_s
        self._fingerprints = fingerprints
        self._identity: str | None = None

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        return await self._lease("acquire", resource, node, epoch, ttl_s=self._ttl_s, force=force)

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        return await self._lease("keepalive", lease.resource, lease.node, lease.epoch)

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return await self._lease("record-outdated", lease.resource, lease.node, lease.epoch, peer=peer)

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return await self._lease("clear-outdated", lease.resource, lease.node, lease.epoch, peer=peer)

    async def is_outdated(self, resource: str, node: str) -> bool:
        reply = await self._ask({"do": "is-outdated", "resource": resource, "node": node})
        return reply.get("outdated") is True

    async def release(self, lease: Lease) -> None:
        await self._ask({"do": "release", "resource": lease.resource, "node": lease.node, "epoch": lease.epoch})

    async def close(self) -> None:
        return None

    async def _lease(self, do: str, resource: str, node: str, epoch: int, **more: Any) -> Lease | Refused:
        started = asyncio.get_running_loop().time()
        reply = await self._ask({"do": do, "resource": resource, "node": node, "epoch": epoch, **more})
        try:
            if "refused" in reply:
                return Refused(str(reply["refused"]), str(reply.get("holder", "")), int(reply.get("epoch", 0)))
            ttl_s = float(reply["ttl_s"])
            return Lease(resource, node, int(reply["epoch"]), ttl_s, started + ttl_s)
        except (KeyError, TypeError, ValueError):
            raise ArbiterError(f"the witness gave an answer that is none: {str(reply)[:100]}") from None

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of the first target that gives one. Raises ArbiterError."""
        errors = []
        share_s = self._deadline_s / max(1, len(self._targets))
        for target in self._targets:
            try:
                async with asyncio.timeout(share_s):
                    reply = await self._ask_one(target, request)
            except TimeoutError:
                errors.append(f"{target}: no answer within {share_s:.1f} s")
                continue
            except (OSError, ValueError, RecursionError) as error:
                errors.append(f"{target}: {getattr(error, 'strerror', None) or error}")
                continue
            self._check(reply)
            return reply
        raise ArbiterError(f"no witness answers: {'; '.join(errors)}")

    async def _ask_one(self, target: Address, request: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError, ValueError."""
        if self._fingerprints:
            return await ask_known(target, request, self._fingerprints)
        return await ask(target, request)

    def _check(self, reply: dict[str, Any]) -> None:
        if reply.get("error"):
            raise ArbiterError(f"the witness cannot answer: {str(reply['error'])[:200]}")
        identity = str(reply.get("witness", ""))
        if self._identity is not None and identity != self._identity:
            raise ArbiterError("another witness answers than before: restart hastd if it was replaced on purpose")
        self._identity = identity
