"""Lays out what an installation needs beside the Python package: units, manual pages, completions, examples.

    python3 packaging/assemble.py DIRECTORY

setup.py puts the result into the wheel as hast/share, where hast-setup(8) finds it; the Debian package takes it from
there. Needs markdown-it-py and click.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "packaging"), str(ROOT / "src")]

import manual  # noqa: E402

from hast.cli import completion  # noqa: E402

_COMPLETION_NAMES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}


def version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def manual_pages(into: Path) -> list[Path]:
    """man5/hast.conf.5 and so on below `into`."""
    made = []
    for source in manual.pages(ROOT / "docs"):
        page = into / f"man{source.suffixes[-2][1:]}" / source.stem
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(manual.render(source, version()), encoding="utf-8")
        made.append(page)
    return made


def completions(into: Path) -> None:
    for shell, form in _COMPLETION_NAMES.items():
        (into / shell).mkdir(parents=True, exist_ok=True)
        for command in completion.COMMANDS:
            (into / shell / form.format(command)).write_text(completion.script(shell, command), encoding="utf-8")


def assemble(into: Path) -> None:
    """Everything, into a directory that is made anew."""
    shutil.rmtree(into, ignore_errors=True)
    for name in ("systemd", "tmpfiles.d", "sysusers.d", "prometheus", "grafana"):
        shutil.copytree(ROOT / "packaging" / name, into / name)
    shutil.copytree(ROOT / "docs" / "examples", into / "examples")
    manual_pages(into / "man")
    completions(into / "completions")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    assemble(Path(sys.argv[1]))
