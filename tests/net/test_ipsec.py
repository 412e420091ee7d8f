"""What the kernel's IPsec policies say of the way to an address."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address

import pytest

from hast.net.ipsec import is_required

HERE, THERE, ELSEWHERE = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))
REQUIRED = """\
src 10.0.0.1/32 dst 10.0.0.2/32
	dir out priority 100 ptype main
	tmpl src 10.0.0.1 dst 10.0.0.2
		proto esp reqid 0 mode transport
"""
OPTIONAL = REQUIRED.replace("mode transport", "mode transport\n\t\tlevel use")
ONLY_SIGNED = REQUIRED.replace("proto esp", "proto ah")
NETWORKS = REQUIRED.replace("10.0.0.1/32", "0.0.0.0/0").replace("10.0.0.2/32", "10.0.0.0/24")
BYPASS = """\
src 0.0.0.0/0 dst 10.0.0.2/32 proto tcp dport 8457
	dir out priority 7 ptype main
"""
NAMESPACE = """
import subprocess, sys
from hast.net.ipsec import is_used_to
from ipaddress import ip_address
def ip(words): return subprocess.run(["ip", *words.split()]).returncode
ip("link set lo up"); ip("addr add 10.0.0.1/24 dev lo")
print(is_used_to(ip_address("10.0.0.2")))
template = "tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode transport"
if ip(f"xfrm policy add src 10.0.0.1/32 dst 10.0.0.2/32 dir out {template}"):
    sys.exit(7)
print(is_used_to(ip_address("10.0.0.2")), is_used_to(ip_address("10.0.0.3")))
"""


@pytest.mark.parametrize(
    ("policies", "required"),
    [
        ("", False),
        (REQUIRED, True),
        (NETWORKS, True),
        (OPTIONAL, False),
        (ONLY_SIGNED, False),
        (REQUIRED.replace("dst 10.0.0.2/32", "dst 10.0.0.2/32 proto udp"), False),
        (REQUIRED.replace("dst 10.0.0.2/32", "dst 10.0.0.2/32 proto tcp"), True),
        (REQUIRED.replace("dst 10.0.0.2/32", "dst 10.0.0.2/32 proto tcp dport 8457"), False),
        (BYPASS + REQUIRED, False),
        (REQUIRED + BYPASS.replace("priority 7", "priority 700"), True),
        (BYPASS.replace("priority 7", "action block priority 7") + REQUIRED, True),
        ("rubbish\nsrc x dst y\n\tdir out\n", False),
    ],
)
def test_an_address_counts_as_encrypted_where_no_tcp_to_it_leaves_in_clear(policies: str, required: bool) -> None:
    assert is_required(policies, HERE, THERE) is required


def test_a_policy_for_another_address_says_nothing() -> None:
    assert not is_required(REQUIRED, HERE, ELSEWHERE)
    assert not is_required(REQUIRED, ELSEWHERE, THERE)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network namespace")
def test_the_kernels_own_policies_are_read() -> None:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", NAMESPACE], capture_output=True, text=True, timeout=30
    )
    if done.returncode == 7:
        pytest.skip(f"the kernel has no IPsec: {done.stderr.strip()}")
    assert done.stdout.split() == ["False", "True", "False"], done.stderr
