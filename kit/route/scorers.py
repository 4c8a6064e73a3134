"""Weighted scorers: several small opinions about each tier, added up. The highest sum wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kit.policy import FleetView, Request, Route, TierView, route_along
from kit.route.estimates import choices, expected_ms, price_usd

Scorer = Callable[[Request, Sequence[TierView]], list[float]]
"""A request and the tiers it may go to -> a score of each, 0 (worst) to 1 (best)."""

NEARNESS = {"device": 1.0, "access_edge": 2 / 3, "regional_edge": 1 / 3, "central_cloud": 0.0}


def _least(values: Sequence[float]) -> list[float]:
    """The smallest gets 1, the largest 0; all get 1 if they are equal."""
    low, high = min(values), max(values)
    return [1.0 if high == low else (high - v) / (high - low) for v in values]


def queue(request: Request, tiers: Sequence[TierView]) -> list[float]:
    """The shortest queue for each server is best."""
    return _least([tier.queue / tier.servers for tier in tiers])


def latency(request: Request, tiers: Sequence[TierView]) -> list[float]:
    """The shortest expected latency is best."""
    return _least([expected_ms(tier) for tier in tiers])


def price(request: Request, tiers: Sequence[TierView]) -> list[float]:
    """The cheapest is best."""
    return _least([price_usd(tier) for tier in tiers])


def locality(request: Request, tiers: Sequence[TierView]) -> list[float]:
    """The device is best, the central cloud worst."""
    return [NEARNESS[tier.kind] for tier in tiers]


def confidence(request: Request, tiers: Sequence[TierView]) -> list[float]:
    """The device is as good as the edge model is sure; others are taken to know."""
    sure = 1.0 if request.edge_confidence is None else request.edge_confidence
    return [sure if tier.kind == "device" else 1.0 for tier in tiers]


SCORERS: dict[str, Scorer] = {
    "queue": queue,
    "latency": latency,
    "price": price,
    "locality": locality,
    "confidence": confidence,
}


@dataclass(frozen=True)
class WeightedScorers:
    """The tier with the highest weighted sum of scores: ``WeightedScorers({"queue": 2, "price": 1})``.

    Attributes:
        scores: name of a scorer -> its weight. ``more``: scorers of your own, by name.

    Raises:
        ValueError: an unknown scorer, or a weight below 0.
    """

    scores: Mapping[str, float] = field(default_factory=lambda: {"queue": 1.0, "latency": 1.0})
    more: Mapping[str, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = SCORERS | dict(self.more)
        for name, weight in self.scores.items():
            if name not in known:
                raise ValueError(f"no scorer is called {name!r}; there are: {', '.join(known)}.")
            if not weight >= 0:
                raise ValueError(f"the weight of {name} must be >= 0, got {weight}.")

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        tiers, known = choices(request, fleet), SCORERS | dict(self.more)
        sums = np.zeros(len(tiers))
        for name, weight in self.scores.items():
            sums += weight * np.array(known[name](request, tiers))
        return route_along((tiers[int(sums.argmax())].name,), request.model)
