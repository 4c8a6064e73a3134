"""What the gateway counts. Every name begins with ``kit_``; times are in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kit.policy import FleetView
from kit.serve.metrics import SLOW


class Metrics:
    """All metrics of one gateway.

    Args:
        view: what policies see now. ``waiting``: requests in the offline queue.
    """

    def __init__(self, view: Callable[[], FleetView], waiting: Callable[[], int]) -> None:
        self.registry = r = CollectorRegistry()
        self.answers = Counter(
            "kit_gateway_requests",
            "Requests by who answered and how they ended",
            ("tier", "outcome"),
            registry=r,
        )
        self.attempts = Counter(
            "kit_gateway_attempts", "Attempts by how they ended", ("tier", "how"), registry=r
        )
        self.took = Histogram(
            "kit_gateway_attempt_seconds",
            "Of attempts that were answered",
            ("tier",),
            registry=r,
            buckets=SLOW,
        )
        self.private = Counter(
            "kit_gateway_privacy_refused", "Kept back at the exit", ("tier", "privacy"), registry=r
        )
        self.policy = Counter(
            "kit_gateway_policy_failures", "A policy that did not decide", ("how",), registry=r
        )
        self.remembered = Counter("kit_gateway_remembered", "Answered from memory", registry=r)
        self.broken = Counter(
            "kit_stream_errors", "Streams that broke off after their first token", registry=r
        )
        self.requests = Counter("kit_http_requests", "Requests by status", ("path", "status"), registry=r)
        self.seconds = Histogram(
            "kit_http_request_duration_seconds",
            "Until the answer is sent",
            ("path",),
            registry=r,
            buckets=SLOW,
        )
        r.register(_Now(view, waiting))

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)


class _Now(Collector):
    """How things stand when somebody reads."""

    def __init__(self, view: Callable[[], FleetView], waiting: Callable[[], int]) -> None:
        self._view, self._waiting = view, waiting

    def collect(self) -> Iterable[Metric]:
        healthy = GaugeMetricFamily("kit_gateway_tier_healthy", "As policies see it", labels=["tier"])
        queue = GaugeMetricFamily("kit_gateway_tier_queue", "As policies see it", labels=["tier"])
        rtt = GaugeMetricFamily("kit_gateway_tier_rtt_seconds", "Median of the last looks", labels=["tier"])
        for tier in self._view().tiers:
            healthy.add_metric([tier.name], float(tier.healthy))
            queue.add_metric([tier.name], tier.queue)
            rtt.add_metric([tier.name], tier.rtt_ms / 1000)
        waiting = GaugeMetricFamily("kit_gateway_waiting", "Requests in the offline queue")
        waiting.add_metric([], self._waiting())
        return [healthy, queue, rtt, waiting]
