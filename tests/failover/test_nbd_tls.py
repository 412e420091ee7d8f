"""NBD over TCP in TLS, against the clients that are about: libnbd's and qemu's."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hast.config.failover_model import FailoverConfiguration, NbdExport, NbdTls
from hast.failover.exports.nbd import NbdOverTcp
from hast.failover.exports.nbd_tls import KNOWS_PSK, Before, BeforeTls, TlsSetupError, read_psk
from hast.failover.exports.problems import export_problems
from hast.failover.part import Context, PartError
from hast.format import nbd
from hast.format.nbd import NbdError, Option, OptionReply

MakeContext = Callable[..., Context]
FLAGS = nbd.CLIENT_FLAGS.pack(3)
SIZE_BYTES = 16 << 20

if missing := [name for name in ("nbdkit", "nbdinfo", "nbdcopy", "qemu-io", "openssl") if shutil.which(name) is None]:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)


def option(number: int, data: bytes = b"") -> bytes:
    return nbd.OPTION.pack(nbd.OPTION_MAGIC, number, len(data)) + data


# --- what is said before TLS


def test_nothing_is_told_before_tls() -> None:
    for number in (Option.LIST, Option.INFO, Option.GO, Option.STRUCTURED_REPLY, 99):
        answer, then = BeforeTls().receive(FLAGS + option(number))
        assert (answer, then) == (nbd.option_reply(number, OptionReply.ERR_TLS_REQD), Before.MORE)


def test_starttls_and_abort_are_taken_and_bytes_may_come_singly() -> None:
    for number, expected in ((Option.STARTTLS, Before.TLS), (Option.ABORT, Before.CLOSE)):
        before = BeforeTls()
        *first, last = [before.receive(bytes([each])) for each in FLAGS + option(number)]
        assert first == [(b"", Before.MORE)] * len(first)
        assert last == (nbd.option_reply(number, OptionReply.ACK), expected)
        assert before.flags == 3


@pytest.mark.parametrize(
    "data",
    [
        FLAGS + option(Option.EXPORT_NAME, b"disk1"),
        FLAGS + option(Option.STARTTLS) + option(Option.GO),
        struct.pack(">I", 4),
        FLAGS + b"GET / HTTP/1.1\r\n\r\n",
        FLAGS + option(Option.LIST) * 20,
        FLAGS + nbd.OPTION.pack(nbd.OPTION_MAGIC, 6, 1 << 31),
    ],
)
def test_what_is_no_way_into_tls_ends_the_client(data: bytes) -> None:
    """Among them bytes behind STARTTLS, which somebody in the middle would have smuggled into the session."""
    with pytest.raises(NbdError):
        BeforeTls().receive(data)


# --- real clients


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the server and one for a client, in qemu's layout, and a client of another authority."""
    root = tmp_path_factory.mktemp("pki")
    for who in ("server", "client", "stranger"):
        (root / who).mkdir()
    for authority in ("ours", "other"):
        _openssl(root, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                 "-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for who, role, authority in (
        ("server", "server", "ours"),
        ("client", "client", "ours"),
        ("stranger", "client", "other"),
    ):
        base = f"{who}/{role}"
        _openssl(root, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", f"/CN={who}", "-addext", "subjectAltName=IP:127.0.0.1",
                 "-keyout", f"{base}-key.pem", "-out", f"{who}.csr")  # fmt: skip
        _openssl(root, "x509", "-req", "-in", f"{who}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                 "-CAcreateserial", "-days", "30", "-copy_extensions", "copy", "-out", f"{base}-cert.pem")  # fmt: skip
        shutil.copy(root / "ours.pem", root / who / "ca-cert.pem")
        (root / f"{base}-key.pem").chmod(0o600)
    (root / "nothing").mkdir()
    shutil.copy(root / "ours.pem", root / "nothing" / "ca-cert.pem")
    return root


def _openssl(root: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=root, check=True, capture_output=True, timeout=20)


class Served:
    """An export with these settings of TLS."""

    def __init__(self, part: NbdOverTcp, port: int, context: Context) -> None:
        self.part, self.port = part, port
        part.up(context)

    def uri(self, directory: Path | None) -> str:
        """For libnbd; None: without TLS."""
        scheme, more = ("nbds", f"?tls-certificates={directory}") if directory else ("nbd", "")
        return f"{scheme}://127.0.0.1:{self.port}{more}"

    def info(self, directory: Path | None) -> bool:
        """Whether libnbd gets in."""
        command = ["nbdinfo", "--size", self.uri(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode or done.stdout == f"{SIZE_BYTES}\n"
        return done.returncode == 0

    def qemu(self, directory: Path, *orders: str) -> subprocess.CompletedProcess[str]:
        credentials = f"tls-creds-x509,id=tls0,endpoint=client,dir={directory}"
        image = f"driver=nbd,host=127.0.0.1,port={self.port},tls-creds=tls0"
        commands = [word for order in orders for word in ("-c", order)]
        argv = ["qemu-io", "--object", credentials, *commands, "--image-opts", image]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)


@pytest.fixture
def serve(tmp_path: Path, nbd_server: Path, context: MakeContext) -> Iterator[Callable[[NbdTls], Served]]:
    made = []

    def start(tls: NbdTls) -> Served:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        export = NbdExport("disk1", (f"127.0.0.1:{port}",), ("ALL",), tls)
        part = NbdOverTcp(export, nbd_server, tmp_path / "disk1.forward")
        made.append(part)
        return Served(part, port, context())

    yield start
    for part in made:
        part.down(context())


@pytest.fixture
def served(serve: Callable[[NbdTls], Served], pki: Path) -> Served:
    """Clients have to show a certificate."""
    return serve(NbdTls(str(pki / "server")))


def test_libnbd_copies_in_and_out_what_is_encrypted(served: Served, pki: Path, tmp_path: Path) -> None:
    data = os.urandom(SIZE_BYTES)
    (tmp_path / "in").write_bytes(data)
    uri = served.uri(pki / "client")
    subprocess.run(["nbdcopy", str(tmp_path / "in"), uri], check=True, timeout=60)
    subprocess.run(["nbdcopy", uri, str(tmp_path / "out")], check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == data


def test_qemu_reads_what_it_wrote_in_many_requests_at_once(served: Served, pki: Path) -> None:
    orders = [f"aio_write -P {number} {number}M 1M" for number in range(1, 8)]
    done = served.qemu(pki / "client", *orders, "aio_flush", "flush", "read -P 5 5M 1M", "read -P 0 9M 64k")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verification failed" not in done.stdout


def test_nbd_client_lists_what_there_is_with_a_certificate_and_nothing_without(served: Served, pki: Path) -> None:
    """Its way to a device needs the kernel's driver; the way to here is the same."""
    if shutil.which("nbd-client") is None:
        pytest.skip("not installed: nbd-client")
    files = {"-certfile": "client-cert.pem", "-keyfile": "client-key.pem", "-cacertfile": "ca-cert.pem"}
    keys = [word for option, name in files.items() for word in (option, str(pki / "client" / name))]
    base = ["nbd-client", "-l", "127.0.0.1", str(served.port)]
    for more, code in (([*keys, "-enable-tls", "-tlshostname", "127.0.0.1"], 0), ([], 1)):
        assert subprocess.run([*base, *more], capture_output=True, check=False, timeout=20).returncode == code


def test_clients_without_tls_or_a_certificate_of_the_authority_are_not_let_in(served: Served, pki: Path) -> None:
    assert served.info(pki / "client")
    for directory in (None, pki / "stranger", pki / "nothing"):
        assert not served.info(directory)
    assert served.qemu(pki / "stranger", "read 0 4k").returncode != 0


def test_a_server_of_another_authority_is_noticed(serve: Callable[[NbdTls], Served], pki: Path, tmp_path: Path) -> None:
    """`ca-cert.pem` of the client decides, not what the server says."""
    directory = tmp_path / "impostor"
    shutil.copytree(pki / "server", directory)
    shutil.copy(pki / "stranger" / "client-cert.pem", directory / "server-cert.pem")
    shutil.copy(pki / "stranger" / "client-key.pem", directory / "server-key.pem")
    assert not serve(NbdTls(str(directory), verify_peer=False)).info(pki / "client")


def test_clients_may_come_without_a_certificate_where_that_is_configured(
    serve: Callable[[NbdTls], Served], pki: Path
) -> None:
    served = serve(NbdTls(str(pki / "server"), verify_peer=False))
    assert served.info(pki / "nothing")
    assert not served.info(None)


def test_the_end_of_the_export_and_of_hastd_reach_a_client(served: Served, pki: Path, context: MakeContext) -> None:
    context_of_client = ssl.create_default_context(cafile=str(pki / "client" / "ca-cert.pem"))
    context_of_client.load_cert_chain(pki / "client" / "client-cert.pem", pki / "client" / "client-key.pem")
    with socket.create_connection(("127.0.0.1", served.port), 5) as raw:
        assert raw.recv(18, socket.MSG_WAITALL) == nbd.SERVER_GREETING
        raw.sendall(FLAGS + option(Option.STARTTLS))
        assert raw.recv(20, socket.MSG_WAITALL) == nbd.option_reply(Option.STARTTLS, OptionReply.ACK)
        with context_of_client.wrap_socket(raw, server_hostname="127.0.0.1") as client:
            client.sendall(option(Option.LIST))
            assert client.recv(8) == struct.pack(">Q", nbd.OPTION_REPLY_MAGIC)
            client.recv(4096)
            served.part.down(context())
            assert client.recv(1) == b""


def test_renewed_certificates_count_at_once_and_those_that_cannot_be_used_are_named(
    serve: Callable[[NbdTls], Served], pki: Path, tmp_path: Path, context: MakeContext
) -> None:
    directory = tmp_path / "server"
    shutil.copytree(pki / "server", directory)
    served = serve(NbdTls(str(directory)))
    assert served.info(pki / "client")
    shutil.copy(pki / "other.pem", directory / "ca-cert.pem")
    assert not served.info(pki / "client")
    assert served.info(pki / "stranger")
    (directory / "server-key.pem").chmod(0o644)
    conf = FailoverConfiguration("f", exports=(NbdExport("disk1", ("x",), ("ALL",), NbdTls(str(directory))),))
    assert "server-key.pem holds a key and can be read by others" in export_problems(conf)[0]
    with pytest.raises(PartError, match="can be read by others"):
        served.part.up(context())
    (directory / "server-key.pem").unlink()
    assert "cannot be read" in export_problems(conf)[0]


# --- keys that both have


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "holds no key"), ("user", ":1: expected USER:KEY"), ("a:" + "0" * 16 + "\nb:xyz", ":2: expected USER:KEY")],
)
def test_a_file_of_keys_that_cannot_be_used_is_named(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "keys.psk"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TlsSetupError, match=error):
        read_psk(str(path))


