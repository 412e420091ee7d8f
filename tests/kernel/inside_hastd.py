"""Runs as the only program of a small virtual machine: a true hastd with a device of the kind in $KIND, under load.

hastd has no second node here. Its worker and itself are killed, started again and replaced in use; the writer checks
each block that it wrote. Every step prints one line; the host looks for the last.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

KIND = os.environ.get("KIND", "nbd")
SUCCESS = f"HASTD OVER {KIND.upper()}: ALL STEPS PASSED"
CONFIGURATION = f"""
control /run/hastctl
pidfile /run/hastd.pid
resource disk1 {{
    device {KIND}
    on machine {{
        local /tmp/disk1.img
        remote none
    }}
}}
"""
SIZE_BYTES = 96 << 20
DEVICE = Path("/dev/hast/disk1")
PROBE_OFFSET = str(32 << 20)
WORKERS, SUPERVISORS = 8, 3
PATIENCE_S = 60.0

_began = time.monotonic()


def step(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.2f}] {text}", flush=True)


def command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"hast.cli.{words[0]}", *words[1:]], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def until(what: str, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited in vain for {what}\n{log()}"
        time.sleep(0.05)


def log() -> str:
    path = Path("/tmp/hastd.log")
    return path.read_text()[-4000:] if path.exists() else ""


def processes(title: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().rstrip("\0").replace("\0", " ")
            except OSError:
                continue
            if words.startswith(title):
                found.append(int(entry.name))
    return found


def start_hastd() -> subprocess.Popen[bytes]:
    with Path("/tmp/hastd.log").open("ab") as file:
        hastd = subprocess.Popen(
            [sys.executable, "-m", "hast.cli.hastd", "-F", "-c", "/etc/hast.conf"], stdout=file, stderr=file
        )
    until("hastd", lambda: answers() is not None)
    return hastd


def answers() -> bool | None:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect("/run/hastctl")
        except OSError:
            return None
    return True


class Load:
    """A file system in use, and a prober of the device beside it."""

    def __init__(self) -> None:
        script = (
            "import os, sys\n"
            "for index in range(10**9):\n"
            "    data = bytes([index % 251]) * 65536\n"
            "    with open('/mnt/load', 'wb') as file:\n"
            "        file.write(data)\n"
            "        file.flush()\n"
            "        os.fsync(file.fileno())\n"
            "    with open('/mnt/load', 'rb') as file:\n"
            "        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)\n"
            "        assert file.read() == data\n"
        )
        pauses = [sys.executable, "-m", "hast.lab.pauses", "/mnt/probe", "0", "write"]
        Path("/mnt/probe").write_bytes(bytes(4096))
        os.sync()
        self.running = [
            subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True),
            subprocess.Popen(pauses, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True),
        ]

    def check(self) -> None:
        for each in self.running:
            assert each.poll() is None, f"{each.args}: {each.communicate()}"

    def end(self) -> list[tuple[float, float]]:
        """Stop it; the pauses as (moment, seconds)."""
        self.check()
        for each in self.running:
            each.send_signal(signal.SIGKILL)
        printed = self.running[1].communicate()[0]
        self.running[0].wait()
        return [(float(at), float(took)) for at, took in map(str.split, printed.splitlines())]


def tell(what: str, struck: list[float], pauses: list[tuple[float, float]], end_s: float) -> None:
    """The longest pause after each strike, in machine time: this machine is an emulated one."""
    ends = [*struck[1:], end_s]
    longest = [
        max((took for at, took in pauses if began - took <= at < end), default=0.0)
        for began, end in zip(struck, ends, strict=True)
    ]
    median_s, most_s = statistics.median(longest), max(longest)
    assert most_s < 30, f"{what}: a pause of {most_s:.2f} s"
    step(f"{what}: {len(struck)} times, longest pause median {median_s:.2f} s, most {most_s:.2f} s")


def story() -> None:
    socket.sethostname("machine")
    Path("/etc/hast.conf").write_text(CONFIGURATION)
    with Path("/tmp/disk1.img").open("wb") as file:
        file.truncate(SIZE_BYTES)
    command("hastctl", "create", "disk1")
    hastd = start_hastd()
    command("hastctl", "role", "primary", "disk1")
    node = os.readlink(DEVICE)
    step(f"primary, {DEVICE} -> {node}")
    subprocess.run(["/sbin/mkfs.ext4", "-q", str(DEVICE)], check=True, timeout=120)
    subprocess.run(["/bin/mount", "-t", "ext4", str(DEVICE), "/mnt"], check=True, timeout=60)
    load = Load()
    time.sleep(2)
    workers, supervisors, upgrades = [], [], []
    for _ in range(WORKERS):
        until("a worker", lambda: len(processes("hastd: disk1 (primary)")) == 1)
        time.sleep(3)
        load.check()
        workers.append(time.monotonic())
        os.kill(processes("hastd: disk1 (primary)")[0], signal.SIGKILL)
    time.sleep(6)
    step("workers killed")
    for _ in range(SUPERVISORS):
        before = processes("hastd: disk1 (primary)")
        supervisors.append(time.monotonic())
        hastd.kill()
        hastd.wait()
        time.sleep(1)
        hastd = start_hastd()
        time.sleep(3)
        load.check()
        assert processes("hastd: disk1 (primary)") == before, f"the worker did not live on\n{log()}"
        entry = json.loads(command("hastctl", "status", "--json", "disk1"))["resources"]
        assert "primary" in json.dumps(entry), entry
    step("hastd killed and started again: the worker lived on, and was taken over")
    upgrades.append(time.monotonic())
    command("hastctl", "upgrade")
    time.sleep(3)
    step("upgraded")
    pauses = load.end()
    tell("worker killed", workers, pauses, supervisors[0])
    tell("hastd killed", supervisors, pauses, upgrades[0])
    tell("upgrade", upgrades, pauses, time.monotonic())
    subprocess.run(["/bin/umount", "/mnt"], check=True, timeout=60)
    subprocess.run(["/sbin/e2fsck", "-fn", str(DEVICE)], check=True, timeout=120, stdout=subprocess.DEVNULL)
    step("file system clean")
    command("hastctl", "role", "init", "disk1")
    assert not DEVICE.exists()
    until("the device to go", lambda: device_gone(node))
    for pid in processes("hastd"):
        os.kill(pid, signal.SIGTERM)
    until("the end of hastd", lambda: not processes("hastd"))
    step("device gone, hastd ended")


def device_gone(node: str) -> bool:
    size = Path("/sys/block", Path(node).name, "size")
    return not size.exists() or size.read_text().strip() == "0"


def main() -> None:
    try:
        story()
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
        print(log())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
