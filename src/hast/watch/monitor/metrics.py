"""The page of metrics, made of a picture of both nodes. No I/O; the library words it (prometheus-client)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hast.format.constants import Role
from hast.watch.catalogue import Level
from hast.watch.monitor.names import BY_NAME, METRICS, Kind
from hast.watch.picture import Node, Picture, Status
from hast.watch.problems import find

STATUSES = ("complete", "synchronizing", "degraded")
DIRECTIONS = ("to-peer", "from-peer")
CARP_STATES = ("INIT", "BACKUP", "MASTER")
_OPERATIONS = {"read": "reads", "write": "writes", "delete": "deletes", "flush": "flushes"}
_WITH_BYTES = ("read", "write", "delete")
_FAMILIES: dict[Kind, Callable[..., Metric]] = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}
_T = TypeVar("_T")


class Page:
    """Takes values in any order."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {
            each.name: _FAMILIES[each.kind](each.name, each.help, labels=each.labels) for each in METRICS
        }

    def add(self, name: str, labels: tuple[str, ...], value: Any) -> None:
        """What is not a number is left out. A metric that is not in names.py raises KeyError."""
        assert len(labels) == len(BY_NAME[name].labels), name
        if isinstance(value, (int, float)):
            self._families[name].add_metric(labels, float(value))

    def one_of(self, name: str, labels: tuple[str, ...], present: object, values: Iterable[str]) -> None:
        """A series for each value, 1 for the present one."""
        for value in values:
            self.add(name, (*labels, value), value == present)

    def histogram(self, name: str, labels: tuple[str, ...], times: Mapping[str, Any]) -> None:
        """`times` as in `latency` of a status object. One that is not whole is left out."""
        below, buckets = 0, []
        try:
            for upper_s, count in times["buckets"]:
                below += int(count)
                buckets.append(("+Inf" if upper_s is None else repr(float(upper_s)), below))
            if buckets and buckets[-1][0] == "+Inf":
                self._families[name].add_metric(labels, buckets, float(times["sum_s"]))
        except (KeyError, TypeError, ValueError):
            return

    def collect(self) -> list[Metric]:
        """The families that have values."""
        return [family for family in self._families.values() if family.samples]


class Exporter:
    """Remembers from one picture to the next what hastd does not tell."""

    def __init__(self) -> None:
        self._host_of: dict[str, str] = {}
        """What the node with the other copy of a resource called itself when it answered last."""
        self._alone_since_s: dict[tuple[str, str], float] = {}

    def page(self, picture: Picture, now_s: float) -> Page:
        """`now_s`: seconds since 1970."""
        page = Page()
        names = self._names(picture)
        for node in picture.nodes:
            name = names[node.name]
            if node.is_here or node.is_asked:
                page.add("hast_up", (name,), not node.error)
            if not node.error:
                self._add_node(page, node)
        for each in find(picture, now_s):
            if each.level is not Level.OK:
                node_name = names.get(each.node, each.node)
                page.add("hast_problem", (node_name, each.resource, each.code, each.level.name.lower()), 1)
        return page

    def _names(self, picture: Picture) -> dict[str, str]:
        """A node that does not answer keeps the name that it had when it did."""
        names = {node.name: node.name for node in picture.nodes}
        for pair in picture.pairs:
            if pair.other is None:
                continue
            if not pair.other.error:
                self._host_of[pair.name] = pair.other.name
            elif pair.name in self._host_of:
                names[pair.other.name] = self._host_of[pair.name]
        return names

    def _add_node(self, page: Page, node: Node) -> None:
        page.add("hast_build_info", (node.name, node.release), 1)
        for resource, status in node.resources.items():
            labels = (node.name, resource)
            _add_resource(page, labels, status)
            _add_figures(page, labels, status)
            page.add("hast_resource_without_second_copy_seconds", labels, self._alone_s(labels, node, status))
        for vhid in node.vhids:
            _add_vhid(page, node.name, vhid)
        if node.failover is not None:
            _add_failover(page, node.name, node.failover)

    def _alone_s(self, labels: tuple[str, str], node: Node, status: Status) -> float | None:
        """None where it is not primary, or there is no second copy by intention."""
        if status.get("role") != Role.PRIMARY or status.get("remoteaddr") == "none":
            self._alone_since_s.pop(labels, None)
            return None
        if status.get("status") == "complete":
            self._alone_since_s.pop(labels, None)
            return 0.0
        apart_s = _object(status.get("not_connected")).get("since")
        since_s = min(self._alone_since_s.get(labels, node.time_s), _number(apart_s, node.time_s))
        self._alone_since_s[labels] = since_s
        return max(0.0, node.time_s - since_s)


