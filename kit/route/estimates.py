"""What a router can guess of a tier from its view: how long an answer takes there, and what it costs.

And two things that policies around others share: to leave tiers out, and where to go instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from kit.policy import ALLOWED_KINDS, FleetView, Policy, Request, Route, Target, TierView, usable

TOKENS = 100
"""Tokens of an answer, where only a price per token is known. (ASSUMPTION: it only ranks tiers.)"""


def wait_ms(tier: TierView) -> float:
    """How long a new request waits: those before it, on all servers."""
    return max(tier.queue - tier.servers + 1, 0) * tier.service_ms / tier.servers


def expected_ms(tier: TierView) -> float:
    """Round trip, wait and service: the latency that the view lets expect."""
    return tier.rtt_ms + wait_ms(tier) + tier.service_ms


def price_usd(tier: TierView) -> float:
    """What a call there costs, as far as its price list says."""
    return tier.price_usd_per_request + tier.price_usd_per_mtok * TOKENS / 1e6


def allowed(request: Request, fleet: FleetView, but: Collection[str] = ()) -> Sequence[TierView]:
    """Usable tiers where the request may go by its privacy, without those named ``but``; perhaps none."""
    if request.privacy == "public" and not but:
        return usable(request, fleet)
    kinds = ALLOWED_KINDS[request.privacy]
    stay = FleetView(tuple([t for t in fleet.tiers if t.kind in kinds and t.name not in but]))
    return usable(request, stay) if stay.tiers else ()


def choices(request: Request, fleet: FleetView) -> Sequence[TierView]:
    """`allowed`; and if there is none, all that are usable: whoever must not choose these is guarded."""
    return allowed(request, fleet) or usable(request, fleet)


def leaving_out(
    policy: Policy,
    names: Collection[str],
    request: Request,
    fleet: FleetView,
    now: float,
    rng: np.random.Generator,
) -> Route:
    """What ``policy`` decides if some tiers are not to be asked.

    It sees them as unhealthy. If its route names them all the same, they are dropped from it; if nobody is
    left, the nearest of the others is asked, where the request may go.
    """
    if not names:
        return policy.route(request, fleet, now, rng)
    seen = FleetView(tuple([replace(t, healthy=False) if t.name in names else t for t in fleet.tiers]))
    route = policy.route(request, seen, now, rng)
    kept = [t for t in (route.target, *route.fallbacks) if t.tier not in names]
    if not kept:
        others = allowed(request, fleet, names)
        if not others:
            return route  # everybody is left out: asking is better than refusing
        return Route(Target(min(others, key=lambda t: t.rtt_ms).name, request.model))
    if len(kept) == 1 or (route.target.tier in names and route.escalate_below is not None):
        return Route(kept[0], tuple(kept[1:]))
    return replace(route, target=kept[0], fallbacks=tuple(kept[1:]))
