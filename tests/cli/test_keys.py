"""hastctl keygen, trust, and what check says of keys and links."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, free_port
from hast.cli import check, remote, trust
from hast.cli.output import tls_taken
from hast.config.link_security import fingerprint_line
from hast.config.model import Configuration, NodeNames, Resource
from hast.daemon import node_key

NAME = socket.gethostname()
OTHER_KEY = "ab" * 32


@pytest.fixture
def node(make_daemon: MakeDaemon) -> Daemon:
    """A configuration without a running hastd; its other node is expected on a port of this machine."""
    made = make_daemon({"disk1": "remote none"})
    configure(made, free_port())
    return made


def configure(node: Daemon, port: int, *, own: str = "", peer: str = "", inside: str = "") -> None:
    """disk1 and disk2 with the other node at this port."""
    known = [fingerprint_line(name, each) for name, each in ((NAME, own), ("other", peer)) if each]
    inside += "\n on other { remote none }"
    node.write_config(dict.fromkeys(("disk1", "disk2"), f"remote tcp4://127.0.0.1:{port}"), "\n".join(known), inside)


def state(node: Daemon) -> Path:
    return node.directory / "state"


def made_key(node: Daemon) -> str:
    return re.findall("[0-9a-f]{64}", node.hastctl("keygen").stdout)[0]


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, str]]:
    """Another node that speaks TLS and asks for a key, like hastd: its port and its fingerprint."""
    monkeypatch.setenv("HAST_STATE", str(tmp_path / "other"))
    found = node_key.generate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "other" / node_key.CERTIFICATE, tmp_path / "other" / node_key.KEY)
    monkeypatch.delenv("HAST_STATE")

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True):
            pass

    with serving(serve) as port:
        yield port, found


@contextlib.contextmanager
def serving(serve: object) -> Iterator[int]:
    """A port of this machine on which each connection is given to `serve`."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)
    stopped = threading.Event()

    def accept() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                client.settimeout(10)
                with client, contextlib.suppress(OSError):
                    serve(client)  # type: ignore[operator]

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stopped.set()
        thread.join()
        listening.close()


# --- keygen -------------------------------------------------------------------------------------------------------


def test_keygen_makes_a_key_and_prints_the_line_for_hast_conf(node: Daemon) -> None:
    done = node.hastctl("keygen")
    fingerprint = node_key.read_fingerprint(state(node) / node_key.CERTIFICATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"fingerprint {fingerprint}"
    assert f"    {fingerprint_line(NAME, fingerprint)}\n" in done.stdout
    assert node.hastctl("keygen", "--show").stdout == f"{fingerprint}\n"


def test_the_line_that_keygen_prints_is_taken_by_hast_conf(node: Daemon) -> None:
    line = node.hastctl("keygen").stdout.splitlines()[-1]
    with node.config.open("a") as file:
        file.write(line)
    assert "correct" in node.hastctl("check").stdout


def test_keygen_needs_no_configuration(node: Daemon) -> None:
    node.config.unlink()
    done = node.hastctl("keygen")
    assert done.returncode == 0
    assert f"on {NAME.partition('.')[0]} {{ fingerprint " in done.stdout


def test_a_key_is_never_overwritten(node: Daemon) -> None:
    first = made_key(node)
    done = node.hastctl("keygen")
    assert (done.returncode, done.stdout) == (73, "")
    assert done.stderr.endswith(
        "node.key is there already; it is not overwritten; prepare another with: hastctl keygen --next\n"
    )
    assert node.hastctl("keygen", "--show").stdout == f"{first}\n"


@pytest.mark.parametrize("option", ["--show", "--next", "--switch"])
def test_without_a_key_there_is_none_to_show_or_to_follow(node: Daemon, option: str) -> None:
    done = node.hastctl("keygen", option)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (66, "", 1)
    assert "hastctl keygen" in done.stderr


def test_one_thing_at_a_time(node: Daemon) -> None:
    assert node.hastctl("keygen", "--show", "--next").returncode == 64


def test_without_openssl_keygen_says_what_is_missing(node: Daemon) -> None:
    node.environment_more["PATH"] = str(node.directory)
    done = node.hastctl("keygen")
    assert (done.returncode, len(done.stderr.splitlines())) == (73, 1)
    assert done.stderr.startswith("openssl is not installed")


def test_a_change_of_keys_goes_from_next_to_switch(node: Daemon) -> None:
    first = made_key(node)
    done = node.hastctl("keygen", "--next")
    following = re.findall("[0-9a-f]{64}", done.stdout)[0]
    assert done.stdout.endswith("on this node: hastctl keygen --switch\n")
    assert node.hastctl("keygen", "--show").stdout == f"{first}\n{following} (next)\n"
    again = node.hastctl("keygen", "--next")
    assert again.returncode == 73
    assert "hastctl keygen --switch" in again.stderr
    assert node.hastctl("keygen", "--switch").stdout.startswith(f"fingerprint {following}\n")
    assert node.hastctl("keygen", "--show").stdout == f"{following}\n"


def test_a_key_that_the_other_node_would_refuse_is_not_changed_to(node: Daemon) -> None:
    first = made_key(node)
    following = re.findall("[0-9a-f]{64}", node.hastctl("keygen", "--next").stdout)[0]
    configure(node, free_port(), own=first, peer=OTHER_KEY)
    done = node.hastctl("keygen", "--switch")
    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)
    assert fingerprint_line(NAME, following) in done.stderr
    assert node.hastctl("keygen", "--show").stdout.startswith(f"{first}\n")


