"""The policies that gateways ship, under the names that they use there. Each is a few lines.

They know only what `Request` and `FleetView` hold. If no tier is healthy, they choose among all of
them: the view may be old, and asking is better than refusing (Envoy calls this panic routing).

Not here: policies that learn, or that weigh latency, price and quality against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal
from zlib import crc32

import numpy as np

from kit.policy.rules import Policy, StatelessPolicy, route_along, tell
from kit.policy.words import FleetView, Outcome, Privacy, Request, Route, Target, TierKind, TierView

ALLOWED_KINDS: dict[Privacy, frozenset[TierKind]] = {
    "public": frozenset(("device", "access_edge", "regional_edge", "central_cloud")),
    "personal": frozenset(("device", "access_edge", "regional_edge")),
    "private": frozenset(("device",)),
}
"""Where a request may go, by its privacy class."""

_EDGE, _CLOUD = Target("edge"), Target("cloud")
_NEARNESS = attrgetter("rtt_ms")
_BUSYNESS = attrgetter("queue", "rtt_ms")


def usable(request: Request, fleet: FleetView) -> Sequence[TierView]:
    """The tiers that can be asked: those that serve the model asked for, if possible healthy ones.

    A tier that lists no models is taken to serve any.

    Raises:
        ValueError: no tier serves the model, or the fleet is empty.
    """
    if request.model is None and fleet.healthy:
        return fleet.healthy
    tiers = fleet.tiers
    if request.model is not None:
        tiers = [tier for tier in tiers if not tier.models or request.model in tier.models]
    if not tiers:
        has = ", ".join(f"{tier.name} ({' '.join(tier.models)})" for tier in fleet.tiers)
        raise ValueError(f"no tier serves model {request.model!r}; this fleet has: {has or 'no tiers'}.")
    return [tier for tier in tiers if tier.healthy] or tiers


def first(request: Request, fleet: FleetView, by: Callable[[TierView], Any]) -> TierView:
    """Of the `usable` tiers, the one with the smallest ``by(tier)``."""
    if request.model is None and fleet.healthy:
        return fleet.first(by)
    return min(usable(request, fleet), key=by)


@dataclass(frozen=True)
class _Split:
    """Weights of tiers, such as ``{"canary": 5, "cloud": 95}``; only their proportions count."""

    weights: Mapping[str, float]
    model: str | None = None
    _shares: Sequence[tuple[Route, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        total = sum(self.weights.values())
        if not (total > 0 and min(self.weights.values()) >= 0):
            raise ValueError(f"weights must be >= 0, and one of them > 0, got {dict(self.weights)}.")
        shares = [(route_along((tier,), self.model), w / total) for tier, w in self.weights.items()]
        object.__setattr__(self, "_shares", shares)

    def _checked(self, fleet: FleetView) -> Sequence[tuple[Route, float]]:
        for tier in self.weights:
            fleet[tier]  # raises KeyError and lists those that there are
        return self._shares


class SimpleShuffle(_Split, StatelessPolicy):
    """Each request goes to a tier drawn by weight: ``SimpleShuffle({"edge": 9, "cloud": 1})``."""

    def choices(self, request: Request, fleet: FleetView) -> Sequence[tuple[Route, float]]:
        return self._checked(fleet)


@dataclass(frozen=True)
class StableSplit(_Split):
    """Like `SimpleShuffle`, but the same id always goes the same way (A/B test, canary).

    Name the canary first: when its weight grows, whoever was on it stays on it.

    Attributes:
        by: what stays together: each request's ``id``, or all of one ``origin``.
        salt: another salt, another split.
    """

    by: Literal["id", "origin"] = "id"
    salt: str = ""

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        shares, total = self._checked(fleet), 0.0
        u = crc32(f"{self.salt}/{getattr(request, self.by)}".encode()) / 2**32
        for route, share in shares:
            total += share
            if u < total:
                return route
        return shares[-1][0]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The healthy tier with the shortest round trip."""

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        return route_along((first(request, fleet, _NEARNESS).name,), request.model)


@dataclass(frozen=True, slots=True)
class LeastBusy:
    """The healthy tier with the shortest queue; of equals, the nearest."""

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        return route_along((first(request, fleet, _BUSYNESS).name,), request.model)


