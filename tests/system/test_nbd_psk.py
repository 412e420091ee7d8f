"""NBD in TLS with keys that both have: Debian 13's Python has what Debian 12's has not; clients are this machine's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import booted
import pytest

pytestmark = pytest.mark.slow
SOURCE = Path(__file__).parents[2] / "src"
INSIDE = """
mount --bind "$1" "$2/mnt" && mount --bind "$3" "$2/media" && cd / && shift 1
root=$1; shift 2
exec chroot "$root" env PYTHONPATH=/media PYTHONDONTWRITEBYTECODE=1 python3 -m hast.failover.exports.forwarder "$@"
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """An export under Debian 13's Python; `tmp_path` is its /mnt."""
    lacking = [name for name in ("nbdkit", "nbdinfo", "qemu-io") if shutil.which(name) is None]
    if booted.missing() or lacking:
        pytest.skip(booted.missing() or f"not installed: {', '.join(lacking)}")
    root = booted.root("trixie")
    for directory, digit in (("good", "1"), ("bad", "2")):
        path = tmp_path / directory / "keys.psk"
        path.parent.mkdir()
        path.write_text(f"qemu:{digit * 64}\n")
        path.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = int(server.getsockname()[1])
    backend = subprocess.Popen(["nbdkit", "-f", "-U", str(tmp_path / "disk.nbd"), "memory", "16M"])
    try:
        until_s = time.monotonic() + 10
        while not (tmp_path / "disk.nbd").exists():
            assert time.monotonic() < until_s
            time.sleep(0.05)
        options = ["--target", "/mnt/disk.nbd", "--listen", f"127.0.0.1:{number}", "--allow", "ALL"]
        options += ["--tls-psk", "/mnt/good/keys.psk", "--record", "/mnt/record"]
        argv = ["unshare", "-m", "sh", "-ec", INSIDE, "sh", str(tmp_path), str(root), str(SOURCE), *options]
        subprocess.run(argv, check=True, timeout=60, stdout=sys.stderr)
        yield number
    finally:
        backend.kill()
        backend.wait(10)
        record = tmp_path / "record"
        if record.exists() and record.stat().st_size:
            os.kill(json.loads(record.read_text())["pid"], signal.SIGTERM)


def libnbd(port: int, keys: Path, user: str = "qemu") -> bool:
    uri = f"nbds://{user}@127.0.0.1:{port}?tls-psk-file={keys}"
    return subprocess.run(["nbdinfo", "--size", uri], capture_output=True, check=False, timeout=20).returncode == 0


def qemu(port: int, keys: Path) -> bool:
    credentials = f"tls-creds-psk,id=tls0,endpoint=client,username=qemu,dir={keys.parent}"
    image = f"driver=nbd,host=127.0.0.1,port={port},tls-creds=tls0"
    orders = ["-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M"]
    argv = ["qemu-io", "--object", credentials, *orders, "--image-opts", image]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return done.returncode == 0 and "verification failed" not in done.stdout


def test_clients_get_in_with_the_key_and_not_with_another(port: int, tmp_path: Path) -> None:
    for get_in in (libnbd, qemu):
        assert get_in(port, tmp_path / "good" / "keys.psk")
        assert not get_in(port, tmp_path / "bad" / "keys.psk")
    assert subprocess.run(["nbdinfo", f"nbd://127.0.0.1:{port}"], capture_output=True, check=False).returncode != 0
