"""The page for Prometheus, as its own parser reads it: what is true of both nodes, by the names that are documented."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pictures import healthy

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hast.replication.latency import Histogram
from hast.watch.monitor.metrics import Exporter
from hast.watch.monitor.names import METRICS, Kind
from hast.watch.picture import Picture, read, unknown

ROOT = Path(__file__).resolve().parents[2]
NOW_S = 1000.0
A = {"node": "hasta", "resource": "disk1"}
B = {"node": "hastb", "resource": "disk1"}
FULL: dict[str, Any] = {
    "workerpid": 7,
    "restarts": 2,
    "datasize": 1 << 30,
    "remoteaddr": "tcp4://10.0.0.2",
    "at_risk_bytes": 4096,
    "missing_bytes": {"local": 0, "peer": 8192},
    "inconsistent": False,
    "stale": False,
    "links": {"sent_bytes": 11, "received_bytes": 12},
    "arbiter": {"verdict": "serve", "lease_left_s": 2.5, "epoch": 1, "alone": False},
    "statistics": {
        "reads": 1,
        "writes": 2,
        "deletes": 3,
        "flushes": 4,
        "activemap_updates": 5,
        "read_errors": 6,
        "write_errors": 7,
        "delete_errors": 8,
        "flush_errors": 9,
        "read_bytes": 10,
        "write_bytes": 20,
        "delete_bytes": 30,
    },
    "sync": {"direction": "to-peer", "total_bytes": 100, "done_bytes": 40, "rate_bytes_s": 7, "left_s": 9},
    "verify": {"total_bytes": 100, "checked_bytes": 25},
    "last_verify": {
        "began": 100,
        "ended": 160,
        "checked_bytes": 90,
        "differing_bytes": 8192,
        "repaired_bytes": 4096,
        "unreadable_bytes": 512,
    },
}


def times(*seconds: float) -> dict[str, Any]:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return {"count": histogram.count, "sum_s": histogram.sum_s, "buckets": histogram.shown()}


def full() -> dict[str, Any]:
    """A report in which everything is known, as it comes through JSON."""
    reply = healthy()
    latency = {"write": {"local": times(0.001, 0.002), "peer": times(0.1)}}
    reply["node"]["resources"][0].update(FULL, latency=latency)
    reply["node"]["failover"] = {"verb": "master", "phase": "done", "started_s": 900.0, "finished_s": 902.5}
    counts = {"became_master": 3, "bad_auth": 1, "replayed": 2, "send_errors": 4}
    reply["node"]["carp"]["vhids"][0].update(interface="eth0", since=950.0, counts=counts)
    reply["peers"][0]["node"]["resources"][0].update(at_risk_bytes=None, statistics=FULL["statistics"], workerpid=8)
    decoded: dict[str, Any] = json.loads(json.dumps(reply))
    return decoded


class Scrape:
    """One page, read by the library's parser."""

    def __init__(self, picture: Picture, exporter: Exporter | None = None, now_s: float = NOW_S) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register((exporter or Exporter()).page(picture, now_s))  # type: ignore[arg-type]
        self.text = generate_latest(registry).decode()
        self.families = {each.name: each for each in text_string_to_metric_families(self.text)}
        self.samples = [sample for each in self.families.values() for sample in each.samples]

    def value(self, name: str, labels: Mapping[str, str], **more: str) -> float | None:
        wanted = {**labels, **more}
        found = [each.value for each in self.samples if each.name == name and each.labels == wanted]
        assert len(found) < 2, (name, wanted)
        return found[0] if found else None


@pytest.fixture
def page() -> Scrape:
    return Scrape(read(full()))


def test_every_metric_is_on_a_full_page_with_its_kind_and_meaning(page: Scrape) -> None:
    missing = {"hast_problem", "hast_resource_status"}
    for metric in METRICS:
        family = page.families.get(metric.name.removesuffix("_total"))
        if family is None:
            assert metric.name in missing, metric.name
            continue
        assert (family.type, family.documentation) == (str(metric.kind), metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
    assert set(page.families) <= {metric.name.removesuffix("_total") for metric in METRICS}


def test_names_follow_the_convention() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"hast(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert not re.search(r"_(ms|milliseconds|mb|kb|kib|mib|percent|s)(_|$)", metric.name), "base units"
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_manual_page_lists_just_these_metrics_with_kind_labels_and_meaning() -> None:
    text = (ROOT / "docs" / "hast-monitor.8.md").read_text()
    rows = re.findall(r"^\| `(hast_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", text, re.M)
    written = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning) for name, kind, labels, meaning in rows]
    assert written == [(each.name, str(each.kind), each.labels, each.help) for each in METRICS]


