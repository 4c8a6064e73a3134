"""What the server counts, under the names that vLLM and OpenTelemetry's GenAI conventions use.

Every name begins with ``kit_``. Times are in seconds, as Prometheus wants them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160)


class Metrics:
    """All metrics of one server.

    Args:
        load: model -> (running, waiting), asked when somebody reads the metrics.
    """

    def __init__(self, load: Callable[[], dict[str, tuple[int, int]]]) -> None:
        self.registry = r = CollectorRegistry()
        by = ("model",)
        self.ttft = Histogram(
            "kit_time_to_first_token_seconds", "From request to first token", by, registry=r, buckets=SLOW
        )
        self.itl = Histogram(
            "kit_inter_token_latency_seconds", "Between two tokens of an answer", by, registry=r, buckets=FAST
        )
        self.e2e = Histogram(
            "kit_e2e_request_latency_seconds", "From request to last token", by, registry=r, buckets=SLOW
        )
        self.queue = Histogram(
            "kit_request_queue_time_seconds", "Before the prompt is read", by, registry=r, buckets=SLOW
        )
        self.prefill = Histogram(
            "kit_request_prefill_time_seconds", "Reading the prompt", by, registry=r, buckets=SLOW
        )
        self.prompt = Counter("kit_prompt_tokens", "Tokens of prompts", by, registry=r)
        self.generated = Counter("kit_generation_tokens", "Tokens of answers", by, registry=r)
        self.finished = Counter(
            "kit_request_success", "Answers by how they ended", ("model", "finished_reason"), registry=r
        )
        self.drafted = Counter("kit_spec_decode_num_draft_tokens", "Guesses of a draft", by, registry=r)
        self.accepted = Counter("kit_spec_decode_num_accepted_tokens", "Guesses that stood", by, registry=r)
        self.requests = Counter("kit_http_requests", "Requests by status", ("path", "status"), registry=r)
        self.seconds = Histogram(
            "kit_http_request_duration_seconds",
            "Until the answer is sent",
            ("path",),
            registry=r,
            buckets=SLOW,
        )
        self.broken = Counter("kit_stream_errors", "Streams that ended with an error", by, registry=r)
        self.fired = Counter("kit_alerts_fired", "Alerts sent", ("rule",), registry=r)
        r.register(_Load(load))

    def guessed(self, model: str, guesses: int, stood: int) -> None:
        """A round of a model with a draft."""
        self.drafted.labels(model).inc(guesses)
        self.accepted.labels(model).inc(stood)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)


class _Load(Collector):
    """How many run and wait now."""

    def __init__(self, load: Callable[[], dict[str, tuple[int, int]]]) -> None:
        self._load = load

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("kit_num_requests_running", "Answers being written", labels=["model"])
        waiting = GaugeMetricFamily("kit_num_requests_waiting", "Answers in the queue", labels=["model"])
        for model, (runs, waits) in self._load().items():
            running.add_metric([model], runs)
            waiting.add_metric([model], waits)
        return [running, waiting]


class Watch:
    """The times of one request.

    Args:
        metrics: where they go. ``model``: label.
    """

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._m, self._model = metrics, model
        self.start_s = time.perf_counter()
        self._last: dict[int, float] = {}
        self.completion_tokens = 0

    def piece(self, choice: int, token: bool, finish: str, at_s: float, joined_s: float) -> None:
        """A step of an answer, at a time of ``time.perf_counter``."""
        m, model = self._m, self._model
        if token:
            self.completion_tokens += 1
            m.generated.labels(model).inc()
            if choice in self._last:
                m.itl.labels(model).observe(at_s - self._last[choice])
        if choice not in self._last:
            m.queue.labels(model).observe(max(joined_s - self.start_s, 0.0))
            m.prefill.labels(model).observe(at_s - joined_s)
            m.ttft.labels(model).observe(at_s - self.start_s)
        self._last[choice] = at_s
        if finish:
            self.ended(finish, at_s)

    def ended(self, finish: str, at_s: float) -> None:
        """An answer is complete."""
        self._m.e2e.labels(self._model).observe(at_s - self.start_s)
        self._m.finished.labels(self._model, finish).inc()

    def left_s(self, deadline_s: float) -> float:
        """What is left of the time that this request has."""
        return max(self.start_s + deadline_s - time.perf_counter(), 0.0)

    def failed(self, stream: bool = False) -> None:
        """The answer ended with an error; in a stream the status was 200 already."""
        self.ended("error", time.perf_counter())
        if stream:
            self._m.broken.labels(self._model).inc()

    def first_event(self) -> None:
        """Another server's answer has begun."""
        if not self._last:
            self._last[0] = time.perf_counter()
            self._m.ttft.labels(self._model).observe(self._last[0] - self.start_s)

    def handed_on(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Tokens that another server used for us."""
        self._m.prompt.labels(self._model).inc(prompt_tokens)
        self._m.generated.labels(self._model).inc(completion_tokens)
