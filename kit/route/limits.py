"""Policies with a limit to keep: a deadline, or a service level objective and a price."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from kit.policy import FleetView, Request, Route, route_along, usable
from kit.route.estimates import choices, expected_ms, price_usd


@dataclass(frozen=True)
class DeadlineAware:
    """The first tier of a list, best first, that should answer within the deadline; else the fastest.

    Attributes:
        tiers: in order of preference.
        margin: part of the deadline that an expectation may fill, above 0 and up to 1: real latencies
            scatter around it, and half of them are longer.
    """

    tiers: tuple[str, ...] = ("cloud", "edge")
    margin: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.margin <= 1:
            raise ValueError(
                f"margin must be above 0 and at most 1, got {self.margin}: part of the deadline."
            )

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        left_ms = self.margin * (request.deadline_ms or inf)
        usable_names = [tier.name for tier in usable(request, fleet)]
        names = [n for n in self.tiers if fleet[n].name in usable_names] or list(self.tiers)
        fastest = min(names, key=lambda name: expected_ms(fleet[name]))
        chosen = next((n for n in names if expected_ms(fleet[n]) <= left_ms), fastest)
        second = (fastest,) if fastest != chosen else ()
        return route_along((chosen, *second), request.model)


@dataclass(frozen=True)
class CheapestWithinSLO:
    """The cheapest tier that should answer within ``slo_ms``; if none should, the fastest."""

    slo_ms: float = 200.0

    def __post_init__(self) -> None:
        if not self.slo_ms > 0:
            raise ValueError(f"slo_ms must be > 0, got {self.slo_ms}: no answer takes no time.")

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        tiers = choices(request, fleet)
        in_time = [tier for tier in tiers if expected_ms(tier) <= self.slo_ms]
        if in_time:
            chosen = min(in_time, key=lambda tier: (price_usd(tier), expected_ms(tier)))
        else:
            chosen = min(tiers, key=expected_ms)
        return route_along((chosen.name,), request.model)
