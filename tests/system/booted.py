"""Debian systems booted with systemd in containers of the test's own, on roots that are kept between runs.

A root is made once with debootstrap below $XDG_CACHE_HOME/hast (as root else /var/cache/hast). Each system runs on an
overlay in memory, with a network of its own, and leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hast.lab.processes import bound

CONTROL = Path(__file__).resolve().parents[2] / "debian/control"
BESIDE = (
    "python3-click",
    "python3-lark",
    "python3-venv",
    "man-db",
    "dbus",
    "curl",
    "openssh-server",
    "python3-apt",
)
"""What debhelper adds to that file's dependencies, and what tests use inside."""
ARCHIVES = {"bookworm": ("zfs-fuse",)}
"""What stories install with apt: downloaded, not installed, so that the root stays bare."""
MIRROR = "http://deb.debian.org/debian"
MAKE_ROOT_S = 1500
BOOT_S = 120
COMMAND_S = 180
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "root-is-made"


def dependencies() -> tuple[str, ...]:
    """What our packages ask for or recommend, put into the root beforehand: the booted system has no network."""
    fields = re.findall(r"^(?:Depends|Recommends):((?:.*\n)(?: .*\n)*)", CONTROL.read_text(), re.M)
    names = {each.split()[0] for field in fields for each in field.split(",") if each.strip()}
    return tuple(sorted(name for name in names if not name.startswith("$") and "hast" not in name))


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("/var/cache")) / "hast"


def missing() -> str:
    """Why no system can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [name for name in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(name) is None]
    return f"needs {', '.join(tools)}" if tools else ""


def root(suite: str) -> Path:
    """The root of a release, made when it is not there."""
    made = cache() / suite
    archives = ARCHIVES.get(suite, ())
    installed = (*dependencies(), *BESIDE)
    mark = "\n".join((*installed, *archives))
    record = cache() / f"{suite}.{MARK}"
    if record.is_file() and record.read_text() == mark:
        return made
    cache().mkdir(parents=True, exist_ok=True)
    if not (made / "usr/bin/apt-get").exists():
        subprocess.run(["debootstrap", suite, str(made), MIRROR], check=True, timeout=MAKE_ROOT_S, capture_output=True)
    for file in Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copy(file, made / "etc/apt/apt.conf.d")
    _inside(made, f"apt-get -q update && apt-get -q -y --no-install-recommends install {' '.join(installed)}")
    if archives:
        _inside(made, f"apt-get -q -y --download-only install {' '.join(archives)}")
    (made / "etc/hostname").unlink(missing_ok=True)  # the container's name counts
    record.write_text(mark)
    return made


def packages(suite: str, tree: Path, into: Path) -> Path:
    """`make deb` on a release of its own, in a root of its own (not the bare one); the packages come to `into`."""
    building = cache() / f"{suite}-build"
    with _alone(suite):
        if not (building / "usr/bin/make").exists():
            shutil.rmtree(building, ignore_errors=True)
            subprocess.run(["cp", "-a", str(root(suite)), str(building)], check=True, timeout=300)
            _inside(building, "apt-get -q -y --no-install-recommends install make")
        copy = building / "tree"
        shutil.rmtree(copy, ignore_errors=True)
        ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
        shutil.copytree(tree, copy, ignore=ignored)
        _inside(building, "cd /tree && make deb")
        shutil.copytree(copy / "dist", into, dirs_exist_ok=True)
    return into


@contextmanager
def _alone(suite: str) -> Iterator[None]:
    """Another run on this machine waits meanwhile."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{suite}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _inside(made: Path, command: str) -> None:
    environment = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    enter = ["chroot", str(made), "sh", "-c", command]
    done = subprocess.run(enter, timeout=MAKE_ROOT_S, capture_output=True, env=environment, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{made.name}# {command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class System:
    """One booted system. Use as a context manager.

    Without `directory` it runs on the bare root of `suite` under an overlay that ends with it, and has a network of its
    own. `directory` is a root that may be booted again; `network` a process whose network namespace it gets.
    """

    def __init__(
        self, suite: str, name: str, binds: Sequence[str] = (), directory: Path | None = None, network: int = 0
    ) -> None:
        self.name = name
        self.suite = suite
        options = ["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]
        options += [f"--machine={name}", f"--hostname={name}", f"--directory={directory or root(suite)}"]
        options += [] if directory else ["--volatile=overlay"]
        options += (
            [f"--network-namespace-path=/proc/{network}/ns/net", "--capability=CAP_NET_ADMIN"]
            if network
            else ["--private-network"]
        )
        options += [f"--bind={path}" for path in ("/dev/fuse", "/dev/loop-control", *binds)]
        null = subprocess.DEVNULL
        command = [*bound("TERM"), "systemd-nspawn", *options]
        self._container = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)

    def __enter__(self) -> System:
        try:
            self.wait_booted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._container.terminate()
        try:
            self._container.wait(60)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait(10)

    @property
    def ended(self) -> bool:
        return self._container.poll() is not None

    def cut(self) -> None:
        """A power cut: process 1 is killed, and with it everything inside."""
        if leader := self.leader():
            os.kill(leader, signal.SIGKILL)
        self.wait_ended(30)

    def wait_ended(self, timeout_s: float) -> None:
        """Wait until the system is off. Raises TimeoutExpired."""
        self._container.wait(timeout_s)

    def leader(self) -> int:
        """The container's process 1 as this host numbers it; 0 while there is none."""
        try:
            children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children").read_text().split()
            for child in children:
                status = Path(f"/proc/{child}/status").read_text()
                if any(line.split()[-1] == "1" for line in status.splitlines() if line.startswith("NSpid:")):
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return 0

    def wait_booted(self) -> None:
        """Raises RuntimeError when it ended, TimeoutError."""
        deadline = time.monotonic() + BOOT_S
        state = "not there"
        while time.monotonic() < deadline:
            if self._container.poll() is not None:
                raise RuntimeError(f"{self.name}: systemd-nspawn ended with {self._container.returncode}")
            if self.leader():
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.5)
        raise TimeoutError(f"{self.name} did not boot in {BOOT_S} s: {state}")

    def run(self, command: str, check: bool = True, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """A shell command inside, ended after `timeout_s`. With `check` a failure raises, with what was printed."""
        enter = ["nsenter", "--all", f"--target={self.leader()}", "env", "-i", f"PATH={PATH}"]
        enter += ["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "HOME=/root", "timeout", f"{timeout_s:g}"]
        done = subprocess.run(
            [*enter, "sh", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s + 20,
            check=False,
            errors="replace",
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}# {command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def tell(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run(f"cat >{path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE")
