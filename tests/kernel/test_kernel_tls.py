"""Links whose TLS records a true kernel makes, in a virtual machine.

Slow; `make test-kernel` runs it. What the machine says, the figures at its end included, is in
build/kernel-machine/inside_tls-*.log as it comes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import COUNTED, PROCESSORS, build_initramfs, run_machine, tool
from ready import CACHE, REPOSITORY, hastd_modules, kernel_or_skip

DRIVERS = ["ghash_generic", "ghash_clmulni_intel", "aesni_intel", "gcm", "chacha_x86_64", "poly1305_x86_64"]
DRIVERS += ["chacha20poly1305", "tls"]
"""With those that use a processor's instructions, as everybody's has them."""
SETTINGS = Path("/usr/lib/ssl/openssl.cnf")
MEMORY_MIB, DEADLINE_S = 2048, 1800

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]


def run_inside(parts: str, processors: Sequence[str] = PROCESSORS) -> str:
    """What a machine printed that went through these parts of inside_tls.py."""
    kernel = kernel_or_skip()
    here = Path(__file__).parent
    initramfs = build_initramfs(
        here / "inside_tls.py",
        [REPOSITORY / "src", REPOSITORY / "tests" / "support", Path(click.__file__).parents[1]],
        [*hastd_modules(), "inside_tls_session"],
        [tool("openssl"), tool("fio")],
        kernel.modules(*DRIVERS),
        [*sorted((REPOSITORY / "src" / "hast" / "config").glob("*.lark")), SETTINGS],
        f"PARTS='{parts}'",
    )
    said = CACHE / f"inside_tls-{parts.replace(' ', '-')}.log"
    output = run_machine(kernel.image, initramfs, said, DEADLINE_S, MEMORY_MIB, processors)
    print(output)
    return output


def test_the_kernel_makes_the_records_of_a_link_and_refuses_what_was_changed() -> None:
    output = run_inside(os.environ.get("PARTS") or "ciphers pair spent")
    assert "KERNEL TLS: ALL STEPS PASSED" in output, output


def test_what_each_way_of_encryption_costs_in_instructions() -> None:
    """Prints it; that all three ways carry the load is what can fail."""
    output = run_inside("figures", COUNTED)
    assert "KERNEL TLS: ALL STEPS PASSED" in output, output
