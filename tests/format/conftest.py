"""What the tests of the formats share: the reference's vectors and the recorded conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def vector(shared_compat: Path) -> Callable[[str], bytes]:
    """Bytes of the vector whose file name starts with the given number."""

    def read(number: str) -> bytes:
        (path,) = (shared_compat / "vectors").glob(f"{number}-*.hex")
        return bytes.fromhex("".join(path.read_text().split()))

    return read


@pytest.fixture(scope="session")
def recorded(shared_compat: Path) -> list[dict[str, Any]]:
    """Every message of every recorded conversation, with its bytes as `wire` and the scenario's name."""
    messages = []
    for path in sorted((shared_compat / "captures").glob("*/conv.jsonl")):
        for line in path.read_text().splitlines():
            message = json.loads(line)
            if "hex" not in message:
                continue
            wire = bytes.fromhex(message["hex"])
            for piece, count in message.get("data_rle", ()):
                wire += bytes.fromhex(piece) * count
            messages.append({**message, "wire": wire, "scenario": path.parent.name})
    return messages
