"""hast-monitor as a process: two real hastd behind it, or none. No root."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import Pair, io, needs_qemu_io
from secure_pair import configure, keygen

pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from daemon import DIES_WITH_THE_TESTS, Daemon, free_port, wait_for
from hast.cli.hast_monitor import main

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Monitor:
    """The command, asked over HTTP."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        self.port = free_port()
        self.log_path = daemon.directory / "monitor.log"
        command = [*DIES_WITH_THE_TESTS, sys.executable, "-m", "hast.cli.hast_monitor"]
        with self.log_path.open("ab") as log:
            options = ("-l", f"127.0.0.1:{self.port}", *arguments)
            self.process = subprocess.Popen([*command, *options], env=daemon.environment, stdout=log, stderr=log)
        wait_for(lambda: "Serving on" in self.log_path.read_text(), "the monitor")

    def get(self, path: str = "/metrics", accept: str = "") -> tuple[str, str]:
        """Body and content type."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.read().decode(), str(answer.headers["Content-Type"])

    def samples(self, family: str) -> list[Sample]:
        """All of this family. Both nodes have one name here: they run on one host."""
        families = text_string_to_metric_families(self.get()[0])
        return [sample for each in families if each.name == family for sample in each.samples]

    def up(self) -> list[float]:
        return [sample.value for sample in self.samples("hast_up")]

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0
        assert "Traceback" not in self.log_path.read_text(), self.log_path.read_text()


@pytest.fixture
def secure(make_daemon: MakeDaemon) -> Pair:
    made = Pair(make_daemon(fake=False), make_daemon(fake=False))
    one, two = made.both
    first, second = keygen(one), keygen(two)
    configure(one, two.port, [first], [second])
    configure(two, one.port, [second], [first])
    return made


@pytest.fixture
def monitor(secure: Pair) -> Iterator[Monitor]:
    made = Monitor(secure.one)
    yield made
    made.stop()


@needs_qemu_io
def test_the_page_is_there_before_hastd_while_it_serves_and_after_its_end(secure: Pair, monitor: Monitor) -> None:
    assert monitor.up() == [0]
    secure.bring_up()
    io(secure.one, "write -P 7 0 1M", "flush", "read -P 7 0 1M")
    wait_for(lambda: monitor.up() == [1, 1], "both nodes")
    body, kind = monitor.get(accept=OPEN_METRICS)
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert monitor.get()[1].startswith("text/plain")

    roles = {sample.labels["role"] for sample in monitor.samples("hast_resource_role") if sample.value == 1}
    assert roles == {"primary", "secondary"}
    assert {sample.labels["copy"] for sample in monitor.samples("hast_io_latency_seconds")} == {"local", "peer"}
    written = [each.value for each in monitor.samples("hast_io_bytes") if each.labels["operation"] == "write"]
    assert max(written) == 1 << 20
    secure.one.stop()
    wait_for(lambda: monitor.up() == [0], "hastd gone")


@pytest.mark.parametrize(
    ("listen", "words"), [("unix:///tmp/x", "is no TCP address"), ("tcp9://x", "has no known prefix")]
)
def test_an_address_that_is_none_is_said_in_one_line(
    listen: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-l", listen])
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n")) == (78, 1)
    assert words in told


def test_an_address_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "hast.cli.hast_monitor", "-l", listen]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (75, 1), done.stderr
    assert f"cannot listen on tcp4://{listen}" in done.stderr