def _add_verify(page: Page, labels: tuple[str, str], status: Status) -> None:
    """A comparison of both copies that is under way, and what the last one found."""
    verify, last = _object(status.get("verify")), _object(status.get("last_verify"))
    if verify:
        total, checked = _number(verify.get("total_bytes"), 0.0), _number(verify.get("checked_bytes"), 0.0)
        page.add("hast_verify_progress_ratio", labels, min(1.0, checked / total) if total else 0.0)
    if last:
        began_s, ended_s = _number(last.get("began"), 0.0), _number(last.get("ended"), 0.0)
        differing = _number(last.get("differing_bytes"), 0.0) - _number(last.get("repaired_bytes"), 0.0)
        page.add("hast_verify_last_end_timestamp_seconds", labels, ended_s)
        page.add("hast_verify_last_duration_seconds", labels, max(0.0, ended_s - began_s))
        page.add("hast_verify_last_checked_bytes", labels, last.get("checked_bytes"))
        page.add("hast_verify_last_differing_bytes", labels, max(0.0, differing))
        page.add("hast_verify_last_unreadable_bytes", labels, last.get("unreadable_bytes"))


def _add_resource(page: Page, labels: tuple[str, str], status: Status) -> None:
    """What is true of it now."""
    page.one_of("hast_resource_role", labels, status.get("role"), (str(role) for role in Role))
    page.one_of("hast_resource_status", labels, status.get("status"), STATUSES)
    page.add("hast_resource_connected", labels, status.get("connected"))
    page.add("hast_resource_size_bytes", labels, status.get("datasize"))
    page.add("hast_resource_at_risk_bytes", labels, status.get("at_risk_bytes"))
    page.add("hast_resource_dirty_bytes", labels, status.get("dirty"))
    for copy, missing in _object(status.get("missing_bytes")).items():
        page.add("hast_resource_out_of_sync_bytes", (*labels, copy), missing)
    page.add("hast_resource_inconsistent", labels, status.get("inconsistent"))
    page.add("hast_resource_stale", labels, status.get("stale"))
    page.add("hast_resource_split_brain", labels, bool(status.get("split_brain")))
    sync = _object(status.get("sync"))
    page.one_of("hast_resync_active", labels, sync.get("direction"), DIRECTIONS)
    if sync:
        total, done = _number(sync.get("total_bytes"), 0.0), _number(sync.get("done_bytes"), 0.0)
        page.add("hast_resync_progress_ratio", labels, min(1.0, done / total) if total else 0.0)
        page.add("hast_resync_bytes_per_second", labels, sync.get("rate_bytes_s"))
        page.add("hast_resync_left_seconds", labels, sync.get("left_s"))
    _add_verify(page, labels, status)
    lease = _object(status.get("arbiter"))
    if lease:
        page.add("hast_arbiter_lease_left_seconds", labels, lease.get("lease_left_s"))
        page.add("hast_arbiter_may_write", labels, lease.get("verdict") == "serve")
        page.add("hast_arbiter_alone", labels, lease.get("alone"))


def _add_figures(page: Page, labels: tuple[str, str], status: Status) -> None:
    """What its worker has counted; nothing where there is none."""
    page.add("hast_worker_restarts_total", labels, status.get("restarts"))
    if not status.get("workerpid"):
        return
    counted = _object(status.get("statistics"))
    for operation, plural in _OPERATIONS.items():
        page.add("hast_io_operations_total", (*labels, operation), counted.get(plural))
        page.add("hast_io_errors_total", (*labels, operation), counted.get(f"{operation}_errors"))
    for operation in _WITH_BYTES:
        page.add("hast_io_bytes_total", (*labels, operation), counted.get(f"{operation}_bytes"))
    page.add("hast_activemap_updates_total", labels, counted.get("activemap_updates"))
    for operation, copies in _object(status.get("latency")).items():
        for copy, times in _object(copies).items():
            page.histogram("hast_io_latency_seconds", (*labels, operation, copy), _object(times))
    links = _object(status.get("links"))
    page.add("hast_link_sent_bytes_total", labels, links.get("sent_bytes"))
    page.add("hast_link_received_bytes_total", labels, links.get("received_bytes"))


def _add_vhid(page: Page, node: str, vhid: Mapping[str, Any]) -> None:
    labels = (node, str(vhid.get("vhid")), str(vhid.get("interface")))
    counts = _object(vhid.get("counts"))
    page.one_of("hast_carp_state", labels, vhid.get("state"), CARP_STATES)
    page.add("hast_carp_last_change_timestamp_seconds", labels, vhid.get("since"))
    page.add("hast_carp_became_master_total", labels, counts.get("became_master"))
    if counts:
        bad = _number(counts.get("bad_auth"), 0.0) + _number(counts.get("replayed"), 0.0)
        page.add("hast_carp_bad_advertisements_total", labels, bad)
    page.add("hast_carp_send_errors_total", labels, counts.get("send_errors"))


def _add_failover(page: Page, node: str, run: Mapping[str, Any]) -> None:
    """A run that is under way, or gave way to another one, has no outcome."""
    labels = (node, str(run.get("verb")))
    began_s, ended_s = run.get("started_s"), run.get("finished_s")
    if run.get("phase") not in ("done", "failed"):
        return
    page.add("hast_failover_last_success", labels, run.get("phase") == "done")
    page.add("hast_failover_last_end_timestamp_seconds", labels, ended_s)
    if isinstance(began_s, (int, float)) and isinstance(ended_s, (int, float)):
        page.add("hast_failover_last_duration_seconds", labels, max(0.0, ended_s - began_s))


def _object(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _number(found: Any, otherwise: float) -> float:
    return float(found) if isinstance(found, (int, float)) else otherwise
