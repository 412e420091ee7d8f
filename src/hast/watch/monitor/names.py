"""Every metric of hast-monitor(8): its name, kind, labels and meaning. docs/hast-monitor.8.md lists the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """As Prometheus calls them."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` as it is read: a counter's ends in `_total`. `help` is one sentence."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_NODE = ("node",)
_RESOURCE = ("node", "resource")


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, Kind.GAUGE, labels, text)


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, Kind.COUNTER, labels, text)


METRICS = (
    _gauge("hast_up", _NODE, "1 if hastd of the node answered; the other node is asked by hastd of this one."),
    _gauge("hast_build_info", (*_NODE, "release"), "Always 1; the release of hastd that runs."),
    _gauge(
        "hast_problem",
        (*_RESOURCE, "code", "level"),
        "1 for each thing that is wrong; level is warning, critical or unknown, hastctl explain CODE says more.",
    ),
    _gauge("hast_resource_role", (*_RESOURCE, "role"), "1 for the role in force, 0 for the others."),
    _gauge("hast_resource_status", (*_RESOURCE, "status"), "1 for the status in force, 0 for the others."),
    _gauge("hast_resource_connected", _RESOURCE, "1 if both nodes are connected, whatever their copies are."),
    _gauge("hast_resource_size_bytes", _RESOURCE, "Size of the device."),
    _gauge(
        "hast_resource_without_second_copy_seconds",
        _RESOURCE,
        "Of a primary: for how long one copy counts alone; 0 while both are equal.",
    ),
    _gauge(
        "hast_resource_at_risk_bytes",
        _RESOURCE,
        "Of a primary: at most so much that clients were promised would be lost with this node now.",
    ),
    _gauge("hast_resource_dirty_bytes", _RESOURCE, "Bytes in extents that differ or may differ."),
    _gauge(
        "hast_resource_out_of_sync_bytes",
        (*_RESOURCE, "copy"),
        "Of a primary: bytes that the copy lacks and that have to be copied to it; copy is local or peer.",
    ),
    _gauge("hast_resource_inconsistent", _RESOURCE, "1 if the local copy is mixed by an unfinished synchronisation."),
    _gauge("hast_resource_stale", _RESOURCE, "1 if the local copy missed writes that the other node has."),
    _gauge("hast_resource_split_brain", _RESOURCE, "1 if both nodes have changes that the other lacks."),
    _gauge(
        "hast_resync_active",
        (*_RESOURCE, "direction"),
        "1 while a copy is being made in this direction, to-peer or from-peer.",
    ),
    _gauge("hast_resync_progress_ratio", _RESOURCE, "How much of it is done, 0 to 1; absent without one."),
    _gauge("hast_resync_bytes_per_second", _RESOURCE, "Its rate; absent without one."),
    _gauge("hast_resync_left_seconds", _RESOURCE, "How long it will take; absent without one, or where not known."),
    _gauge("hast_verify_progress_ratio", _RESOURCE, "How much is compared, 0 to 1; absent without a verification."),
    _gauge(
        "hast_verify_last_end_timestamp_seconds",
        _RESOURCE,
        "When the last verification that this node made ended, seconds since 1970; absent where there was none.",
    ),
    _gauge("hast_verify_last_duration_seconds", _RESOURCE, "How long it took."),
    _gauge("hast_verify_last_checked_bytes", _RESOURCE, "How much it compared; less than the size if interrupted."),
    _gauge("hast_verify_last_differing_bytes", _RESOURCE, "What differed, and was not repaired."),
    _gauge("hast_verify_last_unreadable_bytes", _RESOURCE, "What could not be read on one of both copies."),
    _counter(
        "hast_io_operations_total",
        (*_RESOURCE, "operation"),
        "Operations of clients on a primary, of the primary on a secondary; read, write, delete or flush.",
    ),
    _counter("hast_io_bytes_total", (*_RESOURCE, "operation"), "Bytes of these; read, write or delete."),
    _counter("hast_io_errors_total", (*_RESOURCE, "operation"), "Operations that the local disk failed."),
    Metric(
        "hast_io_latency_seconds",
        Kind.HISTOGRAM,
        (*_RESOURCE, "operation", "copy"),
        "How long samples of reads and writes, and flushes, took; copy is local, or peer: with the network.",
    ),
    _counter("hast_activemap_updates_total", _RESOURCE, "Writes of the activemap to the local disk."),
    _counter("hast_link_sent_bytes_total", _RESOURCE, "Bytes sent to the other node."),
    _counter("hast_link_received_bytes_total", _RESOURCE, "Bytes received from the other node."),
    _counter("hast_worker_restarts_total", _RESOURCE, "How often the worker of a primary died and was replaced."),
    _gauge("hast_arbiter_lease_left_seconds", _RESOURCE, "Of a primary with an arbiter: how long its lease lasts."),
    _gauge("hast_arbiter_may_write", _RESOURCE, "Of a primary with an arbiter: 1 if it may answer writes."),
    _gauge(
        "hast_arbiter_alone",
        _RESOURCE,
        "Of a primary with an arbiter: 1 if it is on record that only this node has every write.",
    ),
    _gauge("hast_carp_state", (*_NODE, "vhid", "interface", "state"), "1 for the state in force, 0 for the others."),
    _gauge(
        "hast_carp_last_change_timestamp_seconds",
        (*_NODE, "vhid", "interface"),
        "When that state began, seconds since 1970.",
    ),
    _counter("hast_carp_became_master_total", (*_NODE, "vhid", "interface"), "How often the address was taken over."),
    _counter("hast_carp_bad_advertisements_total", (*_NODE, "vhid", "interface"), "Wrong pass phrase, or replayed."),
    _counter("hast_carp_send_errors_total", (*_NODE, "vhid", "interface"), "Advertisements that could not be sent."),
    _gauge(
        "hast_failover_last_duration_seconds",
        (*_NODE, "verb"),
        "How long the last run of failover took; verb is master or slave.",
    ),
    _gauge("hast_failover_last_success", (*_NODE, "verb"), "1 if it did all, 0 if a part failed."),
    _gauge("hast_failover_last_end_timestamp_seconds", (*_NODE, "verb"), "When it ended, seconds since 1970."),
)
BY_NAME = {metric.name: metric for metric in METRICS}
