"""Completion in bash, zsh and fish for every command, answered by click's machinery.

A shell asks by running the command with a variable set, such as _HASTCTL_COMPLETE. hastctl is a click program; for the
others, which read their arguments with argparse, a click command of the same shape is made when the question comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import click

SHELLS = ("bash", "zsh", "fish")
COMMANDS = (
    "hastd",
    "hastctl",
    "carpd",
    "carpctl",
    "hast-devd",
    "hast-notify",
    "hast-witness",
    "hast-monitor",
    "hast-order",
    "failover",
    "hast-setup",
)


def variable(program: str) -> str:
    """The variable that click's scripts set: _HAST_DEVD_COMPLETE."""
    return f"_{program.replace('-', '_').upper()}_COMPLETE"


def answer(program: str, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Answer the shell and end the process, if it is a shell that asks."""
    instruction = os.environ.get(variable(program))
    if not instruction:
        return
    from click.shell_completion import shell_complete

    raise SystemExit(shell_complete(mirror(parser()), {}, program, variable(program), instruction))


def mirror(parser: argparse.ArgumentParser) -> click.Command:
    """A click command with the options, arguments and sub-commands of `parser`; it is never run."""
    import argparse

    import click

    parameters: list[click.Parameter] = []
    commands: dict[str, click.Command] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = {name: mirror(each) for name, each in action.choices.items()}
        elif action.option_strings:
            takes_value = action.nargs != 0
            kind = _type(action) if takes_value else None
            names = [*action.option_strings, action.dest]
            parameters.append(click.Option(names, is_flag=not takes_value, type=kind, help=action.help))
        else:
            parameters.append(click.Argument([action.dest], type=_type(action), required=False))
    if commands:
        return click.Group(parser.prog, commands, params=parameters, add_help_option=False)
    return click.Command(parser.prog, params=parameters, add_help_option=False)


def _type(action: argparse.Action) -> Any:
    import click

    if action.choices is not None:
        return click.Choice([str(each) for each in action.choices])
    return click.Path() if action.type is None else click.STRING


def script(shell: str, program: str) -> str:
    """What the shell has to read so that it asks `program`."""
    import click
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"click knows no shell {shell!r}")
    asking = found(click.Command(program), {}, program, variable(program))
    return (asking.source_template % asking.source_vars()).strip() + "\n"
