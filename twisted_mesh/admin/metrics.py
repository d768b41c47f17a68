"""The status of a node as metrics of Prometheus.

Contract: each scrape reads the status once.  A name never changes its meaning, and labels are bounded: by
links, by states and by the names of counters, tables and consumers, but not by authors or members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_mesh.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("up", "suspect", "down", "left")


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Reader(status))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Reader(Collector):
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> Iterator[Metric]:
        """No names, so that registering reads no status: the node need not run yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        node, history = status.node, status.history
        about = {"id": node.id, "label": node.label or "", "version": node.version, "subnet": node.subnet}
        yield InfoMetricFamily("mesh_node", "The node.", value=about)
        yield _gauge("mesh_uptime_seconds", "Seconds since the node was started.", node.uptime_seconds)
        yield _gauge("mesh_joined", "1 once a neighbour has sent its list of members.", node.joined)
        yield _counter("mesh_messages_sent", "Own messages in this run of the node.", node.messages_sent)
        yield _counter(
            "mesh_messages_delivered",
            "Messages of others that were handed to the application.",
            node.messages_delivered,
        )
        yield _gauge(
            "mesh_messages_waiting", "Own messages that no neighbour has taken yet.", node.messages_waiting
        )
        yield _gauge("mesh_links", "Links to neighbours.", len(status.links))
        states = Counter(member.state for member in status.members)
        yield _gauges("mesh_members", "Other members.", "state", {state: states[state] for state in STATES})
        yield from _of_links(status)
        yield _gauge("mesh_authors", "Runs of authors that are held.", len(status.authors))
        yield _gauge(
            "mesh_missing_messages",
            "Messages that are known to exist and have not come.",
            sum(author.missing for author in status.authors),
        )
        lags = {consumer.name: consumer.lag for consumer in status.consumers}
        yield _gauges(
            "mesh_delivery_lag_messages",
            "Messages that have come and that a consumer has not taken; without its name: the slowest.",
            "consumer",
            {"": sum(author.head - author.taken for author in status.authors), **lags},
        )
        yield _gauge("mesh_receipts_open", "Receipts that are not complete.", len(status.receipts))
        yield _gauge("mesh_history_memory_bytes", "Messages held in memory.", history.memory_bytes)
        yield _gauge("mesh_history_file_bytes", "Messages held in the history file.", history.file_bytes)
        yield _counters("mesh_dropped", "Items dropped or ignored.", "kind", status.dropped)
        yield _gauges("mesh_table_entries", "Entries, or bytes, of a table.", "table", status.footprint)
        yield _gauge("mesh_warnings", "Faults that are there now: see /status.", len(status.warnings))


def _of_links(status: Status) -> Iterator[Metric]:
    for name, told, kind in (
        ("received_bytes", "Bytes that came over the present link.", CounterMetricFamily),
        ("sent_bytes", "Bytes that went over the present link.", CounterMetricFamily),
        ("received_frames", "Frames that came over the present link.", CounterMetricFamily),
        ("sent_frames", "Frames that went over the present link.", CounterMetricFamily),
        ("queued_bytes", "Bytes that wait for the link.", GaugeMetricFamily),
    ):
        family = kind(f"mesh_link_{name}", told, labels=("peer",))
        for link in status.links:
            family.add_metric((link.peer,), getattr(link, name))
        yield family
    rtt = GaugeMetricFamily("mesh_link_rtt_seconds", "Round trip over the link.", labels=("peer",))
    for link in status.links:
        if link.round_trip_seconds is not None:
            rtt.add_metric((link.peer,), link.round_trip_seconds)
    yield rtt


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _counter(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(name, told, value=value)


def _gauges(name: str, told: str, label: str, values: dict[str, int]) -> Metric:
    return _labelled(GaugeMetricFamily(name, told, labels=(label,)), values)


def _counters(name: str, told: str, label: str, values: dict[str, int]) -> Metric:
    return _labelled(CounterMetricFamily(name, told, labels=(label,)), values)


def _labelled(family: Any, values: dict[str, int]) -> Metric:
    for name, value in values.items():
        family.add_metric((name,), value)
    metric: Metric = family
    return metric
