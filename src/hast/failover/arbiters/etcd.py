"""The `etcd` arbiter: leases and compare-and-swap over etcd's JSON gateway (v3).

Keys, for resource R: `/hast/R/holder` {"node", "epoch"} bound to an etcd lease; `/hast/R/epoch`; `/hast/R/sole`
{"node", "peer"}. Every change is one transaction that compares all it rests on: the rules of election/arbiter.py hold
whatever happens in between. The URLs are members of one cluster, tried in order.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hast.election.arbiter import LEASE_TTL_S, ArbiterError, Lease, Refused
from hast.failover.arbiters.credentials import Credentials, CredentialsError, load
from hast.failover.arbiters.http import HttpError, post
from hast.format.text import printable, printable_json

DEADLINE_S = 0.9
PREFIX = "/hast/"
UNAUTHENTICATED = 401
CREDENTIALS_S = 60.0
"""How long credentials and certificates are used before their files are read again."""
_RETRIES = 3


@dataclass(frozen=True, slots=True)
class _Found:
    """The keys of one resource with the revision of each, 0 for one that is not there."""

    holder: dict[str, Any]
    holder_revision: int
    epoch: int
    epoch_revision: int
    sole: dict[str, Any]
    sole_revision: int


class EtcdArbiter:
    """A client of an etcd cluster. Lease numbers of etcd are kept here, for the time of this process."""

    def __init__(
        self,
        urls: Sequence[str],
        deadline_s: float = DEADLINE_S,
        ttl_s: float = LEASE_TTL_S,
        credentials: str = "",
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._credentials_path = credentials
        self._credentials = Credentials()
        self._context: ssl.SSLContext | None = None
        self._read_at_s = -math.inf
        self._token = ""
        self._deadline_s = deadline_s
        self._ttl_s = ttl_s
        self._leases: dict[tuple[str, int], str] = {}
        """(resource, epoch) → etcd's lease number."""

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        for _ in range(_RETRIES):
            found = await self._look(resource)
            refused = _refusal(found, node, force)
            if refused is not None:
                return refused
            started = asyncio.get_running_loop().time()
            number, ttl_s = await self._grant()
            new = max(found.epoch, epoch) + 1
            changes = [
                _put(_key(resource, "holder"), {"node": node, "epoch": new}, number),
                _put(_key(resource, "epoch"), new),
            ]
            if found.sole.get("node", node) != node:
                changes.append({"requestDeleteRange": {"key": _key(resource, "sole")}})
            if await self._change(resource, found, changes):
                self._leases[(resource, new)] = number
                return Lease(resource, node, new, ttl_s, started + ttl_s)
            await self._call("/v3/lease/revoke", {"ID": number})
        return Refused("somebody else changes the lease at the same time")

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        number = self._leases.get((lease.resource, lease.epoch))
        if number is None:
            return Refused(f"the lease with epoch {lease.epoch} is not of this process")
        started = asyncio.get_running_loop().time()
        answer = (await self._call("/v3/lease/keepalive", {"ID": number})).get("result", {})
        ttl_s = _number(answer.get("TTL", 0))
        if ttl_s > 0:
            return Lease(lease.resource, lease.node, lease.epoch, ttl_s, started + ttl_s)
        return await self._again(lease)

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return await self._set_sole(lease, {"node": lease.node, "peer": peer})

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return await self._set_sole(lease, None)

    async def is_outdated(self, resource: str, node: str) -> bool:
        return bool((await self._look(resource)).sole.get("node", node) != node)

    async def release(self, lease: Lease) -> None:
        number = self._leases.pop((lease.resource, lease.epoch), None)
        if number is not None:
            await self._call("/v3/lease/revoke", {"ID": number})

    async def close(self) -> None:
        self._leases.clear()

    async def _again(self, lease: Lease) -> Lease | Refused:
        """The lease ended; while nobody else has taken it, the same epoch is held again."""
        found = await self._look(lease.resource)
        if found.holder or found.epoch != lease.epoch or found.sole.get("node", lease.node) != lease.node:
            return _over(found, lease)
        started = asyncio.get_running_loop().time()
        number, ttl_s = await self._grant()
        value = {"node": lease.node, "epoch": lease.epoch}
        if await self._change(lease.resource, found, [_put(_key(lease.resource, "holder"), value, number)]):
            self._leases[(lease.resource, lease.epoch)] = number
            return Lease(lease.resource, lease.node, lease.epoch, ttl_s, started + ttl_s)
        await self._call("/v3/lease/revoke", {"ID": number})
        return _over(await self._look(lease.resource), lease)

    async def _set_sole(self, lease: Lease, value: dict[str, Any] | None) -> Lease | Refused:
        key = _key(lease.resource, "sole")
        for _ in range(_RETRIES):
            held = await self.keepalive(lease)
            if isinstance(held, Refused):
                return held
            found = await self._look(lease.resource)
            if found.holder.get("node") != lease.node or found.holder.get("epoch") != lease.epoch:
                continue
            if found.sole.get("node", lease.node) != lease.node:
                return _refusal(found, lease.node, False) or _over(found, lease)
            if found.sole == (value or {}):
                return held
            change = _put(key, value) if value is not None else {"requestDeleteRange": {"key": key}}
            if await self._change(lease.resource, found, [change]):
                return held
        return _over(await self._look(lease.resource), lease)

    async def _look(self, resource: str) -> _Found:
        ranges = [{"requestRange": {"key": _key(resource, name)}} for name in ("holder", "epoch", "sole")]
        responses = (await self._call("/v3/kv/txn", {"success": ranges})).get("responses", [])
        values: list[tuple[Any, int]] = []
        for response in responses:
            pairs = response.get("response_range", {}).get("kvs", [])
            try:
                found = pairs[0] if pairs else {}
                text = base64.b64decode(found.get("value", "")) or b"null"
                values.append((printable_json(json.loads(text)), int(found.get("mod_revision", 0))))
            except (ValueError, TypeError):
                raise ArbiterError(f"etcd holds something else under {PREFIX}{resource}") from None
        if len(values) != 3:
            raise ArbiterError("etcd gave an incomplete answer")
        (holder, holder_at), (epoch, epoch_at), (sole, sole_at) = values
        return _Found(holder or {}, holder_at, int(epoch or 0), epoch_at, sole or {}, sole_at)

    async def _change(self, resource: str, found: _Found, changes: list[dict[str, Any]]) -> bool:
        """Carry out `changes` if the resource's keys are still as `found`."""
        revisions = {"holder": found.holder_revision, "epoch": found.epoch_revision, "sole": found.sole_revision}
        compare = [
            {"key": _key(resource, name), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
            for name, revision in revisions.items()
        ]
        return (await self._call("/v3/kv/txn", {"compare": compare, "success": changes})).get("succeeded") is True

    async def _grant(self) -> tuple[str, float]:
        """(number, seconds) of a new etcd lease; etcd counts in whole seconds."""
        answer = await self._call("/v3/lease/grant", {"TTL": str(max(1, math.ceil(self._ttl_s)))})
        if "ID" not in answer:
            raise ArbiterError(f"etcd granted no lease: {str(answer)[:100]}")
        return str(answer["ID"]), _number(answer.get("TTL", 0))

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises ArbiterError."""
        self._read_credentials()
        errors = []
        for url in self._urls:
            try:
                return await self._post(url, path, body)
            except HttpError as error:
                if error.status == 404 and path == "/v3/lease/revoke":
                    return {}
                errors.append(str(error))
        raise ArbiterError(f"no etcd answers: {'; '.join(errors)}")

    def _read_credentials(self) -> None:
        """Now and then anew: certificates are renewed. Raises ArbiterError."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at_s < CREDENTIALS_S:
            return
        try:
            if self._credentials_path:
                self._credentials = load(self._credentials_path)
            if any(url.startswith("https:") for url in self._urls):
                self._context = self._credentials.context()
        except CredentialsError as error:
            raise ArbiterError(str(error)) from None
        self._read_at_s = now

    async def _post(self, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """As the configured user, with a token that etcd forgets after a while. Raises HttpError."""
        deadline_s = self._deadline_s / len(self._urls)
        context, credentials = self._context, self._credentials
        if not credentials.user:
            return await post(url + path, body, deadline_s, context)
        if self._token:
            try:
                return await post(url + path, body, deadline_s, context, self._token)
            except HttpError as error:
                if error.status != UNAUTHENTICATED:
                    raise
        login = {"name": credentials.user, "password": credentials.password}
        answer = await post(f"{url}/v3/auth/authenticate", login, deadline_s, context)
        self._token = printable(str(answer.get("token", "")))
        return await post(url + path, body, deadline_s, context, self._token)


def _key(resource: str, name: str) -> str:
    return base64.b64encode(f"{PREFIX}{quote(resource, safe='')}/{name}".encode()).decode()


def _put(key: str, value: Any, lease: str = "0") -> dict[str, Any]:
    text = base64.b64encode(json.dumps(value).encode()).decode()
    return {"requestPut": {"key": key, "value": text, "lease": lease}}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _refusal(found: _Found, node: str, force: bool) -> Refused | None:
    holder = str(found.holder.get("node", ""))
    if holder not in ("", node):
        return Refused(f"{holder} holds the lease", holder, found.epoch)
    sole = str(found.sole.get("node", node))
    if sole != node and not force:
        return Refused(f"this copy is outdated: {sole} went on without it", sole, found.epoch)
    return None


def _over(found: _Found, lease: Lease) -> Refused:
    holder = str(found.holder.get("node", ""))
    who = f"{holder} holds it" if holder else "it is not held"
    return Refused(f"the lease with epoch {lease.epoch} is over: {who} in epoch {found.epoch}", holder, found.epoch)
