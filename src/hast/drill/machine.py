"""What the site's files ask of this machine and this machine lacks. Looks at names only, opens no device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from hast.drill.decisions.follow import failover_verb
from hast.drill.decisions.review import Finding, doubt, mistake
from hast.drill.decisions.site import Node

INTERFACES = Path("/sys/class/net")


def look(node: Node) -> Iterator[Finding]:
    """Disks, interfaces and programs of this node. They are not what is rehearsed, so the drill would not miss them."""
    for resource in node.hast.resources.values():
        if not Path(resource.local).exists():
            yield mistake(f"hast.conf, resource {resource.name}, local", f"this machine has no {resource.local}", ())
    for group in node.carp.groups:
        if INTERFACES.is_dir() and not (INTERFACES / group.interface).exists():
            text = f"this machine has no interface {group.interface}"
            yield mistake(f"carp.conf, vhid {group.vhid}, interface", text, ())
    for action in dict.fromkeys(action for rule in node.devd.rules for action in rule.actions if failover_verb(action)):
        program = action.split()[0]
        if program.startswith("/") and shutil.which(program) is None:
            yield mistake(f"devd.conf, action {action!r}", f"this machine has no program {program}", ())


def checked(complaints: list[tuple[bool, str]]) -> Iterator[Finding]:
    """What `hastctl check` says: whether it is an error, and the text."""
    for is_error, text in complaints:
        yield (mistake if is_error else doubt)("hastctl check", text, {"start", "move"} if is_error else ())
