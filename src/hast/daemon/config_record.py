"""Tells hastctl where the control socket is without parsing hast.conf: hastd notes which file it has read and what of.

A record counts only while the configuration file is, to the nanosecond, the one hastd parsed without error.
"""

from __future__ import annotations

import contextlib
import json
import os

from hast.daemon import paths


def _identity(config_path: str) -> list[int]:
    found = os.stat(config_path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _record_path(config_path: str) -> str:
    return str(paths.resource_file(os.path.abspath(config_path), "control"))


def write(config_path: str, control: str) -> None:
    """Note the control address that this configuration gives. Does nothing without a writable run directory."""
    with contextlib.suppress(OSError):
        record = json.dumps({"identity": _identity(config_path), "control": control})
        path = _record_path(config_path)
        with open(f"{path}.new", "w", encoding="utf-8") as new:
            new.write(record)
        os.replace(f"{path}.new", path)


def remove(config_path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(_record_path(config_path))


def read(config_path: str) -> str | None:
    """The control address noted for exactly this file, else None."""
    try:
        path = _record_path(config_path)
        if os.stat(path).st_uid not in (0, os.geteuid()):
            return None
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        return str(record["control"]) if record["identity"] == _identity(config_path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
