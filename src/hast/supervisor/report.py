"""One picture of a node, and of both (docs/control.md): the answer to `report`.

What this hastd knows, what carpd beside it says, and what the last fail-over left behind. The other node's part is
asked of its hastd, over a connection on which both have shown their keys: who has shown none is told nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from hast.config.address import AddressError
from hast.config.host import this_host
from hast.config.model import Resource
from hast.daemon.in_thread import in_thread
from hast.daemon.logs import in_words
from hast.daemon.paths import failover_record, parts_record
from hast.daemon.record_file import read_object
from hast.daemon.release import RELEASE
from hast.format import frame, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES, PROTOCOL_VERSION
from hast.format.frame import FrameError
from hast.format.text import printable_json
from hast.net.client import Carpd, CarpdError, control_path
from hast.supervisor.peer_dial import exchange
from hast.supervisor.resource_state import ResourceState

FIELD = "report"
"""In the place of message 1, on a TLS connection."""
ANSWER_S = 3.0
CARPD_S = 2.0
KEEP_S = 0.5
"""How old what the other node said may be: who looks often costs it no more."""
NO_KEYS = "The link has no keys (tls off): the other node is not asked."
OF_FAILOVER = ("verb", "phase", "started_s", "finished_s", "failures", "step")

StatusOf = Callable[[Collection[str]], Awaitable[list[dict[str, Any]]]]


class Reports:
    """Of this node, for those who ask here; of the other one, asked there."""

    def __init__(self, states: Mapping[str, ResourceState], status_of: StatusOf) -> None:
        self._states = states
        self._status_of = status_of
        self._since_s = time.time()
        self._peers: tuple[float, list[dict[str, Any]]] = (-KEEP_S, [])
        self._asking = asyncio.Lock()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """`{"command": "report", "peer": bool}`."""
        wants_peer = request.get("peer") is True
        node, peers = await asyncio.gather(self.node(list(self._states)), self._of_peers(wants_peer))
        return {"error": None, "node": node, "peers": peers}

    async def node(self, names: Collection[str]) -> dict[str, Any]:
        """This node, with these of its resources."""
        resources, carp = await asyncio.gather(self._status_of(names), _carp())
        return {
            "host": this_host().name,
            "time": time.time(),
            "release": RELEASE,
            "pid": os.getpid(),
            "since": self._since_s,
            "resources": resources,
            "carp": carp,
            "failover": _failover(),
            "parts": read_object(parts_record()),
        }

    async def for_peer(self, peer: str, allowed: Callable[[Resource], bool]) -> bytes | None:
        """The message for the node with this key; None when it shares no resource with this one."""
        names = [
            name
            for name, state in self._states.items()
            if state.resource.is_secured and peer in state.resource.peer_fingerprints and allowed(state.resource)
        ]
        if not names:
            return None
        fields = [nv.string("json", json.dumps(await self.node(names)))]
        return b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, fields))

    async def _of_peers(self, wanted: bool) -> list[dict[str, Any]]:
        if not wanted:
            return []
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._peers[0] >= KEEP_S:
                groups = _by_peer(state.resource for state in self._states.values())
                told = await asyncio.gather(*(_ask(names, resource) for names, resource in groups))
                self._peers = (asyncio.get_running_loop().time(), list(told))
            return self._peers[1]


def _by_peer(resources: Iterable[Resource]) -> list[tuple[list[str], Resource]]:
    """The resources that are kept with the same node, and one of them. Those with `remote none` have no other node."""
    groups: dict[tuple[object, ...], tuple[list[str], Resource]] = {}
    for resource in resources:
        if resource.remotes:
            key = (resource.is_secured, resource.peer_fingerprints, resource.remotes)
            groups.setdefault(key, ([], resource))[0].append(resource.name)
    return list(groups.values())


async def _ask(names: list[str], resource: Resource) -> dict[str, Any]:
    """`{"resources", "address", "asked", "error", "node"}` of the node that has these."""
    told = {"resources": names, "address": resource.remotes[0], "asked": resource.is_secured, "node": None}
    if not resource.is_secured:
        return told | {"error": NO_KEYS}
    error = ""
    for remote in resource.remotes:
        try:
            message = frame.encode(PROTOCOL_VERSION, [nv.u8(FIELD, 1)])
            reply = await exchange(remote, resource, message, ANSWER_S, MAX_CONTROL_BODY_BYTES)
            return told | {"address": remote, "error": None, "node": _read(reply)}
        except TimeoutError:
            error = error or "It does not answer."
        except (OSError, AddressError, FrameError, ValueError) as reason:
            error = error or f"{in_words(reason)}."
    return told | {"error": error}


def _read(reply: frame.Frame) -> dict[str, Any]:
    """Raises ValueError."""
    node = printable_json(json.loads(reply.nv.get("json", nv.NvType.STRING) or "null"))
    if not isinstance(node, dict) or not isinstance(node.get("resources"), list):
        raise ValueError("it did not answer with a report")
    return node


async def _carp() -> dict[str, Any]:
    """`{"vhids": [...], "error": null}`, or why there are none."""
    try:
        vhids = await in_thread(partial(_vhids), CARPD_S)
    except (CarpdError, TimeoutError) as error:
        return {"vhids": [], "error": str(error) or "carpd does not answer"}
    return {"vhids": vhids, "error": None}


def _vhids() -> list[dict[str, Any]]:
    return Carpd(control_path()).vhids()


def _failover() -> dict[str, Any] | None:
    """What the last run of failover(8) noted; None when there was none."""
    found = read_object(failover_record())
    return {key: found[key] for key in OF_FAILOVER if key in found} if found is not None else None
