"""A real Prometheus with the rules of the package watches the pair: healthy load is silent, a pulled cable is told."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.timeout(600)]

RULES = Path(__file__).resolve().parents[2] / "packaging" / "prometheus" / "hast.rules.yml"
SCRAPE_S = 15
TOLD_WITHIN_S = 30.0
SLACK_S = 15.0
"""For a machine that does other things too."""
HEALTHY_S = 75.0
LOAD = (
    "fio --name=load --filename=/dev/hast/disk1 --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=4"
    " --fsync=16 --size=24m --time_based --runtime=400 --rate_iops=200"
)
ASK = "import sys,urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=10).read().decode())"
CONFIGURATION = f"""
global: {{scrape_interval: {SCRAPE_S}s, evaluation_interval: 5s}}
rule_files: [/etc/hast.rules.yml]
scrape_configs:
  - job_name: hast
    static_configs: [{{targets: ['10.10.10.181:9457', '10.10.10.182:9457'], labels: {{pair: lab}}}}]
"""


class Prometheus:
    """On the host `client`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.path("/etc/hast.rules.yml").write_text(RULES.read_text())
        host.path("/etc/prometheus.yml").write_text(CONFIGURATION)
        options = "--config.file=/etc/prometheus.yml --storage.tsdb.path=/var/prometheus"
        self._server = host.spawn(f"prometheus {options} --web.listen-address=127.0.0.1:9090")
        host.wait_for("prometheus", lambda: len(self.query("up")) == 2, 60)

    def ask(self, path: str) -> Any:
        done = self.host.run(["python3", "-c", ASK, f"http://127.0.0.1:9090/api/v1/{path}"])
        return json.loads(done.stdout)["data"] if done.returncode == 0 else {}

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(f"query?query={urllib.parse.quote(expression)}").get("result", [])
        return found

    def alerts(self) -> set[str]:
        """Those that fire."""
        return {
            each["labels"]["alertname"] for each in self.ask("alerts").get("alerts", ()) if each["state"] == "firing"
        }


@pytest.fixture
def lab() -> Iterator[Lab]:
    for program in ("fio", "prometheus"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    configuration = one_disk.configuration("timeout 3")
    with Lab(("hast1", "hast2", "client"), configuration=configuration, disk_size_bytes=64 << 20) as lab:
        one_disk.trust(lab)
        one_disk.bring_up(lab)
        for host, address in ((lab.hast1, "10.10.10.181"), (lab.hast2, "10.10.10.182")):
            host.spawn(f"hast-monitor -l {address}")
        yield lab


def test_healthy_load_is_silent_and_a_pulled_cable_is_told_within_30_s(lab: Lab) -> None:
    prometheus = Prometheus(lab.hosts["client"])
    lab.hast1.spawn(LOAD)
    silent_until_s = time.monotonic() + HEALTHY_S
    while time.monotonic() < silent_until_s:
        assert prometheus.alerts() == set()
        time.sleep(3)
    of_writes = 'rate(hast_io_latency_seconds_bucket{operation="write", copy="peer"}[1m])'
    (latency,) = prometheus.query(f"histogram_quantile(0.99, sum by (le) ({of_writes}))")
    assert 0 < float(latency["value"][1]) < 5
    assert {each["metric"]["node"] for each in prometheus.query("hast_up == 1")} >= {"hast1.freebsd.loc"}

    lab.hast1.cable("repl").pull()
    pulled_s = time.monotonic()
    wait_for_alert(prometheus, "HastNoSecondCopy", TOLD_WITHIN_S + SLACK_S)
    print(f"HastNoSecondCopy fires {time.monotonic() - pulled_s:.1f} s after the cable was pulled")
    assert "HastSplitBrain" not in prometheus.alerts()
    (at_risk,) = prometheus.query("max(hast_resource_at_risk_bytes)")
    assert float(at_risk["value"][1]) > 0

    lab.hast1.cable("repl").plug()
    one_disk.wait_complete(lab.hast1)
    lab.hast1.wait_for("silence", lambda: not prometheus.alerts(), 90)

    for process in lab.hast2.processes(r"^hastd( |$|:)"):
        process.kill()
    killed_s = time.monotonic()
    wait_for_alert(prometheus, "HastDown", TOLD_WITHIN_S + SLACK_S)
    print(f"HastDown fires {time.monotonic() - killed_s:.1f} s after hastd was killed")


def wait_for_alert(prometheus: Prometheus, name: str, within_s: float) -> None:
    prometheus.host.wait_for(f"alert {name}", lambda: name in prometheus.alerts(), within_s)
