"""Clients of the NBD socket while workers are killed under them: what each sees, and what makes it go on.

The listening socket outlives the worker, so a client that connects again finds the next one.
docs/devices.md has the table.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon_pair import Pair

from daemon import DIES_WITH_THE_TESTS, Daemon, wait_for

PART_BYTES = 1 << 18
IMAGE_BYTES = 12 << 20
CLIENT_S = 60.0
LIBNBD = """
import nbd, sys
uri, image, again = sys.argv[1], open(sys.argv[2], "rb").read(), sys.argv[3] == "again"
handle = None
def connected():
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle
handle = connected()
for start in list(range(0, len(image), 65536)) * 8:
    while True:
        try:
            handle.pwrite(image[start:start + 65536], start)
            break
        except nbd.Error:
            if not again:
                raise
            handle = connected()
handle.flush()
"""


def libnbd_python() -> str | None:
    """The interpreter that has libnbd's bindings; Debian's are for its own."""
    for program in ("/usr/bin/python3", shutil.which("python3")):
        if program and subprocess.run([program, "-c", "import nbd"], capture_output=True).returncode == 0:
            return program
    return None


def qemu(*options: str) -> Callable[[Daemon, Path], Sequence[str]]:
    def command(daemon: Daemon, _image: Path) -> Sequence[str]:
        target = f"driver=nbd,server.type=unix,server.path={daemon.run_directory}/disk1.nbd"
        numbers = list(range(IMAGE_BYTES // PART_BYTES)) * 8
        writes = [f"-cwrite -P {number + 1} {number * PART_BYTES} {PART_BYTES}" for number in numbers]
        return ["qemu-io", *writes, "-c", "flush", "--image-opts", ",".join((target, *options))]

    return command


def slowly(image: Path) -> str:
    """The image as a source that nbdcopy reads for some seconds."""
    return f"[ nbdkit --exit-with-parent --filter=rate file {image} rate=20M ]"


def uri(daemon: Daemon) -> str:
    return f"nbd+unix:///disk1?socket={daemon.run_directory}/disk1.nbd"


def nbdcopy(daemon: Daemon, image: Path) -> Sequence[str]:
    return ["sh", "-c", f"exec nbdcopy --flush -- {slowly(image)} '{uri(daemon)}'"]


def nbdcopy_retried(daemon: Daemon, image: Path) -> Sequence[str]:
    retry = "retries=30 retry-delay=1 retry-exponential=no"
    run = f'nbdcopy --flush -- {slowly(image)} "$uri"'
    return [
        *("nbdkit", "--exit-with-parent", "-U", "-", "--filter=retry", "nbd", *retry.split()),
        *(f"socket={daemon.run_directory}/disk1.nbd", "export=disk1", "--run", run),
    ]


def libnbd(how: str) -> Callable[[Daemon, Path], Sequence[str]]:
    def command(daemon: Daemon, image: Path) -> Sequence[str]:
        return [libnbd_python() or "libnbd", "-c", LIBNBD, uri(daemon), str(image), how]

    return command


CLIENTS: dict[str, Callable[[Daemon, Path], Sequence[str]]] = {
    "qemu-io": qemu("reconnect-delay=30"),
    "nbdkit nbd --filter=retry, nbdcopy": nbdcopy_retried,
    "libnbd that connects again": libnbd("again"),
}
FAILING: dict[str, Callable[[Daemon, Path], Sequence[str]]] = {
    "qemu-io": qemu(),
    "nbdcopy": nbdcopy,
    "libnbd": libnbd("once"),
}
NEEDS = {"qemu": ("qemu-io",), "nbdkit": ("nbdkit", "nbdcopy"), "nbdcopy": ("nbdkit", "nbdcopy"), "libnbd": ()}


@contextmanager
def started(pair: Pair, name: str, clients: dict[str, Callable[[Daemon, Path], Sequence[str]]]) -> Iterator[Client]:
    kind = name.replace("-", " ").split()[0]
    for program in NEEDS[kind]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if kind == "libnbd" and libnbd_python() is None:
        pytest.skip("libnbd's Python bindings are not installed")
    image = pair.one.directory / "image"
    image.write_bytes(b"".join(bytes([number + 1]) * PART_BYTES for number in range(IMAGE_BYTES // PART_BYTES)))
    client = Client(pair, image, clients[name](pair.one, image))
    try:
        yield client
    finally:
        client.process.kill()
        client.process.wait(10)


class Client:
    """A client that writes the image to disk1 again and again, and its end."""

    def __init__(self, pair: Pair, image: Path, command: Sequence[str]) -> None:
        self.pair, self.image = pair, image
        self.said = pair.one.directory / "client"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen([*DIES_WITH_THE_TESTS, *command], stdout=said, stderr=said)

    def kill_worker(self) -> None:
        """Once something new was written. The next one serves when this returns."""
        one = self.pair.one
        written = one.status()["statistics"]["writes"]
        wait_for(lambda: one.status()["statistics"]["writes"] > written + 5, "writes")
        assert self.process.poll() is None, self.text()
        before = one.status()
        os.kill(before["workerpid"], signal.SIGKILL)
        wait_for(lambda: one.status()["restarts"] > before["restarts"], "the next worker")

    def end(self) -> int:
        return self.process.wait(CLIENT_S)

    def text(self) -> str:
        return self.said.read_text(errors="replace")[-2000:]


@pytest.mark.parametrize("name", CLIENTS)
def test_client_that_connects_again_sees_no_error(pair: Pair, name: str) -> None:
    with started(pair, name, CLIENTS) as client:
        for _ in range(2):
            client.kill_worker()
        assert client.end() == 0, client.text()
        assert "fail" not in client.text().lower()
        pair.wait_complete()
        first, second = pair.images()
        assert first[:IMAGE_BYTES] == client.image.read_bytes()
        assert first == second


@pytest.mark.parametrize("name", FAILING)
def test_client_that_does_not_is_told_of_an_error_and_does_not_hang(pair: Pair, name: str) -> None:
    with started(pair, name, FAILING) as client:
        client.kill_worker()
        assert client.end() != 0, client.text()
        print(client.text()[-300:])