def test_keys_that_both_have_need_a_newer_python_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "keys.psk"
    path.write_text(f"# of qemu\nqemu:{'1f' * 32}\n")
    path.chmod(0o600)
    assert read_psk(str(path)) == {"qemu": b"\x1f" * 32}
    conf = FailoverConfiguration("f", exports=(NbdExport("disk1", ("x",), ("ALL",), NbdTls(psk=str(path))),))
    problems = export_problems(conf)
    assert problems == [] if KNOWS_PSK else "Python 3.13" in problems[0]


@pytest.mark.skipif(not KNOWS_PSK, reason="this Python's ssl has no keys for servers (3.13 has)")
def test_libnbd_and_qemu_get_in_with_a_key_that_both_have(serve: Callable[[NbdTls], Served], tmp_path: Path) -> None:
    good, bad = "1f" * 32, "2f" * 32
    for name, key in (("keys.psk", good), ("bad.psk", bad)):
        (tmp_path / name).write_text(f"qemu:{key}\n")
        (tmp_path / name).chmod(0o600)
    served = serve(NbdTls(psk=str(tmp_path / "keys.psk")))
    base = f"nbds://qemu@127.0.0.1:{served.port}?tls-psk-file="
    for name, code in (("keys.psk", 0), ("bad.psk", 1)):
        done = subprocess.run(["nbdinfo", f"{base}{tmp_path / name}"], capture_output=True, check=False, timeout=20)
        assert done.returncode == code, done.stderr
    image = f"driver=nbd,host=127.0.0.1,port={served.port},tls-creds=tls0"
    credentials = f"tls-creds-psk,id=tls0,endpoint=client,username=qemu,dir={tmp_path}"
    argv = ["qemu-io", "--object", credentials, "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M", "--image-opts", image]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    assert b"verification failed" not in done.stdout
