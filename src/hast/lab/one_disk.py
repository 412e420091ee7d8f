"""One replicated disk on two lab hosts: the smallest pair for scenarios of failure."""

from __future__ import annotations

import os
from pathlib import Path

from hast.lab.copies import data_digest
from hast.lab.host import Host
from hast.lab.laboratory import Lab

DISK = "/dev/ad1"
COMPLETE_TIMEOUT_S = 60.0
ROLE_TIMEOUT_S = 90.0


def configuration(*lines: str) -> str:
    """hast.conf with the resource disk1; `lines` are further statements of it."""
    extra = "".join(f"\t{line}\n" for line in lines)
    nodes = "".join(
        f"\ton {name} {{\n\t\tlocal {DISK}\n\t\tremote {peer}\n\t}}\n"
        for name, peer in (("hast1", "hast2"), ("hast2", "hast1"))
    )
    return f"resource disk1 {{\n{extra}{nodes}}}\n"


def start(host: Host, role: str) -> None:
    """Start hastd and take a role. Raises LabError."""
    host.run("hastd", check=True)
    set_role(host, role)


def set_role(host: Host, role: str) -> None:
    """Change the role. Raises LabError."""
    host.run(["hastctl", "role", role, "disk1"], check=True, timeout_s=ROLE_TIMEOUT_S)


def bring_up(lab: Lab) -> None:
    """Create disk1 on both, primary on hast1; returns when it is complete. Raises LabError."""
    for host in (lab.hast2, lab.hast1):
        host.run("hastctl create disk1", check=True)
        start(host, "primary" if host is lab.hast1 else "secondary")
    wait_complete(lab.hast1)


def status(host: Host) -> str:
    """Output of hastctl status. Raises LabError."""
    return host.run("hastctl status disk1", check=True).stdout


def wait_complete(primary: Host, timeout_s: float = COMPLETE_TIMEOUT_S) -> float:
    """Wait until the primary says complete and nothing is dirty; returns the seconds it took. Raises LabError."""

    def complete() -> bool:
        text = status(primary)
        return "status: complete" in text and "dirty: 0 (0B)" in text

    return primary.wait_for("complete and clean", complete, timeout_s)


def digests(lab: Lab) -> list[str]:
    """Give up all roles; the digests of the two data areas. Raises LabError."""
    pair = (lab.hast1, lab.hast2)
    for host in pair:
        set_role(host, "init")
    return [data_digest(host, "disk1", DISK) for host in pair]


def device(host: Host) -> Path:
    """/dev/hast/disk1 of a host as a path for use from outside; a link is resolved as the host sees it."""
    path = host.path("/dev/hast/disk1")
    if not path.is_symlink():
        return path
    target = Path("/dev/hast", os.readlink(path))
    return host.path(str(target))


def trust(lab: Lab) -> None:
    """As an administrator does: a key on each, both fingerprints into the file of both. hastd is not told."""
    lines = ["tls required"]
    for name, host in (("hast1", lab.hast1), ("hast2", lab.hast2)):
        host.run("hastctl keygen", check=True)
        fingerprint = host.run("hastctl keygen --show", check=True).stdout.split()[0]
        lines.append(f"on {name} {{ fingerprint {fingerprint} }}")
    for host in (lab.hast1, lab.hast2):
        path = host.path("/etc/hast.conf")
        path.write_text("\n".join([*lines, path.read_text()]))
