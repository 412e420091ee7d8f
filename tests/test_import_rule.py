"""Rooms import only rooms of the floors below their own; the lab and the simulator are imported by the drill only.

What decides performs no I/O: whole rooms, and in the others the folders named `decisions`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "hast"
FLOORS = (
    ("format",),
    ("config", "election"),
    ("replication", "daemon"),
    ("worker", "device", "net"),
    ("supervisor", "failover"),
    ("watch", "sim", "lab"),
    ("drill", "order"),
    ("cli",),
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PRIVATE = frozenset({"lab", "sim"})
ADMITTED = "drill"
"""The room that may use those."""
SANS_IO = frozenset({"format", "replication", "election"})
DECISIONS = "decisions"
"""Name of the folders, in rooms that perform I/O, whose modules decide and perform none."""
KNOWN_TO_DECISIONS = SANS_IO | {"config"}
FORBIDDEN_IN_SANS_IO = frozenset({"os", "socket", "time", "threading", "asyncio", "select", "subprocess", "random"})


def modules(room: str) -> list[Path]:
    return sorted((SOURCE / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, relative ones made absolute."""
    package = ("hast", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_folder_is_a_known_room() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_of_floors_below(room: str) -> None:
    hidden = frozenset() if room == ADMITTED else PRIVATE
    allowed = {name for name, floor in ROOMS.items() if floor < ROOMS[room] and name not in hidden} | {room}
    for path in modules(room):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "hast" and len(parts) > 1 and parts[1] in ROOMS:
                assert parts[1] in allowed, f"{path.relative_to(SOURCE)} imports {name}"


@pytest.mark.parametrize("room", sorted(SANS_IO))
def test_a_sans_io_room_imports_nothing_that_does_io(room: str) -> None:
    for path in modules(room):
        refuse_io(path)


def test_a_decision_performs_no_io_and_imports_nothing_that_does() -> None:
    folders = [path for path in SOURCE.rglob(DECISIONS) if path.is_dir()]
    assert folders
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        refuse_io(path)
        for name in imported(path):
            parts = name.split(".")
            known = parts[0] != "hast" or parts[1] in KNOWN_TO_DECISIONS or DECISIONS in parts
            assert known, f"{path.relative_to(SOURCE)} imports {name}"


def test_the_simulator_imports_only_what_performs_no_io() -> None:
    for path in modules("sim"):
        for name in imported(path):
            parts = name.split(".")
            known = parts[0] != "hast" or parts[1] in KNOWN_TO_DECISIONS | {"sim"} or DECISIONS in parts
            assert known, f"{path.relative_to(SOURCE)} imports {name}"


def refuse_io(path: Path) -> None:
    for name in imported(path):
        assert name.split(".")[0] not in FORBIDDEN_IN_SANS_IO, f"{path.relative_to(SOURCE)} imports {name}"
