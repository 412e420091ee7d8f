"""The file system of a lab host: a small root of its own over the machine's programs.

Runs inside the host's new mount namespace, before anything else does. What a host may write to (`/`, /dev, /etc, /run,
/var) is its own; programs, /home and /tmp are the machine's. A sealed host has a /tmp of its own, cannot write to what
is the machine's, and has no node of the machine's disks.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MS_REMOUNT = 32
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

OWN = frozenset({"dev", "etc", "proc", "run", "sys", "var", "lost+found"})
"""Top-level directories that are not the machine's own."""
NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
MAX_LOOP_LINKS = 1024
HIDDEN = frozenset({"boot", "home", "media", "mnt", "root", "srv", "tmp"})
"""What a sealed host has instead, empty."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    result = _libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: str | Path, flags: int = MNT_DETACH) -> None:
    """umount2(2). Raises OSError naming the target."""
    if _libc.umount2(str(target).encode(), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def pivot_root(new: Path, old: Path) -> None:
    """pivot_root(2). Raises OSError."""
    number = SYS_PIVOT_ROOT[os.uname().machine]
    if _libc.syscall(number, str(new).encode(), str(old).encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(new))


def build_root(
    state: Path,
    etc: Mapping[str, str],
    disks: Mapping[str, int],
    visible: Iterable[str],
    mount_point: Path,
    sealed: bool = False,
) -> None:
    """Make the host's root at `mount_point` and move into it.

    `state` is the host's directory that outlives a power cut (holds etc/ and var/); `etc` are files for /etc, written
    only where absent; `disks` are names under /dev with their device numbers; `visible` are paths of the machine that
    must be there even where they lie in a directory that is the host's own.
    """
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("hast-lab", mount_point, "tmpfs", 0, "mode=755,size=64m")
    _machine_directories(mount_point, sealed)
    _own_etc(mount_point, state / "etc", etc, sealed)
    _own_var(mount_point, state / "var")
    for name, options in (("run", "mode=755,size=64m"), ("dev", "mode=755,size=1m"), ("proc", ""), ("sys", "")):
        (mount_point / name).mkdir()
        kind = {"proc": "proc", "sys": "sysfs"}.get(name, "tmpfs")
        mount("hast-lab", mount_point / name, kind, MS_NOSUID, options)
    _own_dev(mount_point / "dev", disks, sealed)
    for directory in ("run/lock", "run/zfs", "run/hast"):
        (mount_point / directory).mkdir(parents=True)
    _fuse_control(mount_point)
    for path in visible:
        _show(mount_point, Path(path), sealed)
    _move_into(mount_point)


def _bind(source: str, target: Path, sealed: bool, recursive: bool = False) -> None:
    """Show a directory of the machine; sealed, it cannot be written to, whatever is mounted below is not there."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive and not sealed else 0))
    if sealed:
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV)


def _machine_directories(root: Path, sealed: bool) -> None:
    for entry in Path("/").iterdir():
        target = root / entry.name
        if entry.name in OWN or entry == root:
            continue
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry))
        elif entry.is_dir():
            target.mkdir()
            if sealed and entry.name in HIDDEN:
                target.chmod(entry.stat().st_mode)
            else:
                _bind(str(entry), target, sealed)


def _own_etc(root: Path, own: Path, files: Mapping[str, str], sealed: bool) -> None:
    """/etc is the host's own directory: links to the machine's files, except those in `files`."""
    own.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(content, encoding="latin-1")
    for entry in Path("/etc").iterdir():
        link = own / entry.name
        if not link.exists() and not link.is_symlink() and entry.name != "mtab":
            link.symlink_to(f"/machine/etc/{entry.name}")
    (root / "machine/etc").mkdir(parents=True)
    _bind("/etc", root / "machine/etc", sealed)
    (root / "etc").mkdir()
    mount(str(own), root / "etc", "", MS_BIND)


def _own_var(root: Path, own: Path) -> None:
    for name in ("log", "lib/hast", "lib/zfs", "tmp", "cache", "spool"):
        (own / name).mkdir(parents=True, exist_ok=True)
    for link, target in (("run", "/run"), ("lock", "/run/lock")):
        if not (own / link).is_symlink():
            (own / link).symlink_to(target)
    (root / "var").mkdir()
    mount(str(own), root / "var", "", MS_BIND)
    mount("hast-lab", root / "var/lib/zfs", "tmpfs", 0, "mode=755,size=8m")


def _own_dev(dev: Path, disks: Mapping[str, int], sealed: bool) -> None:
    """Nodes every program wants, the host's disks, and links to loop devices that dangle until those exist."""
    for name, (major, minor) in NODES.items():
        _node(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name in ("fuse", "loop-control", "net/tun", "kvm"):
        machine = Path("/dev") / name
        if machine.exists():
            (dev / name).parent.mkdir(exist_ok=True)
            _node(dev / name, stat.S_IFCHR | 0o600, machine.stat().st_rdev)
    for name, number in disks.items():
        _node(dev / name, stat.S_IFBLK | 0o660, number)
    for name in ("shm", "pts", "mapper"):
        (dev / name).mkdir()
    if not sealed:
        _machine_loops(dev)
    mount("hast-lab", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=256m")
    mount("devpts", dev / "pts", "devpts", MS_NOSUID, "newinstance,ptmxmode=0666,mode=600")
    (dev / "ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)


def _machine_loops(dev: Path) -> None:
    """A sealed host makes the nodes of its loop devices itself, as it attaches them."""
    (dev / ".machine").mkdir()
    mount("devtmpfs", dev / ".machine", "devtmpfs")
    for number in range(MAX_LOOP_LINKS):
        (dev / f"loop{number}").symlink_to(f".machine/loop{number}")
    for number in range(16):
        (dev / f"nbd{number}").symlink_to(f".machine/nbd{number}")


def _node(path: Path, mode: int, device: int) -> None:
    os.mknod(path, mode, device)
    path.chmod(stat.S_IMODE(mode))


def _fuse_control(root: Path) -> None:
    control = root / "sys/fs/fuse/connections"
    if control.is_dir():
        mount("fusectl", control, "fusectl")


def _show(root: Path, path: Path, sealed: bool) -> None:
    target = root / str(path).lstrip("/")
    if not path.exists() or target.exists():
        return
    if path.is_dir():
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _bind(str(path), target, sealed, recursive=True)


def _move_into(root: Path) -> None:
    old = root / ".old"
    old.mkdir()
    pivot_root(root, old)
    os.chdir("/")
    unmount("/.old")
    Path("/.old").rmdir()
