"""An etcd that serves only who it knows: own CA, client certificate, user and password (security finding 10)."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_arbiters import Process, free_port, the_rules, wait_for_port

from hast.election.arbiter import ArbiterError
from hast.failover.arbiters.credentials import Credentials, CredentialsError, load
from hast.failover.arbiters.etcd import EtcdArbiter

PASSWORD = "correct horse"


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def make_certificates(folder: Path) -> None:
    """ca.pem, and a pair signed by it for the server and for a client; etcd's gateway wants no CN in the latter."""
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem", cwd=folder)
    for name, subject in (("server", "/CN=server"), ("client", "/O=hast")):
        run(*new, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        sign = ["openssl", "x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        run(*sign, "-extfile", "ext", "-in", f"{name}.csr", "-out", f"{name}.pem", cwd=folder)


def start(folder: Path, port: int, peer: int) -> Process:
    command = [
        "etcd", "--data-dir", str(folder / "data"), "--listen-client-urls", f"https://127.0.0.1:{port}",
        "--advertise-client-urls", f"https://127.0.0.1:{port}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
        "--initial-cluster", f"default=http://127.0.0.1:{peer}", "--heartbeat-interval=50", "--election-timeout=250",
        "--client-cert-auth", "--trusted-ca-file", str(folder / "ca.pem"),
        "--cert-file", str(folder / "server.pem"), "--key-file", str(folder / "server.key"),
    ]  # fmt: skip
    process = Process(command, folder / "etcd.log")
    wait_for_port(port)
    return process


class Guarded:
    """A running etcd that demands everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_port(), free_port()
        make_certificates(folder)
        self.process = start(folder, *self.ports)
        self.url = f"https://127.0.0.1:{self.ports[0]}"
        for words in (
            ("user", "add", f"root:{PASSWORD}"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "hast"),
            ("role", "grant-permission", "hast", "--prefix=true", "readwrite", "/hast/"),
            ("user", "add", f"hast:{PASSWORD}"),
            ("user", "grant-role", "hast", "hast"),
            ("auth", "enable"),
        ):
            self.etcdctl(*words)

    def etcdctl(self, *words: str) -> None:
        tls = ["--cacert", "ca.pem", "--cert", "client.pem", "--key", "client.key"]
        run("etcdctl", "--endpoints", self.url, *tls, *words, cwd=self.folder)

    def restart(self) -> None:
        self.process.end()
        self.process = start(self.folder, *self.ports)

    def credentials(self, name: str = "credentials", **changes: str) -> str:
        folder = self.folder
        values = {"ca": f"{folder}/ca.pem", "cert": f"{folder}/client.pem", "key": f"{folder}/client.key"}
        values |= {"user": "hast", "password": PASSWORD, **changes}
        return write(folder / name, "".join(f"{key} {value}\n" for key, value in values.items() if value))


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    missing = [name for name in ("etcd", "etcdctl", "openssl") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    etcd = Guarded(tmp_path_factory.mktemp("etcd"))
    yield etcd
    etcd.process.end()


def test_who_shows_certificate_user_and_password_is_served_by_the_rules(guarded: Guarded) -> None:
    path = guarded.credentials()
    pair = [EtcdArbiter([guarded.url], 5.0, credentials=path) for _ in range(2)]
    asyncio.run(the_rules(*pair))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cert": "", "key": ""}, "no etcd answers"),
        ({"ca": ""}, "certificate verify failed"),
        ({"password": "wrong"}, "authentication failed"),
        ({"user": "", "password": ""}, "permission denied"),
    ],
)
def test_who_lacks_one_of_them_is_told_why(guarded: Guarded, changes: dict[str, str], reason: str) -> None:
    arbiter = EtcdArbiter([guarded.url], 5.0, credentials=guarded.credentials("lacking", **changes))
    with pytest.raises(ArbiterError, match=reason):
        asyncio.run(arbiter.acquire("disk1", "a", 0))


def test_a_token_that_etcd_forgot_is_renewed(guarded: Guarded) -> None:
    async def story() -> None:
        arbiter = EtcdArbiter([guarded.url], 5.0, credentials=guarded.credentials())
        assert not await arbiter.is_outdated("disk9", "a")
        await asyncio.to_thread(guarded.restart)
        for _ in range(50):
            try:
                assert not await arbiter.is_outdated("disk9", "a")
                return
            except ArbiterError:
                await asyncio.sleep(0.1)
        raise AssertionError("not served again")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("user hast\npassword x\n", 0o640, "others may read it .*chmod 600"),
        ("user hast\n", 0o600, "belong together"),
        ("key /k\n", 0o600, "a key to its cert"),
        ("secret x\n", 0o600, ":1: one of ca, cert"),
        ("ca\n", 0o600, ":1: one of ca, cert"),
        ("ca /a\nca /b\n", 0o600, ":2: one of ca, cert"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    with pytest.raises(CredentialsError, match=reason) as caught:
        load(write(tmp_path / "credentials", text, mode))
    assert "\n" not in str(caught.value)


def test_comments_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "credentials", "# of our cluster\n\nuser hast\npassword a b\n")
    assert load(path) == Credentials(user="hast", password="a b")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="none: No such file"):
        load(str(tmp_path / "none"))
