"""Two hastd that know each other by key."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import Pair

from daemon import Daemon
from hast.daemon.node_key import read_fingerprint

OTHER = "the-other-node"


def keygen(daemon: Daemon, *options: str) -> str:
    """Make the key of this daemon; its fingerprint."""
    done = daemon.hastctl("keygen", *options)
    assert done.returncode == 0, done.stderr
    directory = daemon.directory / "state"
    return read_fingerprint(directory / ("node-next.crt" if "--next" in options else "node.crt"))


def configure(daemon: Daemon, port: int, own: list[str], theirs: list[str], more: str = "") -> None:
    """`port`: where the other node is found."""
    name = socket.gethostname()
    head = f"on {name} {{ {' '.join(f'fingerprint {each}' for each in own)} }}\n"
    head += f"on {OTHER} {{ {' '.join(f'fingerprint {each}' for each in theirs)} }}\n"
    other = f"on {OTHER} {{ local /dev/null\n remote tcp4://127.0.0.1:1 }}"
    lines = f"timeout 5\n{more}\n{other}"
    disk = daemon.directory / "disk1.img"
    if not disk.exists():
        disk.touch()
        os.truncate(disk, 16 << 20)
    daemon.write_config({"disk1": f"local {disk}\n remote tcp4://127.0.0.1:{port}"}, head=head, inside=lines)


@pytest.fixture
def secure(make_daemon: MakeDaemon) -> Iterator[Pair]:
    """Known to each other, in step."""
    made = Pair(make_daemon(fake=False), make_daemon(fake=False))
    one, two = made.both
    first, second = keygen(one), keygen(two)
    configure(one, two.port, [first], [second])
    configure(two, one.port, [second], [first])
    made.bring_up()
    yield made
    made.check_logs()
