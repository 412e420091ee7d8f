"""Ready-made receivers against real programs and servers."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import shutil
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hast.config.notify_model import Kind, Receiver, Topic
from hast.watch.notify.decisions.message import State, make
from hast.watch.notify.receivers import Batch, DeliveryError, deliver

MESSAGE = make(Topic.SPLIT_BRAIN, State.BEGUN, "disk1", "Both nodes have writes.", 1_700_000_000.0)
BATCH = Batch([MESSAGE], "east", 3)


def send(receiver: Receiver, batch: Batch = BATCH) -> None:
    asyncio.run(deliver(receiver, batch))


def trouble(receiver: Receiver) -> str:
    with pytest.raises(DeliveryError) as raised:
        send(receiver)
    return str(raised.value)


def test_a_mail_is_given_to_sendmail(sendmail: Path, tmp_path: Path) -> None:
    send(Receiver(Kind.MAIL, "ops@example.org", sender="hast@example.org", sendmail=str(sendmail)))
    assert (tmp_path / "arguments").read_text() == "-i -f hast@example.org -- ops@example.org\n"
    mail = email.message_from_string((tmp_path / "mail").read_text(), policy=email.policy.default)
    assert mail["To"] == "ops@example.org"
    assert mail["From"] == "hast@example.org"
    assert mail["Subject"] == "hast on east: disk1: split-brain: Both nodes have writes."
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert "2023-11-14 22:13:20Z  critical  disk1: split-brain: Both nodes have writes." in text
    assert "3 earlier messages could not be delivered." in text


def test_a_mail_arrives_by_a_real_mail_program(smtp: tuple[int, list[str]], tmp_path: Path) -> None:
    msmtp = shutil.which("msmtp")
    if msmtp is None:
        pytest.skip("msmtp is not installed")
    port, mails = smtp
    config = tmp_path / "msmtprc"
    config.write_text(f"account default\nhost 127.0.0.1\nport {port}\nfrom hast@east\n")
    config.chmod(0o600)
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\nexec {msmtp} -C {config} "$@"\n')
    program.chmod(0o755)
    send(Receiver(Kind.MAIL, "root@example.org", sendmail=str(program)))
    (mail,) = mails
    assert "To: root@example.org" in mail
    assert "split-brain: Both nodes have writes." in mail


def test_text_of_a_message_makes_no_header(sendmail: Path, tmp_path: Path) -> None:
    hostile = make(Topic.DEGRADED, State.BEGUN, "disk1", "x\r\nBcc: all@example.org\r\n\r\n.\r\nmore", 0.0)
    send(Receiver(Kind.MAIL, "root", sendmail=str(sendmail)), Batch([hostile], "east", 0))
    mail = email.message_from_string((tmp_path / "mail").read_text(), policy=email.policy.default)
    assert mail["Bcc"] is None
    assert "more" in mail.get_content()


def test_a_webhook_gets_json(web: Any) -> None:
    send(Receiver(Kind.WEBHOOK, web.url, headers=(("Authorization", "Bearer x"),)))
    assert web.headers["Authorization"] == "Bearer x"
    assert web.headers["Content-Type"] == "application/json"
    assert web.taken == [
        {
            "host": "east",
            "text": "hast on east: disk1: split-brain: Both nodes have writes.",
            "lost": 3,
            "messages": [
                {
                    "event": "split-brain",
                    "state": "begun",
                    "level": "critical",
                    "resource": "disk1",
                    "text": "Both nodes have writes.",
                    "time": 1_700_000_000.0,
                    "next_step": "find out which node has the data to keep: hastctl status disk1, on both",
                }
            ],
        }
    ]


@pytest.mark.parametrize("status", [500, 404, 429, 302, 301])
def test_an_answer_that_is_not_good_is_a_failure_and_nothing_is_sent_elsewhere(web: Any, status: int) -> None:
    web.answers = [status]
    assert trouble(Receiver(Kind.WEBHOOK, web.url)) == f"HTTP status {status}"
    assert web.statuses == [status]


def test_a_webhook_that_nobody_serves_is_a_failure_that_shows_no_secret() -> None:
    assert trouble(Receiver(Kind.WEBHOOK, "http://127.0.0.1:9/secret")) == "Connection refused"


def test_a_webhook_that_never_answers_ends_by_its_deadline() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert trouble(Receiver(Kind.WEBHOOK, url, timeout_s=1)) in (
            "no answer within 1 s",
            "timed out",
            "TimeoutError: timed out",
        )
        assert time.monotonic() - started < 10


def test_a_webhook_over_tls_is_believed_by_its_ca_alone(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    made += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_address[1]}/"
        assert "certificate verify failed" in trouble(Receiver(Kind.WEBHOOK, url)).lower().replace("_", " ")
        send(Receiver(Kind.WEBHOOK, url, ca=str(certificate)))
        assert len(taken) == 1
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_command_gets_variables_and_json(tmp_path: Path) -> None:
    command = (
        f'echo "$HAST_EVENT $HAST_RESOURCE $HAST_LEVEL $HAST_COUNT: $HAST_TEXT" >{tmp_path}/told; cat >{tmp_path}/json'
    )
    send(Receiver(Kind.COMMAND, command))
    assert (tmp_path / "told").read_text() == "split-brain disk1 critical 1: Both nodes have writes.\n"
    assert json.loads((tmp_path / "json").read_text())["messages"][0]["resource"] == "disk1"


def test_a_command_need_not_read_and_may_print_much() -> None:
    many = Batch([make(Topic.DEGRADED, State.BEGUN, "d", "x" * 900, 0.0)] * 200, "east", 0)
    send(Receiver(Kind.COMMAND, "exec 0<&-; yes | head -c 300000"), many)


def test_a_command_that_fails_says_why() -> None:
    assert trouble(Receiver(Kind.COMMAND, "echo no such list >&2; exit 3")) == "exit code 3: no such list"
    assert trouble(Receiver(Kind.MAIL, "root", sendmail="/nonexistent")) == (
        "/nonexistent cannot be run: No such file or directory"
    )


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    command = f"sleep 1000 & echo $! >{tmp_path}/child; wait"
    assert trouble(Receiver(Kind.COMMAND, command, timeout_s=1)) == "not done after 1 s"
    child = int((tmp_path / "child").read_text())
    status = Path(f"/proc/{child}/stat")
    until = time.monotonic() + 5
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < until
        time.sleep(0.02)


def test_text_of_a_message_is_no_command(tmp_path: Path) -> None:
    hostile = make(Topic.DEGRADED, State.BEGUN, "$(touch x)", f"`touch {tmp_path}/evil`; touch {tmp_path}/evil", 0.0)
    send(Receiver(Kind.COMMAND, 'printf "%s" "$HAST_TEXT" >/dev/null'), Batch([hostile], "east", 0))
    assert not (tmp_path / "evil").exists()