@dataclass(frozen=True, slots=True)
class PowerOfTwoChoices:
    """The less busy of two tiers drawn at random (Mitzenmacher, 2001).

    Nearly as even as `LeastBusy`; and when the view is old, routers do not all run to the same tier.
    """

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        tiers = usable(request, fleet)
        n, u = len(tiers), rng.random()
        if n > 1:  # one random number chooses one of the n(n-1) ordered pairs
            first, step = divmod(int(u * (n * (n - 1))), n - 1)
            tiers = (tiers[first], tiers[(first + 1 + step) % n])
        return route_along((min(tiers, key=_BUSYNESS).name,), request.model)


@dataclass(frozen=True, slots=True)
class FallbackChain:
    """The first healthy tier of a list, with the other healthy ones behind it as fallbacks."""

    tiers: tuple[str, ...]
    model: str | None = None

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        return route_along(tuple([t for t in self.tiers if fleet[t].healthy]) or self.tiers, self.model)


@dataclass(frozen=True)
class ConfidenceCascade:
    """The small model first; the big one if the small one is less sure than ``threshold``, 0 to 1.

    If the router already knows how sure the edge is, it goes straight to the right one, and keeps the
    other as a fallback (Chen et al., "FrugalGPT", 2023).
    """

    threshold: float = 0.7
    edge: Target = _EDGE
    cloud: Target = _CLOUD
    _ways: tuple[Route, Route, Route] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ask = Route(self.edge, (self.cloud,), escalate_below=self.threshold)
        object.__setattr__(
            self, "_ways", (ask, Route(self.edge, (self.cloud,)), Route(self.cloud, (self.edge,)))
        )

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        ask, edge, cloud = self._ways
        if request.edge_confidence is None:
            return ask
        return edge if request.edge_confidence >= self.threshold else cloud


@dataclass(frozen=True, slots=True)
class _Around:
    """A policy around another one, which is told of outcomes as well."""

    policy: Policy

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on to the policy inside."""
        tell(self.policy, outcome)


@dataclass(frozen=True, slots=True)
class PrivacyFirst(_Around):
    """What ``policy`` says, unless that would take a request where it must not go (`ALLOWED_KINDS`).

    Then ``confined`` decides, and sees only the tiers that are allowed. Fallbacks count as well.
    """

    confined: Policy = Nearest()

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        """Decide about one request.

        Raises:
            ValueError: no tier of the fleet is allowed, or ``confined`` leaves those that are.
        """
        kinds = ALLOWED_KINDS[request.privacy]
        route = self.policy.route(request, fleet, now, rng)
        if request.privacy == "public" or _stays(route, fleet, kinds):
            return route
        allowed = FleetView(tuple([tier for tier in fleet.tiers if tier.kind in kinds]))
        if allowed.tiers:
            route = self.confined.route(request, allowed, now, rng)
            if _stays(route, fleet, kinds):
                return route
        has = ", ".join(f"{tier.name} ({tier.kind})" for tier in fleet.tiers)
        raise ValueError(
            f"a {request.privacy} request may go to {', '.join(sorted(kinds))}, and {self} finds none; "
            f"this fleet has: {has}."
        )


def _stays(route: Route, fleet: FleetView, kinds: frozenset[TierKind]) -> bool:
    return all(fleet[target.tier].kind in kinds for target in (route.target, *route.fallbacks))


@dataclass(frozen=True, slots=True)
class Hedged(_Around):
    """What ``policy`` says; and if no answer came after ``hedge_after_ms``, its first fallback as well.

    A route without a fallback gets one: the nearest other tier where the request may go. If there is
    none, the route stays as it is. With ``hedge_after_ms`` at the 95th percentile of the latency, about
    5 % of the requests are sent twice (Dean and Barroso, "The Tail at Scale", 2013).
    """

    hedge_after_ms: float = 100.0

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        route = self.policy.route(request, fleet, now, rng)
        if route.fallbacks:
            return _hedge(route, self.hedge_after_ms, None)
        kinds, taken = ALLOWED_KINDS[request.privacy], route.target.tier
        others = [tier for tier in usable(request, fleet) if tier.name != taken and tier.kind in kinds]
        if not others:
            return route
        return _hedge(route, self.hedge_after_ms, Target(min(others, key=_NEARNESS).name, request.model))


@lru_cache(maxsize=4096)
def _hedge(route: Route, after_ms: float, second: Target | None) -> Route:
    fallbacks = route.fallbacks if second is None else (second,)
    return replace(route, fallbacks=fallbacks, hedge_after_ms=after_ms)
