"""What `make test` leaves out is run by another target."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_slow_test_is_reached_by_a_target_of_the_makefile() -> None:
    makefile = (HERE.parent / "Makefile").read_text()
    reached = set(re.findall(r"tests/(\w+)", "\n".join(re.findall(r"^(?:TORTURE =|.*-m slow ).*", makefile, re.M))))
    marked = {
        path.relative_to(HERE).parts[0] for path in HERE.rglob("test_*.py") if "mark.slow" in path.read_text()
    } - {Path(__file__).name}
    assert marked <= reached
