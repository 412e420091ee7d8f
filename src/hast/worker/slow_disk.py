"""What is said of a disk that is far slower than the other copy's (`replication/pace.py` decides). Pure: words only."""

from __future__ import annotations

from typing import Any

from hast.replication.latency import LOCAL
from hast.replication.pace import Slow


def in_words(slow: Slow, local: str, peer: str) -> str:
    """One sentence. `local`: path of the local disk; `peer`: address of the other node."""
    figures = f"of 100 {_PLURALS[slow.operation]} 99 take up to {_time(slow.p99_s)}"
    other = _time(slow.other_p99_s)
    if slow.copy == LOCAL:
        return f"The local disk {local} is slow: {figures}, and {other} on the other node {peer}, network included."
    return f"The disk of the other node {peer}, or the network to it, is slow: {figures}, and {other} here on {local}."


def as_status(slow: Slow | None) -> dict[str, Any] | None:
    """`slow_disk` of docs/control.md."""
    if slow is None:
        return None
    figures = {"p99_s": round(slow.p99_s, 6), "other_p99_s": round(slow.other_p99_s, 6)}
    return {"copy": slow.copy, "operation": slow.operation, **figures}


_PLURALS = {"write": "writes", "flush": "flushes"}


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
