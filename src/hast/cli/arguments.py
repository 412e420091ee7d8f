"""The command line of our argparse programs: `--version`, and a mistake is one line, the usage, and exit code 64."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from hast.cli.version import add_version

EX_USAGE = 64


class Parser(argparse.ArgumentParser):
    """One that words a mistake as `PROGRAM: what is wrong`, also for a mistake in a sub-command of the program."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog.split()[0]}: {message}\n{self.format_usage().strip()}", file=sys.stderr)
        raise SystemExit(EX_USAGE)


def make_parser(program: str, description: str) -> Parser:
    """With `--version` already in it."""
    parser = Parser(prog=program, description=description)
    add_version(parser)
    return parser
