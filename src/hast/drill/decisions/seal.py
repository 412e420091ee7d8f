"""The proof that a generated configuration knows nothing of this machine: read back by the parsers of the daemons,
then every path, every address and every word that looks like one is held against the ground. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from hast.config import carpconf, devdconf, failoverconf, hastconf
from hast.config.host import Host
from hast.drill.decisions import ground

_PATH = re.compile(r"(?<![\w.:/])/{1,2}[A-Za-z0-9._][^\s\"';{}]*")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,}(?![\w:])")
PARSERS = ("hast.conf", "carp.conf", "devd.conf", "failover.conf")


class SealError(AssertionError):
    """A generated configuration names something outside of the lab. The drill does not start."""


def check(files: Mapping[str, Mapping[str, str]]) -> None:
    """Raises SealError naming what leaks, ConfigError where the daemons would not take the text."""
    for host, texts in files.items():
        if set(texts) != set(PARSERS):
            raise SealError(f"{host} has files that nobody checks: {', '.join(sorted(texts))}")
        leaks = [f"{name}: {leak}" for name, text in texts.items() for leak in _leaks(text)]
        leaks += [f"hast.conf: the disk {path}" for path in _disks(texts["hast.conf"], host)]
        if leaks:
            raise SealError(f"{host}: outside of the lab: {'; '.join(leaks)}")
        carpconf.parse(texts["carp.conf"], "carp.conf", Host(host))
        devdconf.parse(texts["devd.conf"], "devd.conf")
        failoverconf.parse(texts["failover.conf"], "failover.conf")


def _disks(text: str, host: str) -> Iterator[str]:
    configuration = hastconf.parse(text, "hast.conf", Host(host))
    for resource in configuration.resources.values():
        paths = (resource.local, resource.exec_path, resource.fence_path, resource.arbiter.credentials)
        yield from (path for path in paths if path and not ground.is_ours(path))


def _leaks(text: str) -> Iterable[str]:
    bare = re.sub(r"\b(?:tcp4|http)://", " ", text)
    yield from (path for path in _PATH.findall(bare) if not ground.is_ours(path))
    for found in (*_IPV4.findall(bare), *_IPV6.findall(bare)):
        try:
            ip_address(found)
        except ValueError:
            continue
        if not ground.is_lab_address(found):
            yield found
