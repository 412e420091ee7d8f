"""Messages of the control socket in the reference's language (specification section 9.5), both directions.

Resources are the objects of docs/control.md: a mapping with `name`, `error` (None or a text), `code` when there is an
error, and the keys of a status object or `previous`. JSON messages carry the same objects as text. No I/O, no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hast.format import nv
from hast.format.constants import ROLE_NUMBERS, ControlCommand, HastError, Role
from hast.format.nv import Field, Nv, NvType

MAX_RESOURCES = 65536
"""More names than this in one message are not read."""

_ROLE_CODES = {role: number for number, role in ROLE_NUMBERS.items()}

_STATUS_WORDS = frozenset({"complete", "degraded", "-"})
"""What the reference says, and its readers know; every other state of ours is less than complete."""
_STRINGS = ("provname", "localpath", "remoteaddr", "sourceaddr", "replication", "checksum", "compression", "role")
_OPTIONAL_STRINGS = frozenset({"sourceaddr"})
_NUMBERS = (("dirty", NvType.UINT64), ("extentsize", NvType.UINT32), ("keepdirty", NvType.UINT32))
_STATISTICS = {
    "stat_read": "reads",
    "stat_write": "writes",
    "stat_delete": "deletes",
    "stat_flush": "flushes",
    "stat_activemap_update": "activemap_updates",
    "stat_read_error": "read_errors",
    "stat_write_error": "write_errors",
    "stat_delete_error": "delete_errors",
    "stat_flush_error": "flush_errors",
}
_QUEUES = {f"{queue}_queue_size": queue for queue in ("idle", "local", "send", "recv", "done")}


class ControlError(ValueError):
    """The whole request was refused. `code` is a HastError number, or an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Error {code} received from hastd.")
        self.code = code


# -- requests -----------------------------------------------------------------------------------------------------


def status_request(names: Iterable[str]) -> list[Field]:
    """What `hastctl status` and `list` send."""
    return [nv.u8("cmd", ControlCommand.STATUS), *_names(names)]


def role_request(role: Role, names: Iterable[str]) -> list[Field]:
    """What `hastctl role` sends."""
    return [nv.u8("cmd", ControlCommand.SETROLE), nv.u8("role", _ROLE_CODES[role]), *_names(names)]


def json_request(text: str) -> list[Field]:
    """A request in JSON; its reply is `json_reply`."""
    return [nv.u8("cmd", ControlCommand.JSON), nv.string("json", text)]


def resource_names(fields: Nv) -> list[str]:
    """The names in a request or reply, up to the first that is missing. `all` counts only as the first."""
    names: list[str] = []
    while len(names) < MAX_RESOURCES:
        name = fields.get(f"resource{len(names)}", NvType.STRING)
        if name is None:
            break
        names.append(name)
    return names


def requested_role(fields: Nv) -> Role | None:
    """The role of a SETROLE request; None when it is missing or no role."""
    return ROLE_NUMBERS.get(fields.get("role", NvType.UINT8) or 0)


# -- replies ------------------------------------------------------------------------------------------------------


def error_reply(code: int) -> list[Field]:
    """The whole request is refused with a HastError, or OK for an answer about no resource at all."""
    return [nv.i16("error", code)]


def json_reply(text: str) -> list[Field]:
    return [nv.string("json", text)]


def role_reply(resources: Sequence[Mapping[str, Any]]) -> list[Field]:
    """Each resource with its `previous` role, or its error `code`."""
    fields: list[Field] = []
    for index, resource in enumerate(resources):
        fields.append(nv.string(f"resource{index}", resource["name"]))
        if resource.get("error") is not None:
            fields.append(_error(index, resource))
        else:
            fields.append(nv.string(f"role{index}", str(resource["previous"])))
    return fields or error_reply(HastError.OK)


def status_reply(resources: Sequence[Mapping[str, Any]]) -> list[Field]:
    """Each resource with its status, or its error `code`. Worker fields are there only with a worker."""
    fields: list[Field] = []
    for index, resource in enumerate(resources):
        fields.append(nv.string(f"resource{index}", resource["name"]))
        if resource.get("error") is not None:
            fields.append(_error(index, resource))
            continue
        for name in _STRINGS:
            value = resource.get(name)
            if value or name not in _OPTIONAL_STRINGS:
                fields.append(nv.string(f"{name}{index}", str(value or "")))
        worker_pid = resource.get("workerpid") or 0
        fields.append(nv.i32(f"workerpid{index}", worker_pid))
        if worker_pid:
            fields += _worker_fields(index, resource)
    return fields or error_reply(HastError.OK)


def _worker_fields(index: int, resource: Mapping[str, Any]) -> list[Field]:
    statistics = resource.get("statistics") or {}
    queues = resource.get("queues") or {}
    word = str(resource.get("status") or "-")
    return [
        nv.string(f"status{index}", word if word in _STATUS_WORDS else "degraded"),
        *[(f"{name}{index}", kind, resource.get(name) or 0) for name, kind in _NUMBERS],
        *[nv.u64(f"{field}{index}", statistics.get(key) or 0) for field, key in _STATISTICS.items()],
        *[nv.u64(f"{field}{index}", queues.get(key) or 0) for field, key in _QUEUES.items()],
    ]


def read_role_reply(fields: Nv) -> list[dict[str, Any]]:
    """The objects of a reply to `role_request`. Raises ControlError when the whole request was refused."""
    return [
        entry if entry["error"] is not None else {**entry, "previous": _text(fields, f"role{index}")}
        for index, entry in enumerate(_entries(fields))
    ]


def read_status_reply(fields: Nv) -> list[dict[str, Any]]:
    """The objects of a reply to `status_request`; counts are 0 and `status` is "-" without a worker.

    Raises ControlError when the whole request was refused.
    """
    return [
        entry if entry["error"] is not None else {**entry, **_read_status(fields, index)}
        for index, entry in enumerate(_entries(fields))
    ]


def _read_status(fields: Nv, index: int) -> dict[str, Any]:
    status: dict[str, Any] = {name: _text(fields, f"{name}{index}") for name in _STRINGS}
    status["sourceaddr"] = status["sourceaddr"] or None
    status["workerpid"] = fields.get(f"workerpid{index}", NvType.INT32) or 0
    status["status"] = fields.get(f"status{index}", NvType.STRING) or "-"
    for name, kind in _NUMBERS:
        status[name] = fields.get(f"{name}{index}", kind) or 0
    status["statistics"] = {key: _count(fields, f"{field}{index}") for field, key in _STATISTICS.items()}
    status["queues"] = {key: _count(fields, f"{field}{index}") for field, key in _QUEUES.items()}
    return status


def _entries(fields: Nv) -> list[dict[str, Any]]:
    code = fields.get("error", NvType.INT16)
    if code:
        raise ControlError(code)
    entries: list[dict[str, Any]] = []
    for index, name in enumerate(resource_names(fields)):
        error = fields.get(f"error{index}", NvType.INT16)
        if error is None:
            entries.append({"name": name, "error": None})
        else:
            entries.append({"name": name, "error": f"Received error {error} from hastd.", "code": error})
    return entries


def _names(names: Iterable[str]) -> list[Field]:
    return [nv.string(f"resource{index}", name) for index, name in enumerate(names)]


def _error(index: int, resource: Mapping[str, Any]) -> Field:
    return nv.i16(f"error{index}", resource.get("code") or HastError.INVALID)


def _text(fields: Nv, name: str) -> str:
    return fields.get(name, NvType.STRING) or ""


def _count(fields: Nv, name: str) -> int:
    return fields.get(name, NvType.UINT64) or 0
