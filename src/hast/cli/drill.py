"""The command `hastctl drill`: reads its arguments; what a drill is lies in hast/drill."""

from __future__ import annotations

import math
from dataclasses import replace

import click

from hast.cli.group import DEFAULT_CONFIG, command, session_of
from hast.cli.session import Failure


@command
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1, 1000), help="Fail-overs of each kind.")
@click.option("--short", is_flag=True, help="Three single failures and no double ones.")
@click.option("--seeds", type=click.IntRange(0, 1_000_000), help="In the simulator; default 2000, or 90 s of them.")
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write one HTML page.")
@click.option("--node", metavar="NAME", help="Read the files as this node would, not as this machine.")
@click.option("--peer", metavar="FOLDER", type=click.Path(file_okay=False), help="The other node's four files.")
@click.option("--plan", is_flag=True, help="Say what would be rehearsed; do nothing.")
def drill(
    context: click.Context,
    rounds: int,
    short: bool,
    seeds: int | None,
    report: str | None,
    node: str | None,
    peer: str | None,
    plan: bool,
) -> None:
    """Rehearse this site's failures on two throw-away hosts in this machine; its disks and addresses stay untouched."""
    from hast.drill.drill import DrillError, Request, hold

    config = context.ensure_object(dict).get("config") or DEFAULT_CONFIG
    try:
        checked = () if node is not None else _checked(context)
        request = Request(config, node, peer, rounds, short, report=report, plan=plan, checked=checked)
        if seeds is not None:
            request = replace(request, seeds=seeds, simulate_limit_s=math.inf)
        context.exit(hold(request))
    except DrillError as error:
        raise Failure(f"hastctl: {error}", error.exit_code) from None


def _checked(context: click.Context) -> tuple[tuple[bool, str], ...]:
    """What `hastctl check` says beside the files themselves."""
    from hast.cli.check import export_findings, link_findings

    found = [*link_findings(session_of(context).configuration()), *export_findings()]
    return tuple((finding.is_error, finding.text) for finding in found)
