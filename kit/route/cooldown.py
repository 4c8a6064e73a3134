"""Cooldown: a tier that failed too often is left alone for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from kit.policy import Attempt, FleetView, Outcome, Policy, Request, Route, tell
from kit.route.estimates import leaving_out


@dataclass
class Cooldown:
    """What ``policy`` says, without tiers that failed ``failures`` times within ``within_s``.

    They rest for ``rest_s``, or for as long as they asked for (Retry-After, RFC 9110): that is honoured at
    the first time. The circuit breaker of the dispatcher guards one target of one route; this keeps the
    policy from choosing it at all.

    Attributes:
        policy: who decides among the others.
        failures: how many. ``within_s``: in which time. ``rest_s``: how long it rests then.
    """

    policy: Policy
    failures: int = 3
    within_s: float = 60.0
    rest_s: float = 30.0
    _failed_s: dict[str, deque[float]] = field(default_factory=dict, repr=False)
    _until_s: dict[str, float] = field(default_factory=dict, repr=False)
    _now_s: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if not (self.failures >= 1 and self.within_s > 0 and self.rest_s > 0):
            raise ValueError(
                "failures must be >= 1, within_s and rest_s above 0, got "
                f"{self.failures}, {self.within_s} and {self.rest_s}."
            )

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        self._now_s = now
        return leaving_out(self.policy, self.resting(now), request, fleet, now, rng)

    def resting(self, now: float) -> set[str]:
        """Tiers that are left alone at ``now``."""
        return {name for name, until_s in self._until_s.items() if now < until_s}

    def observe(self, outcome: Outcome) -> None:
        """Count failures, and hand the outcome on."""
        now = self._now_s if outcome.now_s is None else outcome.now_s
        for attempt in outcome.tried:
            if attempt.status in ("failed", "timed_out"):
                name = attempt.target.tier
                rest_s = max(self.asked_for_s(attempt), self.rest_s if self._too_many(name, now) else 0.0)
                self._until_s[name] = max(self._until_s.get(name, 0.0), now + rest_s)
        tell(self.policy, outcome)

    def asked_for_s(self, attempt: Attempt) -> float:
        """How long a tier asks to be left alone."""
        return attempt.retry_after_s or 0.0

    def _too_many(self, name: str, now: float) -> bool:
        failed_s = self._failed_s.setdefault(name, deque(maxlen=self.failures))
        failed_s.append(now)
        return len(failed_s) == self.failures and now - failed_s[0] <= self.within_s


@dataclass
class CooldownDeaf(Cooldown):
    """A MISTAKE of real routers: it does not hear Retry-After.

    A tier that says "I am full, come back in 30 s" is asked again and again, until it has failed as often as
    others. Each of these requests waits for nothing, and keeps the tier busy with refusing.
    """

    def asked_for_s(self, attempt: Attempt) -> float:
        return 0.0
