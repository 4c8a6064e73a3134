"""A bandit: try all, keep to what paid. It learns from what it is told, and that is not what was right."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kit.policy import FleetView, Outcome, Request, Route, route_along
from kit.route.estimates import choices


@dataclass
class EpsilonGreedy:
    """The tier with the best average reward; with probability ``epsilon``, any (Sutton and Barto, chapter 2).

    Whether an answer was right is not known when it is given. So the reward is what can be seen: an answer
    counts as much as its model is sure of it (1 if it does not say), less its latency and its cost.

    Attributes:
        epsilon: part of the requests that explore, 0 to 1.
        slow_ms: a latency of so much takes 1 from the reward. ``dear_usd``: a cost likewise.
        by: which of the request's words make a question of their own: ``("language",)`` learns for each
            language.
    """

    epsilon: float = 0.1
    slow_ms: float = 2000.0
    dear_usd: float = 0.01
    by: tuple[str, ...] = ()
    _sum: dict[tuple, float] = field(default_factory=dict, repr=False)
    _count: dict[tuple, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is a part of the requests, 0 to 1, got {self.epsilon}.")
        if not (self.slow_ms > 0 and self.dear_usd > 0):
            raise ValueError(f"slow_ms and dear_usd must be > 0, got {self.slow_ms} and {self.dear_usd}.")
        self.by = tuple(self.by)

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        names, u = [tier.name for tier in choices(request, fleet)], rng.random()
        if u < self.epsilon:
            chosen = names[int(u / self.epsilon * len(names))]
        else:
            chosen = max(names, key=lambda name: self.value(name, request))
        return route_along((chosen,), request.model)

    def value(self, tier: str, request: Request) -> float:
        """Average reward there for requests like this; infinite if it was never tried."""
        key = self._key(tier, request)
        return self._sum[key] / self._count[key] if key in self._count else float("inf")

    def observe(self, outcome: Outcome) -> None:
        """Learn what the decision brought, whoever answered in the end."""
        key = self._key(outcome.route.target.tier, outcome.request)
        self._sum[key] = self._sum.get(key, 0.0) + self.reward(outcome)
        self._count[key] = self._count.get(key, 0) + 1

    def reward(self, outcome: Outcome) -> float:
        """What one request brought."""
        sure = 1.0 if outcome.confidence is None else outcome.confidence
        good = sure if outcome.status == "answered" else 0.0
        return good - outcome.latency_ms / self.slow_ms - outcome.cost_usd / self.dear_usd

    def _key(self, tier: str, request: Request) -> tuple:
        return (tier, *(getattr(request, name) for name in self.by))
