"""daemon/tls.py: whom a context knows, and what of a certificate counts."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from hast.daemon import node_key
from hast.daemon.tls import Channel, client_context, keep_certificate, known_certificates, server_context

FUTURE = "-startdate 20900101000000Z -enddate 20910101000000Z"
CA = "[ca]\ndefault_ca=c\n[c]\ndatabase=i\nserial=s\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\n[p]\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAST_STATE", str(tmp_path))
    node_key.generate()
    return tmp_path


def own_certificate(directory: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((directory / node_key.CERTIFICATE).read_text())


def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Channel, Channel]:
    accepting, calling = Channel(server, server=True), Channel(client, server=False)
    for _ in range(4):
        accepting.receive(calling.handshake())
        calling.receive(accepting.handshake())
    return accepting, calling


def test_a_certificate_that_is_kept_is_known_by_its_fingerprint(state: Path) -> None:
    keep_certificate(own_certificate(state))
    keep_certificate(own_certificate(state))
    found = node_key.own_fingerprint()
    assert [node_key.fingerprint(ssl.PEM_cert_to_DER_cert(each)) for each in known_certificates([found])] == [found]
    assert [path.name for path in (state / "peers").iterdir()] == [f"{found}.crt"]


def test_the_date_in_a_certificate_does_not_count(state: Path) -> None:
    """A host whose clock is behind, after a power cut say, knows its peer all the same."""
    (state / "c").write_text(f"{CA}commonName=optional\n")
    (state / "i").touch()
    (state / "s").write_text("01")
    steps = [
        "openssl req -new -key node.key -subj /CN=hast -out r",
        f"openssl ca -batch -selfsign -config c -keyfile node.key -in r -out signed {FUTURE}",
        "openssl x509 -in signed -out node.crt",
    ]
    for step in steps:
        subprocess.run(step, shell=True, cwd=state, check=True, capture_output=True)
    keep_certificate(own_certificate(state))
    accepting, calling = meet(server_context(known_certificates([node_key.own_fingerprint()])), client_context())
    assert accepting.established
    assert calling.established
