"""A small virtual machine with a distribution kernel, for drivers that the running kernel lacks.

The kernel comes from kernels.py. The machine's whole system is an initramfs made of a static busybox, the interpreter
running this, exactly the modules the program inside imports, and a few tools. It has no disk and no network; what it
prints on its serial line is the result.
"""

from __future__ import annotations

import gzip
import json
import os
import py_compile
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from kernels import MachineError

TOOL_PACKAGES = ("qemu-system-x86", "busybox-static", "kmod")
TOOLS = ("qemu-system-x86_64", "busybox", "dpkg", "apt-get", "ldd", "depmod", "mkfs.ext4", "e2fsck")
INSTALL_DEADLINE_S = 600
MEMORY_MIB = 768
KERNEL_WORDS = (
    "console=ttyS0 quiet loglevel=5 oops=panic panic=-1 mitigations=off random.trust_cpu=on"
    " no_timer_check tsc=unstable clocksource=hpet"
)
"""A kernel that crashes says where, and ends the machine at once.
On a busy host the emulated TSC is measured wrong, or found to be so later: the kernel then patches itself, which
this qemu does not survive."""

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
{insmod}
export PATH=/sbin:/bin PYTHONPATH={search} HOME=/ PYTHONDONTWRITEBYTECODE=1 {environment}
{python} {program}
/bin/busybox poweroff -n -f
"""


def ensure_tools() -> None:
    """Install the emulator and busybox where that is possible. Raises MachineError."""
    if all(shutil.which(tool) for tool in TOOLS):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *TOOL_PACKAGES]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=False, timeout=INSTALL_DEADLINE_S, env=environment, capture_output=True)
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise MachineError(f"needs {', '.join(missing)}: apt-get install {' '.join(TOOL_PACKAGES)}")


def _imported_files(program: Path, search: Iterable[Path], modules: Iterable[str]) -> list[Path]:
    """Files of everything the program and `modules` import, found by importing them."""
    code = (
        "import sys, json, site, encodings.idna, encodings.ascii, encodings.latin_1, importlib\n"
        f"for name in {[program.stem, *modules]!r}: importlib.import_module(name)\n"
        "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join([str(program.parent), *map(str, search)])}
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    if result.returncode:
        raise MachineError(f"{program} cannot be imported: {result.stderr.strip().splitlines()[-1]}")
    return sorted({Path(name) for name in json.loads(result.stdout)})


def tool(name: str) -> Path:
    """A program of this machine. Raises MachineError."""
    found = shutil.which(name)
    if found is None:
        raise MachineError(f"needs {name}")
    return Path(found)


def _libraries(binary: Path, folders: Iterable[Path] = ()) -> list[Path]:
    """Shared libraries of a binary, by the names it is linked with; looked for in `folders` first."""
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    done = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=30, env=environment)
    output = done.stdout
    return [Path(word) for line in output.splitlines() for word in line.split() if word.startswith("/")]


class Archive:
    """An initramfs in the making: a cpio archive in the "newc" format."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def add(self, name: str, mode: int, data: bytes = b"") -> None:
        name = name.lstrip("/")
        if name in self._names:
            return
        self._names.add(name)
        for parent in reversed(Path(name).parents):
            if str(parent) != ".":
                self.add(str(parent), stat.S_IFDIR | 0o755)
        self._append(name, mode, data)

    def add_file(self, source: Path, name: str | None = None) -> None:
        executable = 0o755 if os.access(source, os.X_OK) else 0o644
        self.add(name or str(source), stat.S_IFREG | executable, source.read_bytes())

    def add_binary(self, source: Path, name: str | None = None, folders: Sequence[Path] = ()) -> None:
        """A dynamically linked program or extension module with its libraries; those in `folders` go to /usr/lib."""
        self.add_file(source, name)
        for library in _libraries(source, folders):
            self.add_file(library, f"/usr/lib/{library.name}" if library.parent in folders else None)

    def add_module(self, source: Path) -> None:
        """A Python module with its byte code, so that the slow machine need not compile."""
        if source.suffix != ".py":
            self.add_binary(source)
            return
        self.add_file(source)
        tag = sys.implementation.cache_tag
        with tempfile.NamedTemporaryFile(suffix=".pyc") as compiled:
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), compiled.name, doraise=True, invalidation_mode=mode)
            name = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
            self.add(str(name), stat.S_IFREG | 0o644, Path(compiled.name).read_bytes())

    def _append(self, name: str, mode: int, data: bytes) -> None:
        encoded = name.encode() + b"\0"
        fields = (len(self._parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts.append(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))

    def bytes(self) -> bytes:
        self._append("TRAILER!!!", 0, b"")
        return gzip.compress(b"".join(self._parts), 1)


def build_initramfs(
    program: Path,
    search: list[Path],
    modules: list[str],
    tools: list[Path],
    drivers: list[Path],
    data: list[Path],
    environment: str,
    library_folders: Sequence[Path] = (),
) -> bytes:
    """The machine's system. `program` is run by this interpreter, with `search` on its path, as root, after the kernel
    modules `drivers` were loaded; the files `data` are where they are here. `tools` need this machine's libraries,
    and those in `library_folders`."""
    archive = Archive()
    for directory in ("proc", "sys", "dev", "tmp", "run", "mnt", "etc"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    python = Path(sys.executable).resolve()
    archive.add_binary(python)
    for file in _imported_files(program, search, modules):
        archive.add_module(file)
    for path in tools:
        archive.add_binary(path.resolve(), f"/sbin/{path.name}", library_folders)
    archive.add_file(tool("busybox").resolve(), "/bin/busybox")
    for name in ("mount", "umount", "losetup", "ip", "mknod"):
        archive.add(f"/bin/{name}", stat.S_IFLNK | 0o777, b"busybox")
    for driver in drivers:
        archive.add_file(driver, f"/{driver.name}")
    for file in data:
        archive.add_file(file)
    archive.add_module(program)
    paths = ":".join(str(path) for path in [program.parent, *search])
    insmod = "\n".join(f"/bin/busybox insmod /{driver.name}" for driver in drivers)
    init = INIT.format(search=paths, python=python, program=program, insmod=insmod, environment=environment)
    archive.add("/init", stat.S_IFREG | 0o755, init.encode())
    return archive.bytes()


PROCESSORS = ("-accel", "tcg,thread=multi", "-cpu", "max,cx16=off", "-smp", "2")
COUNTED = ("-accel", "tcg,thread=single", "-cpu", "max,cx16=off,erms=off,fsrm=off", "-smp", "1")
COUNTED += ("-icount", "shift=2,sleep=off")
"""One processor whose clock goes 4 ns for each instruction, and over idle time at once: what it measures is
instructions, however busy the host is. Without the string moves that are counted byte by byte."""


def run_machine(
    kernel: Path,
    initramfs: bytes,
    said: Path,
    deadline_s: float,
    memory_mib: int = MEMORY_MIB,
    processors: Sequence[str] = PROCESSORS,
) -> str:
    """Boot, wait for power-off, return what the serial line said; the file `said` has it as it comes.

    At the deadline the machine is killed.
    """
    with tempfile.NamedTemporaryFile(suffix=".initramfs") as image:
        image.write(initramfs)
        image.flush()
        command = ["qemu-system-x86_64", *processors, "-m", str(memory_mib), "-nographic", "-no-reboot", "-nic", "none"]
        command += ["-kernel", str(kernel), "-initrd", image.name]
        command += ["-append", KERNEL_WORDS]
        with said.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                output.write(b"\nthe machine did not power off in time\n")
            finally:
                process.kill()
                process.wait()
    return said.read_text(errors="replace").replace("\r", "")
