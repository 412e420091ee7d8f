"""The status object of a resource, from what the supervisor, the worker and the provider know (docs/control.md).

Pure: everything is handed in. The keys are an interface; docs/control.md names each one.
"""

from __future__ import annotations

from typing import Any

from hast.config import common_settings
from hast.config.model import SYNC_AUTO
from hast.format.constants import SPLIT_BRAIN_TEXT, HastError, Role
from hast.supervisor.contact import ContactMemory
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.split_brain import DETECTED

STATISTICS = (
    "reads",
    "writes",
    "deletes",
    "flushes",
    "activemap_updates",
    "read_errors",
    "peer_reads",
    "write_errors",
    "delete_errors",
    "flush_errors",
    "read_bytes",
    "write_bytes",
    "delete_bytes",
)
LINKS = ("sent_bytes", "received_bytes")
QUEUES = ("local", "send", "recv", "done", "idle")
_WORKER_REFUSED = "(exit code 78)."
_COPIED = ("resuid", "localcnt", "remotecnt", "prevrole")


def unknown(name: str) -> dict[str, Any]:
    """The entry of a resource that is not configured."""
    return {"name": name, "error": f"Resource {name} is not configured.", "code": int(HastError.NOENTRY)}


def build(
    state: ResourceState,
    worker: dict[str, Any] | None,
    metadata: dict[str, Any] | None,
    contact: ContactMemory,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """One resource. `worker` is its worker's status, `metadata` what a probe read where there is no worker."""
    known = worker if worker is not None and "error" not in worker else None
    problems = _problems(state, worker, metadata)
    return (
        _configured(state)
        | _sizes(known, metadata)
        | {
            "status": _status(state, known),
            "connected": _is_connected(known),
            "peer_whole": _is_connected(known) and (known or {}).get("peer_whole") is True,
            "not_connected": _not_connected(state, known, contact),
            "workerpid": state.worker.pid if state.worker is not None and state.worker.alive else 0,
            "dirty": int((known or {}).get("dirty") or 0),
            "device": state.device.device_path if state.device is not None else None,
            "nbd_socket": state.device.nbd_path if state.device is not None else None,
            "transition": state.transition,
            "stopping": state.stopping,
            "restarts": state.restarts,
            "peer": (known or {}).get("peer"),
            "protocol": (known or {}).get("protocol"),
            "sync": (known or {}).get("sync"),
            "slow_disk": (known or {}).get("slow_disk"),
            "verify": _under_way((known or {}).get("verify")),
            "last_verify": state.verified.last,
            "sync_rate_bytes_s": _rate(state.settings.sync_rate_bytes_s),
            "statistics": _counters((known or {}).get("statistics"), STATISTICS),
            "latency": (known or {}).get("latency"),
            "links": _links((known or {}).get("link")),
            "tls_in": _tls_in((known or {}).get("link")),
            "disk_cache": (known or {}).get("disk_cache"),
            "disk_by": (known or {}).get("disk_by"),
            "at_risk_bytes": (known or {}).get("at_risk_bytes"),
            "missing_bytes": _missing(known),
            "arbiter": state.arbiter,
            "queues": _counters((known or {}).get("queues"), QUEUES),
            "inconsistent": bool((known or metadata or {}).get("inconsistent")),
            "stale": bool((known or metadata or {}).get("stale")),
            "split_brain": state.split_brain.as_status(state.belongs_with) if state.split_brain.known else None,
            "discard_ordered": bool((metadata or {}).get("discard")),
            "problems": problems,
            "history": history,
        }
    )


def _configured(state: ResourceState) -> dict[str, Any]:
    resource = state.resource
    return {
        "name": resource.name,
        "error": None,
        "role": str(state.role),
        "provname": resource.provider_name,
        "localpath": resource.local,
        "remoteaddr": " ".join(resource.remotes) or "none",
        "sourceaddr": resource.source,
        "replication": str(resource.replication),
        "checksum": str(resource.checksum),
        "compression": str(resource.compression),
        "timeout_s": resource.timeout_s,
        "tls": resource.tls_in_words,
        "settings": common_settings.digests(resource),
    }


def _sizes(worker: dict[str, Any] | None, metadata: dict[str, Any] | None) -> dict[str, Any]:
    if worker is not None:
        sizes = {name: int(worker.get(name) or 0) for name in ("datasize", "extentsize", "keepdirty")}
        return sizes | {name: worker.get(name) for name in _COPIED}
    found = metadata if metadata is not None and "error" not in metadata else {}
    sizes = {"datasize": int(found.get("datasize_bytes") or 0), "extentsize": int(found.get("extentsize_bytes") or 0)}
    return sizes | {"keepdirty": int(found.get("keepdirty") or 0)} | {name: found.get(name) for name in _COPIED}


def _status(state: ResourceState, worker: dict[str, Any] | None) -> str:
    """`complete`: two equal copies; `synchronizing`: they are being made equal; `degraded`: there is one copy that
    counts; `-`: nothing is served (section 9.3, which calls whatever is connected complete)."""
    if worker is None:
        return "degraded" if state.role is Role.PRIMARY else "-"
    failed = any(each.get("kind") == "disk" for each in worker.get("problems") or ())
    if failed or not _is_connected(worker):
        return "degraded"
    return "complete" if worker.get("in_step", True) else "synchronizing"


def _is_connected(worker: dict[str, Any] | None) -> bool:
    return worker is not None and worker.get("status") == "complete"


def _not_connected(
    state: ResourceState, worker: dict[str, Any] | None, contact: ContactMemory
) -> dict[str, Any] | None:
    """Since when and why; None while connected, and where no connection is wanted."""
    if _is_connected(worker) or contact.since_s is None:
        return None
    link = (worker or {}).get("link")
    attempt = link.get("reason") if isinstance(link, dict) else None
    unknown = "the primary has not connected" if state.role is Role.SECONDARY else "no attempt has succeeded yet"
    return {"since": contact.since_s, "reason": str(attempt or contact.reason or unknown)}


def _counters(found: Any, names: tuple[str, ...]) -> dict[str, int]:
    values = found if isinstance(found, dict) else {}
    return {name: int(values.get(name) or 0) for name in names}


def _links(found: Any) -> dict[str, int] | None:
    return _counters(found, LINKS) if isinstance(found, dict) else None


def _tls_in(link: Any) -> str | None:
    """Where the records of the link are made."""
    return str(link["tls"]) if isinstance(link, dict) and link.get("tls") else None


def _under_way(verify: Any) -> dict[str, Any] | None:
    """A verification that has no outcome yet."""
    return verify if isinstance(verify, dict) and verify.get("outcome") is None else None


def _missing(worker: dict[str, Any] | None) -> dict[str, int] | None:
    if worker is None or "peer_missing" not in worker:
        return None
    return {copy: int(worker.get(f"{copy}_missing") or 0) for copy in ("local", "peer")}


def _problems(
    state: ResourceState, worker: dict[str, Any] | None, metadata: dict[str, Any] | None
) -> list[dict[str, str]]:
    problems: list[dict[str, str]] = []
    if worker is not None:
        if "error" in worker:
            problems.append({"kind": "worker", "text": str(worker["error"])})
        for each in worker.get("problems") or ():
            problems.append({"kind": str(each.get("kind")), "text": str(each.get("text"))})
    elif state.role is Role.PRIMARY:
        problems.append({"kind": "worker", "text": "The worker process is not running; it is being restarted."})
    if state.split_brain.known and not any(each["kind"] == DETECTED for each in problems):
        problems.insert(0, {"kind": DETECTED, "text": SPLIT_BRAIN_TEXT})
    if metadata is not None:
        problems += _metadata_problems(metadata)
    if state.no_disk and not any(each["kind"] == "disk" for each in problems):
        problems.append({"kind": "disk", "text": state.no_disk})
    told = state.split_brain.known and _is_split_brain(state.last_error or "")
    differ = state.verified.trouble if state.role is Role.PRIMARY else ""
    if differ:
        problems.append({"kind": "copies-differ", "text": differ})
    if state.last_error and not told and state.last_error != state.no_disk:
        problems.append({"kind": "last-error", "text": state.last_error})
    return problems


def _is_split_brain(error: str) -> bool:
    """A worker that met the split brain ended over it: the same thing, said twice."""
    return DETECTED in error.lower() or error.endswith(_WORKER_REFUSED)


def _metadata_problems(metadata: dict[str, Any]) -> list[dict[str, str]]:
    if "error" in metadata:
        return [{"kind": "provider", "text": str(metadata["error"])}]
    problems = []
    if metadata.get("inconsistent"):
        text = "The local copy is inconsistent: a synchronisation from the other node has not finished."
        problems.append({"kind": "inconsistent", "text": text})
    if metadata.get("stale"):
        text = "The local copy is stale: it missed writes that the other node has."
        problems.append({"kind": "stale", "text": text})
    return problems


def _rate(bytes_s: int) -> int | str:
    return "auto" if bytes_s == SYNC_AUTO else bytes_s
