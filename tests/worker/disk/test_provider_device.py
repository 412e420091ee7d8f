"""The local provider on a real block device: a loop device of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.format import metadata as metadata_format
from hast.format.geometry import Geometry
from hast.replication.types import FLUSH, WRITE, ZERO, Metadata, Request, Store
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import ProviderError, open_provider, read_metadata
from hast.worker.reactor import EpollReactor

SIZE = 16 * 1024 * 1024

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="needs root and loop devices"
    ),
]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "disk"
    image.write_bytes(b"\xaa" * SIZE)
    device = subprocess.run(
        ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True, timeout=20)


def test_size_and_sector_size_are_those_of_the_device(loop: str) -> None:
    opened = open_provider(loop)
    os.close(opened.fd)
    assert (opened.size_bytes, opened.sector_size_bytes, opened.is_block_device) == (SIZE, 512, True)


def test_a_mounted_device_is_refused_as_in_use(loop: str, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", loop], check=True, timeout=60)
    target = tmp_path / "mnt"
    target.mkdir()
    subprocess.run(["mount", loop, str(target)], check=True, timeout=20)
    try:
        with pytest.raises(ProviderError, match="mounted") as caught:
            open_provider(loop)
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=20)
    assert caught.value.exit_code == 66


def test_everything_works_on_a_block_device(loop: str, tmp_path: Path) -> None:
    geometry = Geometry(SIZE, 65536, 512)
    metadata = Metadata("disk1", geometry.datasize_bytes, 65536, 4, geometry.offset_bytes)
    with open(loop, "r+b", buffering=0) as file:
        file.write(metadata_format.encode(metadata) + bytes(geometry.map_size_bytes))
    opened = open_provider(loop)
    assert read_metadata(opened, "disk1") == (metadata, bytes(geometry.map_size_bytes))
    reactor = EpollReactor()
    done: list[Request] = []
    stored: list[int] = []
    provider = LocalProvider(
        opened,
        geometry.offset_bytes,
        reactor,
        done.extend,
        lambda _job, error: stored.append(error),
        FlushMark(tmp_path / "mark"),
    )
    requests = [
        Request(WRITE, 0, 4096, b"w" * 4096),
        Request(ZERO, 1 << 20, 1 << 20),
        Request(FLUSH, 0, 0),
    ]
    done.extend(provider.submit(requests))
    provider.store(Store("map", offset_bytes=4096, data=b"\x01" * 512))
    reactor.at_round_end(lambda: reactor.stop() if len(done) == 3 and stored else None)
    reactor.call_later(10, reactor.stop)
    reactor.run()
    provider.close()
    reactor.close()
    assert [request.local_error for request in done] == [0, 0, 0]
    assert stored == [0]
    content = Path(loop).read_bytes()
    assert content[4096:4608] == b"\x01" * 512
    area = content[geometry.offset_bytes :]
    assert area[:4096] == b"w" * 4096
    assert area[1 << 20 : 2 << 20] == bytes(1 << 20)
    assert area[2 << 20 : (2 << 20) + 4096] == b"\xaa" * 4096
