"""The policies that the chapter compares: what gateways ship, with settings that fit the voice home."""

from __future__ import annotations

from kit.policy import ConfidenceCascade, FallbackChain, Hedged, LeastBusy, Policy, PowerOfTwoChoices
from kit.route.answers import judged
from kit.route.bandit import EpsilonGreedy
from kit.route.context import ContextAware, When
from kit.route.cooldown import Cooldown
from kit.route.curves import choose_threshold
from kit.route.latency import LatencyBased
from kit.route.limits import CheapestWithinSLO, DeadlineAware
from kit.route.scorers import WeightedScorers

FALLBACK = FallbackChain(("cloud", "edge"))

SIMPLE = ("always_edge", "always_cloud", "random", "cascade", "chain")
"""Policies without a memory and with one number at most."""


def candidates(threshold: float | None = None) -> dict[str, Policy]:
    """Name -> a new policy. Tiers are called ``edge`` and ``cloud``.

    Args:
        threshold: of the cascades; None: chosen on the dev split.
    """
    sure = choose_threshold(judged("dev")) if threshold is None else threshold
    cascade = ConfidenceCascade(sure)
    return {
        "cascade": cascade,
        "chain": FALLBACK,
        "context": ContextAware([When("cloud", intents=["NotACommand"], fallbacks=["edge"])], cascade),
        "deadline": DeadlineAware(),
        "cheapest": CheapestWithinSLO(200),
        "least busy": LeastBusy(),
        "two choices": PowerOfTwoChoices(),
        "latency": LatencyBased(),
        "scorers": WeightedScorers({"queue": 1, "latency": 1, "confidence": 4}),
        "hedged": Hedged(FALLBACK, 100),
        "cooldown": Cooldown(FALLBACK),
        "bandit": EpsilonGreedy(),
    }
