"""`hastctl wipe`: says what is on a provider, asks, removes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hast.cli import output
from hast.cli.session import Failure, Session, say_error
from hast.worker.disk.provider_open import ProviderError
from hast.worker.disk.wipe import Found, opened, wipe

if TYPE_CHECKING:
    from hast.config.model import Configuration

EX_DATAERR = 65
EX_NOINPUT = 66
REFUSED = 1


def run(session: Session, targets: Sequence[str], yes: bool, used: Mapping[str, str], plan: bool = False) -> int:
    """Wipe each target, a path when it holds a slash, else a resource's name. `used`: paths in use, and why.

    `plan`: say what would be done, and do nothing.

    Returns the exit code: the first failure's, 1 where the answer was no.
    """
    exit_code = 0
    for target in targets:
        try:
            path = target if "/" in target else _local(session.configuration(), target)
            reason = {os.path.realpath(each): why for each, why in used.items()}.get(os.path.realpath(path))
            if reason:
                raise ProviderError(reason, EX_NOINPUT)
            with opened(path) as found:
                done = _one(found, yes, plan)
            exit_code = exit_code or (0 if done else REFUSED)
        except (ProviderError, Failure) as error:
            say_error(str(error))
            exit_code = exit_code or error.exit_code
    return exit_code


def _local(configuration: Configuration, name: str) -> str:
    if name not in configuration.resources:
        raise ProviderError(f"Unknown resource {name}.", EX_DATAERR)
    return configuration.resources[name].local


def _one(found: Found, yes: bool, plan: bool) -> bool:
    offset = found.metadata.offset_bytes
    lines = [f"{found.path}:", *(f"  {line}" for line in output.dump_block(found.metadata))]
    if found.marked_extents:
        lines.append(f"      marked: {found.marked_extents} extents that the other node may lack")
    print("\n".join(lines), flush=True)
    if plan:
        print(f"  1. overwrite metadata and map, the first {offset} bytes, with zeros; the data stays where it is")
        return True
    question = f"Remove metadata and map? The data stays where it is, from byte {offset} on."
    if not yes and not click.confirm(question):
        say_error(f"Nothing wiped on {found.path}.")
        return False
    wipe(found)
    print(f"{found.path}: wiped; the data begins at byte {offset}.")
    return True
