"""What of hastctl a FreeBSD hastd can be asked: status, list and role, in the reference's messages (section 9.5).

Pure: commands of docs/control.md in, fields of a message out, and the other way round. Opens no socket.
"""

from __future__ import annotations

from typing import Any

from hast.format import control
from hast.format.constants import HastError, Role
from hast.format.nv import Field, Nv

SPOKEN = "only status, list and role can be asked"


class NotSpoken(Exception):
    """The reference has no message for this command; `str()` names what is missing."""


def request(command: dict[str, Any]) -> list[Field]:
    """The message that asks for the same as this JSON command. Raises NotSpoken."""
    match command["command"]:
        case "status":
            return control.status_request(command["resources"])
        case "role" if command.get("force"):
            raise NotSpoken("role --force")
        case "role":
            return control.role_request(Role(command["role"]), command["resources"])
    raise NotSpoken(str(command["command"]))


def reply(command: dict[str, Any], fields: Nv) -> dict[str, Any]:
    """The reply as the object that a JSON command has. Raises control.ControlError when all of it was refused."""
    read = control.read_status_reply if command["command"] == "status" else control.read_role_reply
    entries = read(fields)
    for entry in entries:
        if entry.get("code") == HastError.NOENTRY:
            entry["error"] = f"Resource {entry['name']} is not configured."
    return {"error": None, "resources": entries}
