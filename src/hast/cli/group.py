"""The group of hastctl's commands, and what they have in common: options, names of resources, the session.

A module with commands imports `command` and decorates functions with it; hastctl.py imports those modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hast.cli.session import Failure, Session

DEFAULT_CONFIG = "/etc/hast.conf"
EX_USAGE = 64


def _remember_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(dict)["config"] = value


def _count_debug(context: click.Context, _parameter: click.Parameter, value: int) -> None:
    found = context.ensure_object(dict)
    found["debug"] = found.get("debug", 0) + value


def _help(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(context.get_help(), err=True)
        context.exit(EX_USAGE)


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from hast.cli import version

        print(version.line("hastctl"))
        context.exit(0)


def resource_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion; nothing when the configuration cannot be read."""
    try:
        names = list(session_of(context).configuration().resources)
    except Failure:
        return []
    return [name for name in (*names, "all") if name.startswith(incomplete)]


def providers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    return [name for name in resource_names(context, parameter, incomplete) if name != "all"]


NAMES = click.argument("names", nargs=-1, shell_complete=resource_names)
REQUIRED_NAMES = click.argument("names", nargs=-1, required=True, shell_complete=resource_names)


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """-c, -d and -h, which every command and hastctl itself take."""
    for option in (
        click.option("-c", "config", metavar="CONFIG", expose_value=False, callback=_remember_config, help="hast.conf"),
        click.option("-d", "debug", count=True, expose_value=False, callback=_count_debug, help="Show the dialogue."),
        click.option("-h", "--help", is_flag=True, expose_value=False, is_eager=True, callback=_help, help="Usage."),
    ):
        function = option(function)
    return function


def session_of(context: click.Context) -> Session:
    options = context.ensure_object(dict)
    return Session(options.get("config") or DEFAULT_CONFIG, options.get("debug", 0))


@click.group(add_help_option=False, context_settings={"max_content_width": 100})
@_common
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="The version.")
def cli() -> None:
    """Control HAST resources of this node through hastd."""


def command(function: Callable[..., Any]) -> click.Command:
    name = function.__name__.rstrip("_").replace("_", "-")
    return cli.command(name, add_help_option=False)(click.pass_context(_common(function)))
