"""The commands of hastctl that look at both nodes: wait, explain, top."""

from __future__ import annotations

import click

from hast.cli.group import EX_USAGE, command
from hast.cli.session import Failure

WAIT_S = 600.0


def _conditions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from hast.cli.group import resource_names
    from hast.watch.waiting import CONDITIONS

    fitting = [word for word in CONDITIONS if word.startswith(incomplete)]
    return [*fitting, *resource_names(context, _parameter, incomplete)]


@command
@click.argument("words", metavar="CONDITION ... [all|NAME ...]", nargs=-1, required=True, shell_complete=_conditions)
@click.option(
    "--timeout", "timeout_s", default=WAIT_S, show_default=True, type=click.FloatRange(min=0), help="Seconds."
)
def wait(context: click.Context, words: tuple[str, ...], timeout_s: float) -> None:
    """Return when all NAMES are synced, connected, or role=ROLE; several conditions have to hold at once."""
    from hast.cli import look

    look.wait(words, timeout_s)


def _codes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from hast.watch.catalogue import CATALOGUE

    return [code for code in CATALOGUE if code.startswith(incomplete)]


@command
@click.argument("code", required=False, shell_complete=_codes)
def explain(context: click.Context, code: str | None) -> None:
    """Say what a problem means and what to do about it; without CODE, list all. hastd is not needed."""
    from hast.cli import explain as words

    if code is None:
        print("\n".join(words.list_lines()))
        return
    found = words.lines(code)
    if found is None:
        raise Failure(words.complaint(code), EX_USAGE)
    print("\n".join(found))


@command
@click.option("--once", is_flag=True, help="Print one frame and end, as in a pipe and on a dumb terminal.")
def top(context: click.Context, once: bool) -> None:
    """Show both nodes live: roles, addresses, pools, rates, latencies, problems; keys for a few safe actions."""
    from hast.cli import top as live

    live.run(context.ensure_object(dict).get("config"), once)
