"""`--version` of every command: the version of the installed distribution."""

from __future__ import annotations

import argparse


def line(program: str) -> str:
    """`hastctl 0.1.0`, and `compiled` behind it where it is."""
    from importlib.metadata import PackageNotFoundError, version

    from hast.daemon.release import is_compiled

    try:
        return f"{program} {version('hast')}{' compiled' if is_compiled() else ''}"
    except PackageNotFoundError:
        return f"{program} (not installed)"


class ShowVersion(argparse.Action):
    """`parser.add_argument("--version", action=ShowVersion, nargs=0)`: prints the line and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        print(line(parser.prog))
        parser.exit(0)


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and end")
