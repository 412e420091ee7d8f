"""What `hastctl check` says of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from hast.cli import check


def test_what_keeps_an_export_down_is_a_warning_and_so_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "failover.conf"
    monkeypatch.setattr(check, "DEFAULT_FAILOVER_CONF", str(path))
    assert check.export_findings() == []
    path.write_text(
        f"export nbd disk1 {{ listen a:1 tls-certificates {tmp_path} }} export nbd disk2 {{ listen a:2 allow ALL }}"
    )
    (found,) = check.export_findings()
    assert found.text.startswith(f"export nbd disk1: {tmp_path}/server-cert.pem (or its key server-key.pem) cannot be")
    assert not found.is_error
    path.write_text("export nbd disk1")
    (found,) = check.export_findings()
    assert "for nobody" in found.text
