"""What lies on the disks of a lab host: where the data area begins, and whether two copies are the same."""

from __future__ import annotations

import re

from hast.lab.host import Host
from hast.lab.processes import LabError

READ_TIMEOUT_S = 120.0


def data_offset_bytes(host: Host, resource: str) -> int:
    """Where the data area begins on the local disk, from `hastctl dump`. Raises LabError."""
    dump = host.run(["hastctl", "dump", resource], check=True).stdout
    found = re.search(r"localoff: (\d+)", dump)
    if found is None:
        raise LabError(f"{host.name}: no localoff in the output of hastctl dump {resource}: {dump}")
    return int(found[1])


def data_digest(host: Host, resource: str, disk: str) -> str:
    """SHA-256 of the data area on the local disk. Nobody may be writing to it. Raises LabError."""
    offset = data_offset_bytes(host, resource)
    script = f"dd if={disk} bs=1M iflag=skip_bytes skip={offset} status=none | sha256sum"
    return host.run(["sh", "-c", script], timeout_s=READ_TIMEOUT_S, check=True).stdout.split()[0]
