"""What a policy is, and the two simplest: everything at the edge, everything in the cloud."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from kit.policy.words import FleetView, Outcome, Request, Route, Target


class Policy(Protocol):
    """Chooses who answers. One method; `LearningPolicy` has a second."""

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        """Decide about one request.

        Args:
            request: what is known about it.
            fleet: what can be seen of the tiers, as old as it is.
            now: the driver's clock in seconds. Only differences have a meaning.
            rng: the only source of chance, so that a run can be repeated.
        """
        ...


@runtime_checkable
class LearningPolicy(Policy, Protocol):
    """A policy that is told how its requests ended."""

    def observe(self, outcome: Outcome) -> None:
        """Take note of one outcome. Called once per request, in the order in which they end."""
        ...


def tell(policy: Policy, outcome: Outcome) -> None:
    """Tell a policy how a request ended, if it wants to know: ``observe`` is optional."""
    if isinstance(policy, LearningPolicy):
        policy.observe(outcome)


@lru_cache(maxsize=4096)
def route_along(
    tiers: tuple[str, ...],
    model: str | None = None,
    hedge_after_ms: float | None = None,
    escalate_below: float | None = None,
) -> Route:
    """The `Route` that asks ``tiers`` in this order. Made once and then reused: policies run often."""
    first, *rest = (Target(tier, model) for tier in tiers)
    return Route(first, tuple(rest), hedge_after_ms, escalate_below)


class StatelessPolicy(ABC):
    """A policy that declares its probabilities; ``route`` is derived from them, here and only here.

    A simulator may ask for `choices` once per class of request and then draw a million routes at once.
    So `choices` must depend only on what does not change during a run: of the tiers their names,
    kinds, models, prices and nominal round trips; of the request what its whole class shares. Never
    on ``queue`` or ``healthy``: a policy that reads these has a `route` of its own.
    """

    @abstractmethod
    def choices(self, request: Request, fleet: FleetView) -> Sequence[tuple[Route, float]]:
        """The routes that this kind of request can take, with their probabilities (sum 1)."""

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        """Draw one of `choices`. Always uses one random number, so that runs can be compared.

        The same rule as ``np.searchsorted(np.cumsum(probabilities), u, side="right")``.
        """
        choices = self.choices(request, fleet)
        u, total, least, chosen = rng.random(), 0.0, 0.0, None
        for route, probability in choices:
            total += probability
            least = min(least, probability)
            if chosen is None and u < total:
                chosen = route
        if not (abs(total - 1) <= 1e-9 and least >= 0):
            told = tuple(probability for _, probability in choices)
            raise ValueError(f"the probabilities of a policy must be >= 0 and sum to 1, got {told}.")
        return choices[-1][0] if chosen is None else chosen


@dataclass(frozen=True, slots=True)
class AlwaysEdge(StatelessPolicy):
    """Everything is answered at home: no network, no queue at somebody else's, and no big model."""

    tier: str = "edge"
    model: str | None = None

    def choices(self, request: Request, fleet: FleetView) -> Sequence[tuple[Route, float]]:
        return ((route_along((fleet[self.tier].name,), self.model), 1.0),)


@dataclass(frozen=True, slots=True)
class AlwaysCloud(StatelessPolicy):
    """Everything is sent to the cloud: the big model, behind a network, at a price."""

    tier: str = "cloud"
    model: str | None = None

    def choices(self, request: Request, fleet: FleetView) -> Sequence[tuple[Route, float]]:
        return ((route_along((fleet[self.tier].name,), self.model), 1.0),)
