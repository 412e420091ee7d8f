"""Our commands, started by another program of ours with the interpreter that runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from hast.cli.session import Session

MODULES = {"hastctl": "hast.cli.hastctl", "carpctl": "hast.cli.carpctl", "failover": "hast.cli.failover"}


def command(words: Sequence[str], more: Mapping[str, Sequence[str]]) -> list[str]:
    """From a command line as an operator would type it to one that needs no PATH. `more`: options of each program."""
    return [sys.executable, "-P", "-m", MODULES[words[0]], *words[1:], *more.get(words[0], ())]


def of_this_hastd(config: str | None) -> dict[str, list[str]]:
    """What a program is told besides, when another hast.conf than the usual one was named. Raises Failure."""
    if config is None:
        return {}
    return {"hastctl": ["-c", config], "failover": ["--hastd", Session(config).configuration().control]}
