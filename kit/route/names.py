"""The chapter's policies under the names that files and the command line use. Importing this adds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kit.policy import Policy, register
from kit.route.bandit import EpsilonGreedy
from kit.route.context import ContextAware, LanguageAware
from kit.route.cooldown import Cooldown, CooldownDeaf
from kit.route.latency import FirstToken, FirstTokenPerToken, LatencyBased
from kit.route.limits import CheapestWithinSLO, DeadlineAware
from kit.route.scorers import WeightedScorers

ENGLISH_CLOUD = {"cloud": ("en",)}
"""The kit's language model reads English only."""


def _latency(
    buffer: float = 0.2, weight: float = 0.2, slow_ms: float = 10_000.0, forget_s: float = 60.0
) -> Policy:
    return LatencyBased(buffer, weight, slow_ms, forget_s)


def _first_token(
    buffer: float = 0.2, weight: float = 0.2, slow_ms: float = 10_000.0, forget_s: float = 60.0
) -> Policy:
    return FirstToken(buffer, weight, slow_ms, forget_s)


def _per_token(buffer: float = 0.2, weight: float = 0.2) -> Policy:
    return FirstTokenPerToken(buffer, weight)


def _scorers(scores: Mapping[str, float] | None = None) -> Policy:
    return WeightedScorers(scores) if scores else WeightedScorers()


def _deadline(tiers: Sequence[str], margin: float = 0.7) -> Policy:
    return DeadlineAware(tuple(tiers), margin)


def _cooldown(inner: Policy, failures: int = 3, within_s: float = 60.0, rest_s: float = 30.0) -> Policy:
    return Cooldown(inner, failures, within_s, rest_s)


def _deaf(inner: Policy, failures: int = 3, within_s: float = 60.0, rest_s: float = 30.0) -> Policy:
    return CooldownDeaf(inner, failures, within_s, rest_s)


def _bandit(
    epsilon: float = 0.1, slow_ms: float = 2000.0, dear_usd: float = 0.01, by: Sequence[str] = ()
) -> Policy:
    return EpsilonGreedy(epsilon, slow_ms, dear_usd, tuple(by))


def _language(inner: Policy, speaks: Mapping[str, Sequence[str]] = ENGLISH_CLOUD) -> Policy:
    return LanguageAware(inner, speaks)


for _name, _maker in {
    "deadline_aware": _deadline,
    "latency_based": _latency,
    "first_token": _first_token,
    "first_token_per_token": _per_token,  # a mistake, see there
    "weighted_scorers": _scorers,
    "cooldown": _cooldown,
    "cooldown_deaf": _deaf,  # a mistake, see there
    "cheapest_within_slo": CheapestWithinSLO,
    "context_aware": ContextAware.of,
    "language_aware": _language,
    "epsilon_greedy": _bandit,
}.items():
    register(_name, _maker)