def test_what_both_nodes_say_is_told_by_their_names(page: Scrape) -> None:
    assert page.value("hast_up", {"node": "hasta"}) == page.value("hast_up", {"node": "hastb"}) == 1
    assert [page.value("hast_resource_role", A, role=role) for role in ("init", "primary", "secondary")] == [0, 1, 0]
    assert [page.value("hast_resource_role", B, role=role) for role in ("init", "primary", "secondary")] == [0, 0, 1]
    assert page.value("hast_resource_status", A, status="complete") == 1
    assert page.value("hast_resource_connected", A) == 1
    assert page.value("hast_resource_at_risk_bytes", A) == 4096
    assert page.value("hast_resource_at_risk_bytes", B) is None
    assert page.value("hast_resource_out_of_sync_bytes", A, copy="peer") == 8192
    assert page.value("hast_io_operations_total", A, operation="flush") == 4
    assert page.value("hast_io_bytes_total", B, operation="write") == 20
    assert page.value("hast_io_errors_total", A, operation="delete") == 8
    assert page.value("hast_resync_active", A, direction="to-peer") == 1
    assert page.value("hast_resync_progress_ratio", A) == 0.4
    assert page.value("hast_verify_progress_ratio", A) == 0.25
    assert page.value("hast_verify_last_end_timestamp_seconds", A) == 160
    assert page.value("hast_verify_last_duration_seconds", A) == 60
    assert page.value("hast_verify_last_differing_bytes", A) == 4096
    assert page.value("hast_verify_last_differing_bytes", B) is None
    assert page.value("hast_resync_active", B, direction="to-peer") == 0
    assert page.value("hast_resync_progress_ratio", B) is None
    assert page.value("hast_arbiter_lease_left_seconds", A) == 2.5
    vhid = {"node": "hasta", "vhid": "1", "interface": "eth0"}
    assert page.value("hast_carp_state", vhid, state="MASTER") == 1
    assert page.value("hast_carp_bad_advertisements_total", vhid) == 3
    assert page.value("hast_failover_last_duration_seconds", {"node": "hasta"}, verb="master") == 2.5


def test_latency_is_a_histogram_that_prometheus_can_add_up(page: Scrape) -> None:
    labels = A | {"operation": "write", "copy": "local"}
    assert page.value("hast_io_latency_seconds_count", labels) == 2
    assert page.value("hast_io_latency_seconds_sum", labels) == pytest.approx(0.003)
    assert page.value("hast_io_latency_seconds_bucket", labels, le="0.001024") == 1
    assert page.value("hast_io_latency_seconds_bucket", labels, le="0.002048") == 2
    assert page.value("hast_io_latency_seconds_bucket", labels, le="+Inf") == 2
    assert page.value("hast_io_latency_seconds_sum", A | {"operation": "write", "copy": "peer"}) == pytest.approx(0.1)


def test_a_hastd_that_does_not_answer_is_a_page_that_says_so() -> None:
    page = Scrape(unknown("hasta", "hastd cannot be asked"))
    assert page.value("hast_up", {"node": "hasta"}) == 0
    assert page.value("hast_problem", A | {"resource": ""}, code="hastd-down", level="unknown") == 1
    assert {family.name for family in page.families.values()} == {"hast_up", "hast_problem"}


def test_a_node_that_stops_answering_keeps_its_name() -> None:
    exporter = Exporter()
    reply = full()
    Scrape(read(reply), exporter)
    reply["peers"][0].update(node=None, error="10.0.0.2 does not answer.")
    page = Scrape(read(reply), exporter)
    assert page.value("hast_up", {"node": "hastb"}) == 0
    assert page.value("hast_resource_connected", B) is None
    assert page.value("hast_problem", {"node": "hastb", "resource": ""}, code="peer-unknown", level="warning") == 1


def test_a_node_that_is_not_asked_is_not_called_down() -> None:
    reply = full()
    reply["peers"][0].update(node=None, asked=False, error="The link has no keys.")
    page = Scrape(read(reply))
    assert [sample.labels["node"] for sample in page.families["hast_up"].samples] == ["hasta"]


def alone(exporter: Exporter, now_s: float, **changes: Any) -> float | None:
    reply = full()
    reply["node"]["time"] = now_s
    reply["node"]["resources"][0].update(changes)
    return Scrape(read(reply), exporter, now_s).value("hast_resource_without_second_copy_seconds", A)


def test_the_time_without_a_second_copy_runs_from_the_loss_to_the_end_of_the_copying() -> None:
    exporter = Exporter()
    lost: dict[str, Any] = {"status": "degraded", "connected": False, "not_connected": {"since": 1002.0, "reason": "x"}}
    copying: dict[str, Any] = {"status": "synchronizing", "not_connected": None}
    assert alone(exporter, 1000.0) == 0
    assert alone(exporter, 1010.0, **lost) == 8
    assert alone(exporter, 1030.0, **copying) == 28
    assert alone(exporter, 1040.0) == 0
    assert alone(exporter, 1050.0, **copying) == 0
    assert alone(exporter, 1055.0, **copying) == 5
    assert alone(exporter, 1060.0, role="secondary") is None
    assert alone(exporter, 1060.0, remoteaddr="none", **lost) is None, "there is no second copy by intention"


def test_a_report_with_holes_makes_a_page_with_holes() -> None:
    reply = full()
    reply["node"]["resources"][0].update(latency={"write": {"local": {"buckets": [["x", None]]}}}, links="?", sync=[1])
    reply["node"]["resources"][0].update(statistics=None, arbiter=7, restarts="many")
    reply["node"]["failover"] = {"phase": "running", "verb": "master"}
    page = Scrape(read(reply))
    assert page.value("hast_resource_connected", A) == 1
    for gone in (
        "hast_io_latency_seconds",
        "hast_link_sent_bytes",
        "hast_worker_restarts",
        "hast_failover_last_success",
    ):
        assert gone not in page.families or not [s for s in page.families[gone].samples if s.labels["node"] == "hasta"]


def test_what_no_worker_counts_is_not_told_as_nothing_done() -> None:
    reply = full()
    reply["node"]["resources"][0]["workerpid"] = 0
    assert Scrape(read(reply)).value("hast_io_operations_total", A, operation="read") is None
