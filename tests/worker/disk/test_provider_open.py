"""Opening a provider: what is refused, with which words and exit code; nothing is changed by trying."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hast.format import metadata as metadata_format
from hast.replication.types import Metadata
from hast.worker.disk.provider_open import OpenedProvider, ProviderError, open_provider, read_metadata

SIZE = 1024 * 1024
METADATA = Metadata("disk1", SIZE - 4608, 65536, 64, 4608)


def make(path: Path, metadata: Metadata = METADATA, size_bytes: int = SIZE) -> OpenedProvider:
    content = metadata_format.encode(metadata) + b"\x05" + bytes(511)
    path.write_bytes(content + bytes(size_bytes - len(content)))
    return open_provider(str(path))


def refusal(opened: OpenedProvider, resource: str = "disk1") -> ProviderError:
    before = os.pread(opened.fd, 8192, 0)
    with pytest.raises(ProviderError) as caught:
        read_metadata(opened, resource)
    assert os.pread(opened.fd, 8192, 0) == before
    os.close(opened.fd)
    assert "\n" not in str(caught.value)
    return caught.value


def test_metadata_and_map_are_read(tmp_path: Path) -> None:
    opened = make(tmp_path / "p")
    assert (opened.size_bytes, opened.sector_size_bytes, opened.is_block_device) == (SIZE, 512, False)
    metadata, bitmap = read_metadata(opened, "disk1")
    os.close(opened.fd)
    assert metadata == METADATA
    assert bitmap == b"\x05" + bytes(511)


def test_a_missing_provider_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"Unable to open .*/none: No such file or directory\.") as caught:
        open_provider(str(tmp_path / "none"))
    assert caught.value.exit_code == 66


def test_a_directory_is_no_provider(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="neither a regular file nor a block device"):
        open_provider(str(tmp_path))


def test_a_provider_held_by_another_process_is_refused(tmp_path: Path) -> None:
    opened = make(tmp_path / "p")
    with pytest.raises(ProviderError, match="in use by another process") as caught:
        open_provider(str(tmp_path / "p"))
    os.close(opened.fd)
    assert caught.value.exit_code == 66


def test_metadata_of_another_resource_is_refused(tmp_path: Path) -> None:
    error = refusal(make(tmp_path / "p"), "disk2")
    assert str(error).startswith(f"Provider {tmp_path / 'p'} is not part of resource disk2.")


def test_a_provider_without_metadata_is_refused_and_create_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(bytes(SIZE))
    error = refusal(open_provider(str(path)))
    assert "hastctl create disk1" in str(error)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(os.urandom(SIZE))
    assert refusal(open_provider(str(path))).exit_code == 65


def test_a_provider_smaller_than_a_metadata_block_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"x" * 100)
    assert "only 100 bytes" in str(refusal(open_provider(str(path))))


def test_a_shrunk_provider_is_refused(tmp_path: Path) -> None:
    error = refusal(make(tmp_path / "p", replace(METADATA, datasize_bytes=2 * SIZE)))
    assert "shrunk" in str(error)
