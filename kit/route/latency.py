"""Latency-based routing: remember how long tiers took, and ask one of the fastest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kit.policy import Attempt, FleetView, Outcome, Request, Route, route_along, usable


@dataclass
class LatencyBased:
    """One of all tiers whose average latency is within ``buffer`` of the best, drawn at random.

    Without the buffer all routers would run to the same tier, until it is the slowest (herding). Averages
    move: each new time counts ``weight``. An attempt without an answer counts as ``slow_ms`` at least, or a
    tier that fails fast would look fast. A tier that is not known, or was not asked for ``forget_s``, is
    among the best: only so it is ever tried (again).

    Attributes:
        buffer: 0.2: up to 20 % slower than the best.
        weight: of a new time, above 0 and up to 1.
        slow_ms: what a time-out or an error counts.
        forget_s: after this time without a request, a tier's average is forgotten.
    """

    buffer: float = 0.2
    weight: float = 0.2
    slow_ms: float = 10_000.0
    forget_s: float = 60.0
    mean_ms: dict[str, float] = field(default_factory=dict)
    _asked_s: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (self.buffer >= 0 and 0 < self.weight <= 1):
            raise ValueError(
                f"buffer must be >= 0 and weight above 0 and up to 1, got {self.buffer} and {self.weight}."
            )

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        names = [tier.name for tier in usable(request, fleet)]
        for name in names:
            if now - self._asked_s.get(name, now) > self.forget_s:
                self.mean_ms.pop(name, None)
        best_ms = min((self.mean_ms[name] for name in names if name in self.mean_ms), default=0.0)
        good = [n for n in names if self.mean_ms.get(n, 0.0) <= best_ms * (1 + self.buffer)]
        chosen = good[int(rng.random() * len(good))]
        self._asked_s[chosen] = now
        return route_along((chosen,), request.model)

    def observe(self, outcome: Outcome) -> None:
        """Learn from every attempt; one that nobody waited for took at least so long."""
        for attempt in outcome.tried:
            name, took_ms = attempt.target.tier, self.took_ms(attempt)
            old_ms = self.mean_ms.get(name, took_ms)
            if attempt.status != "open" or took_ms > old_ms:
                self.mean_ms[name] = old_ms + self.weight * (took_ms - old_ms)

    def took_ms(self, attempt: Attempt) -> float:
        """What counts as the latency of one attempt."""
        if attempt.status in ("failed", "timed_out"):
            return max(attempt.latency_ms, self.slow_ms)
        return attempt.latency_ms


@dataclass
class FirstToken(LatencyBased):
    """The same, by the time to the first token: what a user who reads along waits for."""

    def took_ms(self, attempt: Attempt) -> float:
        if attempt.status != "answered" or attempt.ttft_ms is None:
            return super().took_ms(attempt)
        return attempt.ttft_ms


@dataclass
class FirstTokenPerToken(LatencyBased):
    """A MISTAKE of real routers: time to first token over the tokens of the answer.

    The first token does not take longer because the answer is long. So whoever talks much looks fast, and
    one that starts slowly, and then says a lot, is favoured.
    """

    def took_ms(self, attempt: Attempt) -> float:
        if attempt.status != "answered" or attempt.ttft_ms is None:
            return super().took_ms(attempt)
        return attempt.ttft_ms / max(attempt.output_tokens, 1)
