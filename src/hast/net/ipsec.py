"""Whether this host sends what goes to an address through IPsec, by the policies of its kernel.

Whether keys are there is not asked: without them the kernel sends nothing, where the policy requires it.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

LIST_POLICIES = ("ip", "xfrm", "policy", "list", "dir", "out")
ANSWER_LIMIT_S = 5.0
_SELECTOR = re.compile(r"src (\S+) dst (\S+) ?(.*)")
_ANY_PORT = 9
"""To find the source address with; nothing is sent."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _Policy:
    source: str
    destination: str
    only: Mapping[str, str]
    """What else it asks for: `proto`, `dport`, `dev` ..."""
    says: str
    """All else."""

    def covers(self, source: Address, destination: Address) -> bool:
        """Whether it is for all TCP between the two."""
        ends = ((self.source, source), (self.destination, destination))
        return self.only.get("proto", "tcp") == "tcp" and len(self.only) <= ("proto" in self.only) and _within(ends)

    def may_touch(self, source: Address, destination: Address) -> bool:
        """Whether it is for some of it, at least."""
        ends = ((self.source, source), (self.destination, destination))
        return self.only.get("proto", "tcp") == "tcp" and _within(ends)

    @property
    def priority(self) -> int:
        found = re.search(r"\bpriority (\d+)", self.says)
        return int(found[1]) if found else 0

    @property
    def encrypts(self) -> bool:
        blocks = "action block" in self.says
        return blocks or (re.search(r"\bproto esp\b", self.says) is not None and "level use" not in self.says)


def is_required(policies: str, source: Address, destination: Address) -> bool:
    """By what `ip xfrm policy` printed: no TCP between the two leaves this host in clear. The policy that comes first
    decides; those for some ports only have to ask for no less."""
    touching = [each for each in _read(policies) if each.may_touch(source, destination)]
    whole = [each.priority for each in touching if each.covers(source, destination)]
    if not whole:
        return False
    return all(each.encrypts for each in touching if each.priority <= min(whole))


def is_used_to(address: Address) -> bool:
    """Asks the kernel, through ip(8), which needs root for it. False where it does not say."""
    try:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((str(address), _ANY_PORT))
            source = ip_address(asking.getsockname()[0])
        done = subprocess.run(LIST_POLICIES, capture_output=True, text=True, timeout=ANSWER_LIMIT_S)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and is_required(done.stdout, source, address)


def _read(policies: str) -> Iterator[_Policy]:
    for block in re.split(r"\n(?=\S)", policies.strip()):
        head, _newline, says = block.partition("\n")
        if (found := _SELECTOR.match(head)) is None:
            continue
        words = found[3].split()
        yield _Policy(found[1], found[2], dict(zip(words[::2], words[1::2], strict=False)), says)


def _within(ends: tuple[tuple[str, Address], ...]) -> bool:
    try:
        return all(address in ip_network(network, strict=False) for network, address in ends)
    except ValueError:
        return False
