"""What a policy sees of the tiers: looked at now and then, so it is always a little old."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from kit.policy import FleetView, StandardDispatcher, Target, TierView
from kit.route.gateway.exits import Exits
from kit.route.gateway.settings import TierSettings

LOAD = re.compile(r"^(?:kit_|vllm:)num_requests_(?:running|waiting)(?:\{[^}]*\})? ([\d.e+]+)", re.M)
"""What `kit serve` and vLLM tell of their load."""
MEMORY = 0.9  # share of a mean that is left after each new value
LOOKS = 9  # round trips whose median counts


@dataclass
class Seen:
    """What is known of a tier now.

    Attributes:
        healthy: its health path answered, the last time. ``load``: requests there; None: it does not say.
        rtt_ms: the last round trips of the health path. ``service_ms``: mean time of its answers, less these.
        open: attempts of ours that are open.
    """

    healthy: bool = True
    load: int | None = None
    rtt_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LOOKS))
    service_ms: float | None = None
    open: int = 0


class Signals:
    """Looks at the tiers.

    Args:
        tiers, exits: whom to ask, and how.
        dispatcher: whose circuit breakers count as health.
        now_s: the driver's clock.
        every_s: how often `look` is called.

    Attributes:
        view: what a policy sees; replaced as a whole, never changed.
    """

    def __init__(
        self,
        tiers: Sequence[TierSettings],
        exits: Exits,
        dispatcher: StandardDispatcher,
        now_s: Callable[[], float],
        every_s: float,
    ) -> None:
        self._tiers, self._exits, self._dispatcher = tiers, exits, dispatcher
        self._now_s, self.every_s = now_s, every_s
        self.seen = {tier.name: Seen() for tier in tiers}
        self.view = FleetView(tuple(self._tier(tier, True) for tier in tiers))

    async def look(self) -> None:
        """Ask all tiers at once, and take a new view.

        One that does not answer holds up the view for two periods at most.
        """
        await asyncio.gather(*(self._ask(tier) for tier in self._tiers))
        self.view = FleetView(tuple(self._tier(tier, self._allowed(tier)) for tier in self._tiers))

    async def _ask(self, tier: TierSettings) -> None:
        seen, limit_s = self.seen[tier.name], min(self.every_s, 2.0)
        if tier.health:
            start = time.perf_counter()
            told = await self._exits.look(tier.name, tier.health, limit_s)
            seen.healthy = (
                told is not None and told[0] < 500
            )  # not every server has this path: 404 is a life sign
            if seen.healthy:
                seen.rtt_ms.append(1000 * (time.perf_counter() - start))
        if tier.load and seen.healthy and (told := await self._exits.look(tier.name, tier.load, limit_s)):
            found = LOAD.findall(told[1])
            seen.load = int(sum(map(float, found))) if found else None

    def _allowed(self, tier: TierSettings) -> bool:
        """Whether its circuit breakers let anything through."""
        models = [Target(tier.name, m) for m in (None, *tier.serves)]
        return all(self._dispatcher.healthy(target, self._now_s()) for target in models)

    def _tier(self, tier: TierSettings, allowed: bool) -> TierView:
        seen = self.seen[tier.name]
        return TierView(
            name=tier.name,
            kind=tier.kind,
            models=tier.serves if tier.models else (),
            rtt_ms=median(seen.rtt_ms) if seen.rtt_ms else tier.rtt_ms,
            service_ms=tier.service_ms if seen.service_ms is None else seen.service_ms,
            queue=seen.open if seen.load is None else seen.load,
            healthy=seen.healthy and allowed,
            price_usd_per_mtok=tier.usd_per_mtok_out,
            price_usd_per_request=tier.usd_per_request,
            servers=tier.servers,
            age_s=3 * self.every_s,  # a look may itself last for two
        )

    def sent(self, name: str) -> None:
        """An attempt leaves."""
        self.seen[name].open += 1

    def ended(self, name: str, took_ms: float | None) -> None:
        """An attempt is over; with an answer, so long it took."""
        seen = self.seen[name]
        seen.open -= 1
        if took_ms is not None:
            served = max(took_ms - (median(seen.rtt_ms) if seen.rtt_ms else 0.0), 0.0)
            mean = served if seen.service_ms is None else seen.service_ms
            seen.service_ms = MEMORY * mean + (1 - MEMORY) * served
