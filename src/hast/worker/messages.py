"""Messages between the supervisor and one worker, over a SOCK_SEQPACKET socket pair. Private to one host.

Each message is one JSON object in one packet (at most MAX_MESSAGE_BYTES), with descriptors attached where said.
The worker is started as `python -m hast.worker.worker FD` with the socket as descriptor FD.

Supervisor to worker
    {"do": "start", "role": "primary"|"secondary", "resource": {...}, "debug": n, "foreground": bool,
     "force": bool, "resume": bool, ...}
        primary: descriptors [NBD listening socket, FUSE device descriptor if "fuse": true]
            "resume": true when the worker replaces one that died (requests of the FUSE device are re-sent)
            "ublk": number of the ublk device; "locker": true when the last two descriptors are
            those of a Locker (disk/flush_witness.py)
            "first": true for the first promotion since hastd started (wait-for-peer)
        secondary: descriptors [connection A, connection B]; "hello" is message 3's body in hex, "version" and
            "features" are what message 2 agreed on
    {"do": "status", "id": n}            answered at once by {"reply": n, "status": {...}}
    {"do": "reload", "id": n, "resource": {...}}  changes of section 8.6; answered {"reply": n, "error": null|"text"}
    {"do": "sync-rate", "id": n, "bytes_s": n}
    {"do": "stop", "id": n, "deadline_s": x, "leaving": bool}  primary: refuse new requests, drain, flush, leave a
        clean map, tell the peer that this node has let go; then exit 0. secondary: "leaving" has the primary told
    {"do": "give-way"}                   end at once with 75, between two rounds, for a worker that replaces this one
    {"do": "leave", "id": n, "within_s": x}    primary: tell the peer that this node lets go within this time
    {"do": "withhold", "id": n, "limit_s": x, "in_use": bool}  primary: carry out what clients write, answer
        none of it; when all of it is on both copies and clients are silent, or at the limit: {"reply": n, "error":
        null, "quiet": bool}
    {"do": "answer", "id": n, "question": "...", "yes": bool}   the arbiter's word on what the worker asked
    {"do": "freeze", "id": n, "reason": "..."}, {"do": "thaw", "id": n}   primary: hold writes, and let them go on
    {"do": "may-change-disk", "id": n, "order": "detach", "path": "..."}: would it be refused?
    {"do": "detach-disk", "id": n}, {"do": "attach-disk", "id": n}, {"do": "replace-disk", "id": n, "path": "..."}
        primary: change the disk while it serves; answered when it is done, or {"reply": n, "error": "Not done: ..."}
    {"do": "verify", "id": n, "repair": bool}, {"do": "stop-verify", "id": n}   primary: compare both copies; answered
        when it began, or {"reply": n, "error": "Not done: ..."}; what was found is told by the event "verified"
    {"do": "ask-anew", "id": n}          primary: put the question to the arbiter again, if there is one
    {"do": "adopt", "id": n}             from a new hastd, on the socket of worker/successor.py, where the worker spoke
        first: {"say": "offer", "version": STATE_VERSION, "role", "resource", "ready": the message below, "release",
        "fuse", "sync_rate_bytes_s" (absent: auto)} and, as primary, the descriptors of `start`
Worker to supervisor
    {"say": "ready", "datasize": n, "sectorsize": n}   primary: engine is up, exports answer. secondary: handshake done
    {"say": "locker"}   primary, to a supervisor that has taken it over: with both descriptors of its Locker, to be kept
    {"say": "left", "exit": n, "reason": "..."}        all is released but the disk; the process
        goes when the disk lets it, and is nobody's business any more
    {"say": "refused", "text": "...", "exit": n}        cannot take the role; the worker then ends with that exit code
    {"say": "event", "name": "...", "text": "...", "level": "..."}   with "details" (an object) for split-brain,
        peer-leaves and verified
    {"say": "ask", "question": "outdate-peer"}         the engine waits for the arbiter; see "answer"
    {"reply": id, ...}
The worker logs by daemon/logs.py (`setup` with its resource and role), the supervisor only logs and runs hooks for
events it hears of; an event is therefore logged by the supervisor and not by the worker. A worker that reads end of
file here has lost its supervisor: if it holds its role it goes on and waits for the next one (worker/successor.py),
else it drains, closes and exits 0. Exit codes: 0 stopped as asked; 75 link lost (secondary), or start me again
(primary); anything else, the role cannot be held. The `status` object of a worker
(sizes in bytes; keys that do not apply may be absent): "status": "complete" (connected) | "degraded", "in_step": bool
(both copies are equal, as far as this node knows), "peer_whole": bool (of a primary: the peer's copy lacks nothing),
"link": {"reason": why it is not connected, "sent_bytes", "received_bytes", "tls": "kernel"|"kernel-tx"|"user"|null,
...}, "dirty", "at_risk_bytes" (of a primary), "datasize", "extentsize", "keepdirty", "disk_cache": bool,
"disk_by": "cache"|"io_uring"|"threads", "resuid", "localcnt", "remotecnt", "verify": as replication/verify.py reports,
"statistics": {"reads", "writes", "deletes", "flushes", "activemap_updates", "read_errors", "write_errors",
"delete_errors", "flush_errors", "read_bytes", "write_bytes", "delete_bytes"}, "latency": as in docs/control.md,
"queues": {"local", "send", "recv", "done", "idle"}, "sync": null | {"direction":
"to-peer"|"from-peer", "total_bytes", "done_bytes", "rate_bytes_s", "left_s"|null}, "problems": [{"kind":
"split-brain"|"stale"|"inconsistent"|"refused"|"disk"|"frozen", "text": "..."}], "inconsistent": bool, "stale": bool,
"peer": "..." (address in use), "protocol": n, "replication": mode in effect. What hastctl --json shows is made of it
by supervisor/status.py; docs/control.md names every field there.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Sequence
from typing import Any

from hast.config.model import Arbiter, ArbiterKind, CrashLoop, Device, DiskCache, Resource, SplitBrainPolicy, Tls
from hast.daemon.descriptors import receive as receive_with
from hast.format.constants import Checksum, Compression, Replication

MAX_MESSAGE_BYTES = 256 * 1024
MAX_DESCRIPTORS = 16
LATER = frozenset({"disk_cache", "read_balancing", "sync_rate_bytes_s"})
"""Settings that a release before does not know. It is told of them where they say something that it cannot do: it then
refuses to take the worker over, and says which. What it would do anyway is not told."""


def send(sock: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError, BlockingIOError when the other side does not read."""
    payload = json.dumps(message).encode()
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
    socket.send_fds(sock, [payload], list(descriptors))


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message and its descriptors; (None, []) when the other side is gone. Raises OSError."""
    payload, received = receive_with(sock, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
    if not payload:
        return None, []
    message = json.loads(payload)
    if not isinstance(message, dict):
        raise ValueError("message is not an object")
    return message, received


def resource_to_json(resource: Resource) -> dict[str, Any]:
    """A resource as the object of a `start`, `reload` or `offer` message."""
    values = dataclasses.asdict(resource)
    known = {field.name: field.default for field in dataclasses.fields(resource) if field.name in LATER}
    return {name: value for name, value in values.items() if name not in known or value != known[name]}


def resource_from_json(value: dict[str, Any]) -> Resource:
    """The reverse of `resource_to_json`. Raises KeyError, ValueError, TypeError."""
    return Resource(
        **{
            **value,
            "remotes": tuple(value["remotes"]),
            "replication": Replication(value["replication"]),
            "checksum": Checksum(value["checksum"]),
            "compression": Compression(value["compression"]),
            "device": Device(value["device"]),
            "arbiter": Arbiter(
                ArbiterKind(value["arbiter"]["kind"]),
                tuple(value["arbiter"]["targets"]),
                value["arbiter"].get("credentials", ""),
                fingerprints=tuple(value["arbiter"].get("fingerprints") or ()),
            ),
            "split_brain_policy": SplitBrainPolicy(value["split_brain_policy"]),
            "crash_loop": CrashLoop(value["crash_loop"]),
            "disk_cache": DiskCache(value.get("disk_cache", DiskCache.AUTO)),
            "tls": Tls(value["tls"]) if value.get("tls") else None,
            "peer_fingerprints": tuple(value.get("peer_fingerprints") or ()),
        }
    )