# --- trust --------------------------------------------------------------------------------------------------------


def test_trust_shows_a_key_that_is_not_in_hast_conf_and_the_line_for_it(node: Daemon, other: tuple[int, str]) -> None:
    port, fingerprint = other
    configure(node, port)
    done = node.hastctl("trust")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"tcp4://127.0.0.1:{port}: fingerprint {fingerprint}",
        "    not in hast.conf yet: compare it with what 'hastctl keygen --show' says there, then add on both nodes",
        f"    {fingerprint_line('other', fingerprint)}",
    ]


@pytest.mark.parametrize("target", [(), ("disk1",), ("address",)])
def test_trust_says_that_the_key_is_the_one_of_hast_conf(
    node: Daemon, other: tuple[int, str], target: tuple[str, ...]
) -> None:
    port, fingerprint = other
    configure(node, port, peer=fingerprint.upper())
    done = node.hastctl("trust", *(each.replace("address", f"127.0.0.1:{port}") for each in target))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"fingerprint {fingerprint}\n    matches hast.conf\n")


def test_trust_fails_loudly_for_another_key_than_that_of_hast_conf(node: Daemon, other: tuple[int, str]) -> None:
    port, fingerprint = other
    configure(node, port, peer=OTHER_KEY)
    done = node.hastctl("trust")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith(f"DIFFERS: tcp4://127.0.0.1:{port} shows the fingerprint {fingerprint}, ")
    assert OTHER_KEY in done.stderr


def test_trust_knows_the_key_of_this_node_when_the_address_leads_back(
    node: Daemon, other: tuple[int, str], tmp_path: Path
) -> None:
    port, fingerprint = other
    configure(node, port)
    node.environment_more["HAST_STATE"] = str(tmp_path / "other")
    done = node.hastctl("trust")
    assert done.returncode == 1
    assert done.stderr.startswith(f"DIFFERS: tcp4://127.0.0.1:{port} shows the key of this node, {fingerprint}: ")


def test_trust_looks_at_an_address_while_hast_conf_cannot_be_read(node: Daemon, other: tuple[int, str]) -> None:
    port, fingerprint = other
    configure(node, port, inside="tls required")
    assert node.hastctl("trust").returncode == 78
    done = node.hastctl("trust", f"127.0.0.1:{port}")
    assert done.returncode == 0
    assert done.stderr.startswith("Compared with nothing: ")
    assert f"on NODE {{ fingerprint {fingerprint} }}" in done.stdout


def test_the_other_node_is_called_from_the_source_of_its_resource(node: Daemon) -> None:
    callers: list[str] = []
    with serving(lambda client: callers.append(client.getpeername()[0])) as port:
        node.write_config({"disk1": f"remote tcp4://127.0.0.1:{port} source 127.0.0.3"})
        node.hastctl("trust")
    assert callers == ["127.0.0.3"]


def test_a_node_that_does_not_answer_is_told_in_one_line(node: Daemon) -> None:
    done = node.hastctl("trust")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (69, "", 1)
    assert "does not answer: Connection refused; is hastd running there?" in done.stderr


def test_a_node_that_speaks_no_tls_is_told_in_one_line(node: Daemon) -> None:
    with serving(lambda client: client.recv(1)) as port:
        configure(node, port)
        done = node.hastctl("trust", "disk1")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (69, "", 1)
    assert "speaks no TLS 1.3 (it closed the connection): FreeBSD, a release before this one" in done.stderr


def test_a_node_that_says_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "ANSWER_LIMIT_S", 0.2)
    silent = threading.Event()
    with serving(lambda _client: silent.wait(10)) as port:
        with pytest.raises(trust.Failure, match="it said nothing in time") as caught:
            trust.shown_fingerprint(f"127.0.0.1:{port}")
        silent.set()
    assert caught.value.exit_code == 69


