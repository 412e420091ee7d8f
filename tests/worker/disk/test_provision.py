"""create and dump on files."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from hast.config.model import Resource
from hast.worker.disk import provision
from hast.worker.disk.provider_open import ProviderError


def resource(path: Path, name: str = "shared") -> Resource:
    return Resource(name, name, str(path), ())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(4608)
        file.write(b"data")
    return path


def test_created_metadata_is_bit_exact_and_data_is_untouched(disk: Path, shared_compat: Path) -> None:
    metadata = provision.create(resource(disk))
    assert (metadata.datasize_bytes, metadata.offset_bytes) == (1073737216, 4608)
    expected = bytes.fromhex((shared_compat / "vectors" / "50-metadata-after-create.hex").read_text())
    with disk.open("rb") as file:
        block = file.read(4096)
        assert file.read(512) == bytes(512)
        assert file.read(4) == b"data"
    from hast.format import metadata as metadata_format

    assert metadata_format.decode(block) == metadata_format.decode(expected)
    assert provision.read(resource(disk)) == metadata


def test_options(disk: Path) -> None:
    metadata = provision.create(resource(disk), 65536, 7, 1 << 20)
    assert (metadata.extentsize_bytes, metadata.keepdirty) == (65536, 7)
    assert metadata.datasize_bytes + metadata.offset_bytes == 1 << 20


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mediasize_bytes": 1 << 31}, "Provided mediasize is larger than provider .* size."),
        ({"extentsize_bytes": 256}, r"Extent size \(256\) is less than sector size \(512\)."),
        ({"extentsize_bytes": 3000}, "3000"),
        ({"extentsize_bytes": 3 << 19}, "power of two"),
        ({"mediasize_bytes": 4096}, "not changed"),
        ({"keepdirty": 1 << 40}, "Keepdirty"),
    ],
)
def test_refused_sizes_change_nothing(disk: Path, options: dict[str, int], text: str) -> None:
    with pytest.raises(ProviderError, match=text) as error:
        provision.create(resource(disk), **options)
    assert error.value.exit_code == 65
    with disk.open("rb") as file:
        assert file.read(4096) == bytes(4096)


def test_locked_provider_is_refused(disk: Path) -> None:
    with disk.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ProviderError, match="in use by another process") as error:
            provision.create(resource(disk))
        assert error.value.exit_code == 66


def test_missing_provider_and_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ProviderError) as error:
            provision.create(resource(path))
        assert error.value.exit_code == 66


def test_dump_of_what_is_no_provider(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="hastctl create shared") as error:
        provision.read(resource(disk))
    assert error.value.exit_code == 255
    with pytest.raises(ProviderError, match="Unable to open"):
        provision.read(resource(tmp_path / "none"))
    provision.create(resource(disk, "other"))
    with pytest.raises(ProviderError, match="is not part of resource shared"):
        provision.read(resource(disk))
