"""Where hastd keeps its run-time files and its devices. Computes names; creates nothing but the directories asked for.

The environment variables HAST_RUN, HAST_DEV and HAST_STATE move the directories, for tests and users without root.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

RUN_VARIABLE = "HAST_RUN"
DEVICE_VARIABLE = "HAST_DEV"
STATE_VARIABLE = "HAST_STATE"
MAX_SOCKET_PATH_BYTES = 107
_MAX_STEM_BYTES = 60


def run_directory() -> Path:
    """Directory of sockets, mounts and pid records: $HAST_RUN, else /run/hast."""
    return Path(os.environ.get(RUN_VARIABLE) or "/run/hast")


def state_directory() -> Path:
    """Directory of what has to outlive a restart of the host: $HAST_STATE, else /var/lib/hast."""
    return Path(os.environ.get(STATE_VARIABLE) or "/var/lib/hast")


def make_state_directory() -> Path:
    """Create the state directory, for the owner alone. Raises OSError."""
    directory = state_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def device_directory() -> Path:
    """Directory of the devices of primaries: $HAST_DEV, else /dev/hast."""
    return Path(os.environ.get(DEVICE_VARIABLE) or "/dev/hast")


def device_path(provider_name: str) -> Path:
    """/dev/hast/NAME. A name may hold slashes but never leaves the directory."""
    parts = [part for part in provider_name.split("/") if part not in ("", ".", "..")]
    return device_directory().joinpath(*parts) if parts else device_directory() / "_"


def file_stem(name: str) -> str:
    """A resource name as one short file name: special characters escaped, long names cut and made unique."""
    stem = quote(name, safe="").replace("~", "%7E")
    if stem.startswith("."):
        stem = "%2E" + stem[1:]
    if len(stem) > _MAX_STEM_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        stem = f"{stem[: _MAX_STEM_BYTES - 17]}~{digest}"
    return stem


def resource_file(name: str, suffix: str) -> Path:
    """Path in the run directory that belongs to resource `name`, such as `disk1.nbd`."""
    return run_directory() / f"{file_stem(name)}.{suffix}"


def worker_file(name: str, suffix: str) -> Path:
    """The same in the directory that is the workers' own."""
    return run_directory() / "worker" / f"{file_stem(name)}.{suffix}"


def nbd_socket(name: str) -> Path:
    """Unix socket on which the worker of a primary serves NBD."""
    return resource_file(name, "nbd")


def carpd_socket() -> Path:
    """Control socket of carpd, where carp.conf names no other."""
    return run_directory() / "carpd.sock"


def observe_socket() -> Path:
    """Socket of hastd that answers questions only."""
    return run_directory() / "observe.sock"


def order_socket() -> Path:
    """Socket of hast-order, there while orders from the page are wanted."""
    return run_directory() / "order.sock"


def failover_record() -> Path:
    """What the last run of failover(8) did, written by that program."""
    return run_directory() / "failover.state"


def parts_record() -> Path:
    """What hast-devd(8) last found of pools, services and exports."""
    return run_directory() / "failover.parts"


def make_run_directory() -> Path:
    """Create the run directory, readable by all, writable by the owner. Raises OSError."""
    directory = run_directory()
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory
