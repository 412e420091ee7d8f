"""`--plan` of hastctl's commands: what would be done, in order, and what would be refused. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from hast.cli.session import Session, say_error

if TYPE_CHECKING:
    from hast.config.model import Resource
    from hast.replication.types import Metadata

PLAN_LIMIT_S = 60.0
PLAN = click.option("--plan", is_flag=True, help="Say what would be done and what refused; change nothing.")


def show_plan(session: Session, order: dict[str, Any]) -> int:
    """Ask hastd for the plan of this order and print it. Returns the exit code that the order would end with."""
    entries = session.ask({"command": "plan", "order": order}, PLAN_LIMIT_S).get("resources") or []
    exit_code = 0
    for entry in entries:
        print("\n".join(plan_lines(str(entry["name"]), entry.get("steps") or ())), flush=True)
        if entry.get("error"):
            say_error(f"[{entry['name']}] would be refused: {entry['error']}")
            exit_code = exit_code or int(entry.get("code") or 1)
    return exit_code


def plan_lines(title: str, steps: Sequence[str]) -> list[str]:
    """The title, and the steps numbered below it."""
    return [f"{title}:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]


def create_plan(resource: Resource, metadata: Metadata) -> list[str]:
    """What `hastctl create` would write."""
    from hast.cli.output import sized
    from hast.worker.disk import provision
    from hast.worker.disk.provider_open import ProviderError

    try:
        present = f"that of resource {provision.read(resource).resource}, whose record of what differs is lost"
    except ProviderError:
        present = "none that can be read"
    return plan_lines(
        f"{resource.name} ({resource.local})",
        [
            f"overwrite the first {metadata.offset_bytes} bytes with new metadata and an empty map; there now: "
            f"{present}",
            f"leave the data from byte {metadata.offset_bytes} on as it is: {sized(metadata.datasize_bytes)}, "
            f"extents of {sized(metadata.extentsize_bytes)}",
        ],
    )
