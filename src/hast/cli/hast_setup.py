"""hast-setup(8): puts units, manual pages, completions and commands of a wheel in place, and takes them away.

For systems without our package. Everything goes below /usr/local and is listed in a manifest there; nothing that is not
in the manifest is overwritten or removed. Configuration, state and disks are never touched.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hast.cli import completion
from hast.cli.arguments import EX_USAGE, make_parser

EX_UNAVAILABLE = 69
EX_CANTCREAT = 73
PREFIX = Path("usr/local")
MANIFEST = PREFIX / "share/hast/manifest"
PACKAGED_UNIT = Path("usr/lib/systemd/system/hastd.service")
PLACES = {
    "systemd": "lib/systemd/system",
    "tmpfiles.d": "lib/tmpfiles.d",
    "sysusers.d": "lib/sysusers.d",
    "man/man5": "share/man/man5",
    "man/man8": "share/man/man8",
    "completions/bash": "share/bash-completion/completions",
    "completions/zsh": "share/zsh/site-functions",
    "completions/fish": "share/fish/vendor_completions.d",
    "prometheus": "share/hast/prometheus",
    "grafana": "share/hast/grafana",
    "examples": "share/doc/hast/examples",
}
"""Folder of hast/share to folder below /usr/local."""
SYSTEMD_S = 30.0
"""Longest wait for one command of systemd."""
BACKOFF = "backoff.conf"
BACKOFF_SYSTEMD = 254
HIDDEN_FROM_UNITS = ("/home/", "/root/", "/tmp/", "/run/user/")
_PROGRAM = re.compile(r"(?<=[=\s])/usr/sbin/(?=(hast|carp))")


class SetupError(Exception):
    """Nothing was changed; `str()` is one line."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-setup", "Put units, manual pages and completions of this wheel in place.")
    parser.add_argument("verb", choices=("install", "remove", "list"))
    parser.add_argument("--root", default="/", help="of the system to change (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0; 64 usage; 69 in use or no wheel; 73 a file is in the way or not ours."""
    completion.answer("hast-setup", _parser)
    options = _parser().parse_args(argv)
    root = Path(options.root).absolute()
    try:
        match options.verb:
            case "install":
                install(root, _share(), Path(sys.prefix) / "bin")
            case "remove":
                remove(root)
            case _:
                print("\n".join(f"/{path}" for path in sorted(_manifest(root)[0])))
    except SetupError as error:
        print(f"hast-setup: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"hast-setup: {error.filename}: {error.strerror}", file=sys.stderr)
        return EX_CANTCREAT
    return 0


def _share() -> Path:
    share = Path(__file__).resolve().parent.parent / "share"
    if not share.is_dir():
        raise SetupError("this is no installed wheel: units and manual pages are not in it", EX_UNAVAILABLE)
    return share


def install(root: Path, share: Path, commands: Path) -> None:
    """Put everything in place, over what an earlier install put there. Raises SetupError, OSError."""
    if (root / PACKAGED_UNIT).exists():
        raise SetupError("the Debian package is installed; it brings all this", EX_CANTCREAT)
    if str(commands).startswith(HIDDEN_FROM_UNITS):
        raise SetupError(f"services cannot see {commands}: make the environment elsewhere, /opt/hast say", EX_USAGE)
    files = _files(share, commands, _systemd_version() >= BACKOFF_SYSTEMD)
    links = {PREFIX / "bin" / name: commands / name for name in completion.COMMANDS}
    old, made = _manifest(root)
    in_the_way = [path for path in (*files, *links) if path not in old and os.path.lexists(root / path)]
    if in_the_way:
        raise SetupError(f"/{in_the_way[0]} is there and not ours", EX_CANTCREAT)
    folders = {folder for path in (*files, *links, MANIFEST) for folder in path.parents}
    made |= {folder for folder in folders if not (root / folder).exists()}
    for folder in sorted(folders):
        (root / folder).mkdir(exist_ok=True)
    _write_manifest(root, {*files, *links, *old}, made)
    for path in old:
        (root / path).unlink(missing_ok=True)
    for path, data in files.items():
        (root / path).write_bytes(data)
    for path, target in links.items():
        (root / path).symlink_to(target)
    _write_manifest(root, {*files, *links}, made)
    _tell_systemd(root, ["systemd-sysusers"], ["systemd-tmpfiles", "--create"], ["systemctl", "daemon-reload"])
    if root == Path("/") and not _running_systemd():
        _add_users(share)


def _add_users(share: Path) -> None:
    """Those that services are to run as, where systemd does not make them. What fails is told; root does without."""
    text = "".join(path.read_text() for path in sorted((share / "sysusers.d").iterdir()))
    for name in (words[1] for words in map(str.split, text.splitlines()) if words and words[0] == "u"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
            if shutil.which(command[0]) is None or subprocess.run(command, check=False, timeout=SYSTEMD_S).returncode:
                print(f"hast-setup: there is no user {name}: what would be it runs as root", file=sys.stderr)


def _files(share: Path, commands: Path, backoff: bool) -> dict[Path, bytes]:
    """Contents by path below the root."""
    files: dict[Path, bytes] = {}
    for folder, place in PLACES.items():
        for source in sorted((share / folder).iterdir()):
            target = PREFIX / place / source.name
            if folder != "systemd":
                files[target] = source.read_bytes()
            elif source.name != BACKOFF:
                text = source.read_text()
                files[target] = _PROGRAM.sub(f"{commands}/", text).encode()
                if backoff and source.suffix == ".service":
                    files[target.with_name(f"{source.name}.d") / BACKOFF] = (share / folder / BACKOFF).read_bytes()
    return files


def remove(root: Path) -> None:
    """Take away what install put in place. Raises SetupError, OSError."""
    paths, made = _manifest(root)
    if not paths:
        raise SetupError("nothing is installed", EX_UNAVAILABLE)
    units = [path.name for path in sorted(paths) if path.suffix in (".service", ".socket", ".target")]
    if root == Path("/") and _running_systemd():
        for unit, state in zip(units, _ask_systemd("is-active", *units).split(), strict=False):
            if state not in ("inactive", "failed", "unknown"):
                raise SetupError(f"{unit} is {state}: systemctl stop {' '.join(units)} first", EX_UNAVAILABLE)
        _tell_systemd(root, ["systemctl", "--quiet", "disable", *units])
    for path in paths:
        (root / path).unlink(missing_ok=True)
    (root / MANIFEST).unlink()
    for folder in sorted(made, reverse=True):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()
    _tell_systemd(root, ["systemctl", "daemon-reload"])


def _manifest(root: Path) -> tuple[set[Path], set[Path]]:
    """Files that were installed and folders that were made for them, relative to the root."""
    try:
        lines = (root / MANIFEST).read_text().splitlines()
    except FileNotFoundError:
        return set(), set()
    folders = {Path(line) for line in lines if line.endswith("/")}
    return {Path(line) for line in lines} - folders, folders


def _write_manifest(root: Path, files: set[Path], folders: set[Path]) -> None:
    lines = [*(str(path) for path in files), *(f"{folder}/" for folder in folders)]
    (root / MANIFEST).write_text("".join(f"{line}\n" for line in sorted(lines)))


def _running_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _systemd_version() -> int:
    try:
        found = re.match(r"systemd (\d+)", _ask_systemd("--version"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _ask_systemd(*arguments: str) -> str:
    """What systemctl prints. Raises SetupError when it does not answer, OSError when there is none."""
    command = ["systemctl", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SYSTEMD_S).stdout
    except subprocess.TimeoutExpired:
        raise SetupError(f"systemctl {arguments[0]} does not answer within {SYSTEMD_S:g} s", EX_UNAVAILABLE) from None


def _tell_systemd(root: Path, *commands: list[str]) -> None:
    """What does not end in time is named, and left to be run by hand."""
    if root != Path("/") or not _running_systemd():
        return
    for command in commands:
        if shutil.which(command[0]):
            try:
                subprocess.run(command, check=False, timeout=SYSTEMD_S)
            except subprocess.TimeoutExpired:
                words = " ".join(command)
                print(f"hast-setup: no end within {SYSTEMD_S:g} s, run it again by hand: {words}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