def test_what_is_neither_a_resource_nor_an_address_is_wrong_usage(node: Daemon) -> None:
    done = node.hastctl("trust", "a/b")
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)


def test_trust_without_another_node_asks_for_an_address(node: Daemon) -> None:
    node.write_config({"disk1": "remote none"})
    done = node.hastctl("trust")
    assert done.returncode == 64
    assert "hastctl trust ADDRESS" in done.stderr


def test_an_address_of_no_resource_is_compared_with_what_is_known_of_any_other_node() -> None:
    resources = {
        name: Resource(name, name, f"/{name}", (f"10.0.0.{number}",), source, peer_fingerprints=(str(number),))
        for number, name, source in ((0, "a", None), (1, "b", "10.0.0.5"))
    }
    names = {"a": NodeNames(("x",), ("y",)), "b": NodeNames(("x",), ("z",))}
    configuration = Configuration("hast.conf", resources=resources, node_names=names)
    assert trust.expected(configuration, "tcp://10.0.0.1:8457") == trust.Expected(("1",), ("z",), "10.0.0.5")
    assert trust.expected(configuration, "10.0.0.9") == trust.Expected(("0", "1"), ("y", "z"), "10.0.0.5")


# --- check --------------------------------------------------------------------------------------------------------


def test_check_warns_of_open_links_and_does_not_fail(node: Daemon) -> None:
    done = node.hastctl("check")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: disk1, disk2: the link is neither encrypted nor authenticated: ")
    assert len(done.stderr.splitlines()) == 1


def test_check_is_silent_about_a_pair_that_knows_each_other(node: Daemon) -> None:
    configure(node, free_port(), own=made_key(node), peer=OTHER_KEY)
    done = node.hastctl("check")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_says_who_makes_the_records_of_an_encrypted_link_and_why(node: Daemon) -> None:
    assert "tls in:" not in node.hastctl("check").stdout
    configure(node, free_port(), own=made_key(node), peer=OTHER_KEY)
    node.environment_more["HAST_KERNEL_TLS"] = "off"
    said = node.hastctl("check").stdout.splitlines()
    assert said[-1] == "tls in: user space (not the kernel: HAST_KERNEL_TLS is off)"
    assert tls_taken("") == "tls in: the kernel"


def test_check_warns_of_a_missing_key(node: Daemon) -> None:
    configure(node, free_port(), own="cd" * 32, peer=OTHER_KEY)
    done = node.hastctl("check")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: fingerprints are configured, and this node cannot show a key: there is no ")


def test_check_fails_for_a_key_that_the_other_node_would_refuse(node: Daemon) -> None:
    fingerprint = made_key(node)
    configure(node, free_port(), own="cd" * 32, peer=OTHER_KEY)
    done = node.hastctl("check")
    assert done.returncode == 78
    assert done.stderr.startswith("error: disk1, disk2: the other node would refuse this one: ")
    assert fingerprint_line(NAME, fingerprint) in done.stderr


def test_check_warns_of_a_key_that_others_can_read(node: Daemon) -> None:
    configure(node, free_port(), own=made_key(node), peer=OTHER_KEY)
    (state(node) / node_key.KEY).chmod(0o640)
    done = node.hastctl("check")
    assert done.returncode == 0
    assert done.stderr == f"warning: {state(node)}/node.key can be read by others: chmod 600 {state(node)}/node.key\n"


def test_a_link_through_wireguard_or_ipsec_is_not_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ways = {"127.0.0.1": "wg0", "127.0.0.2": "eth1", "127.0.0.3": "eth1"}
    monkeypatch.setenv("HAST_STATE", str(tmp_path))
    monkeypatch.setattr(remote, "device_to", lambda address, _index: ways[str(address)])
    monkeypatch.setattr(remote, "is_wireguard", lambda device: device == "wg0")
    monkeypatch.setattr(remote.ipsec, "is_used_to", lambda address: str(address) == "127.0.0.3")

    def said(*remotes: str) -> int:
        return len(check.link_findings(Configuration("hast.conf", resources={"a": Resource("a", "a", "/a", remotes)})))

    assert said("127.0.0.1") == 0
    assert said("127.0.0.2") == 1
    assert said("127.0.0.1", "127.0.0.2") == 1
    assert said("127.0.0.1", "127.0.0.3") == 0


def test_the_way_to_an_address_is_that_of_the_kernel() -> None:
    assert remote.device_to(ip_address("127.0.0.1"), 0) == "lo"
    assert not remote.is_tunnelled("tcp4://127.0.0.1")
    assert not remote.is_tunnelled("no-such-host.invalid")
