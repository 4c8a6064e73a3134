"""The policies that a scenario can name, with their options as they stand in its file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kit import policy as p
from kit.policy import Policy, Target
from kit.simulate.scenario import Wrong


def _always(tier: str) -> Policy:
    return p.AlwaysCloud(tier)


def _shuffle(weights: Mapping[str, float]) -> Policy:
    return p.SimpleShuffle(weights)


def _split(weights: Mapping[str, float], salt: str = "") -> Policy:
    return p.StableSplit(weights, salt=salt)


def _cascade(edge: str, cloud: str, threshold: float = 0.7) -> Policy:
    return p.ConfidenceCascade(threshold, Target(edge), Target(cloud))


def _chain(tiers: Sequence[str]) -> Policy:
    return p.FallbackChain(tuple(tiers))


def _hedged(tier: str, fallback: str, after_ms: float) -> Policy:
    return p.Hedged(p.FallbackChain((tier, fallback)), after_ms)


def _private(inner: str, **options: Any) -> Policy:
    return p.PrivacyFirst(make(inner, options))


POLICIES: dict[str, Callable[..., Policy]] = {
    "always_edge": _always,
    "always_cloud": _always,
    "nearest": p.Nearest,
    "simple_shuffle": _shuffle,
    "stable_split": _split,
    "least_busy": p.LeastBusy,
    "power_of_two": p.PowerOfTwoChoices,
    "fallback_chain": _chain,
    "confidence_cascade": _cascade,
    "hedged": _hedged,
    "privacy_first": _private,
}
"""Name -> what makes the policy of its options."""


def make(name: str, options: Mapping[str, Any]) -> Policy:
    """A new policy.

    Raises:
        Wrong: an unknown name or option, or one that is missing.
    """
    if name not in POLICIES:
        raise Wrong("policy", f"no policy is called {name!r}; there are: {', '.join(POLICIES)}.")
    maker = POLICIES[name]
    try:
        inspect.signature(maker).bind(**options)
    except TypeError as e:
        wants = ", ".join(inspect.signature(maker).parameters) or "none"
        raise Wrong(
            "options", f"policy {name} has the options {wants}, got {', '.join(options) or 'none'} ({e})."
        ) from None
    try:
        return maker(**options)
    except (ValueError, TypeError) as e:
        raise Wrong("options", f"policy {name}: {e}") from None


def targets(options: Mapping[str, Any]) -> list[str]:
    """Tiers that a policy's options name: these are there, and paid for, even if nobody is sent there."""
    found: list[str] = []
    for key in ("tier", "fallback", "edge", "cloud"):
        found += [options[key]] if key in options else []
    return [*found, *options.get("tiers", ()), *options.get("weights", ())]
