"""The README's commands, taken from its text, so that the text is what is tested.

A paragraph that ends `On WHERE:` is followed by an indented block: a shell script for `both`, `hast1`, `hast2` or `the
witness`.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"\bOn (both|hast1|hast2|the witness)(?:, here [\d.]+)?:\n\n((?:(?: {8}.*)?\n)+)")


def fenced(page: str, before: str) -> str:
    """The fenced block that follows the line `before` of a page in docs/."""
    text = (README.parent / "docs" / page).read_text()
    found = re.search(rf"^{re.escape(before)}\n\s*```\n(.*?)^\s*```", text, re.M | re.S)
    assert found is not None, f"{page} has no commands after {before!r}"
    return textwrap.dedent(found[1])


def steps(heading: str) -> list[tuple[str, str]]:
    """(where, script) in the order of the text, of the section with this heading."""
    text = README.read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", text, re.M | re.S)
    assert section is not None, f"README.md has no section {heading!r}"
    found = [(where, textwrap.dedent(block).strip() + "\n") for where, block in BLOCK.findall(section[1])]
    assert found, f"README.md: no commands under {heading!r}"
    return found
