"""Every configuration that the manual pages show is accepted on both hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hast.config import carpconf, devdconf, failoverconf, hastconf, notifyconf
from hast.config.host import Host

DOCS = Path(__file__).resolve().parents[2] / "docs"
READERS: dict[str, Callable[[str, Host], object]] = {
    "hast.conf": lambda text, host: hastconf.parse(text, "hast.conf", host).resources,
    "carp.conf": lambda text, host: carpconf.parse(text, "carp.conf", host).groups,
    "failover.conf": lambda text, host: failoverconf.parse(text, "failover.conf"),
    "devd.conf": lambda text, host: devdconf.parse(text, "devd.conf").rules,
    "hast-notify.conf": lambda text, host: notifyconf.parse(text, "hast-notify.conf").receivers,
}
EXAMPLES = [
    pytest.param(language, text, id=f"{page.name}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, (language, text) in enumerate(re.findall(r"^```(\S+)\n(.*?)^```", page.read_text(), re.M | re.S))
    if language in READERS
]


def test_the_pages_show_examples_of_every_file() -> None:
    assert {example.values[0] for example in EXAMPLES} == set(READERS)


def test_nft_takes_the_lines_for_the_firewall() -> None:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft")
    (rules,) = re.findall(r"^```nft\n(.*?)^```", (DOCS / "security.md").read_text(), re.M | re.S)
    done = subprocess.run(["nft", "--check", "--file", "-"], input=rules, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
@pytest.mark.parametrize("name", ["hast1.freebsd.loc", "hast2.freebsd.loc"])
def test_an_example_of_the_manual_is_accepted(language: str, text: str, name: str) -> None:
    assert READERS[language](text, Host(name))


@pytest.mark.parametrize("language", sorted(READERS))
@pytest.mark.parametrize("name", ["hast1", "hast2"])
def test_an_example_file_is_accepted(language: str, name: str) -> None:
    assert READERS[language]((DOCS / "examples" / language).read_text(), Host(name))
