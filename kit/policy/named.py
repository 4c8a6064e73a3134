"""Policies by name, with options as they stand in a scenario file or behind ``kit gateway --policy``.

One table for both worlds: the simulator and the gateway make their policies here. A chapter that brings
more of them adds them with `register` when it is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kit.policy import baselines as b
from kit.policy.rules import AlwaysCloud, AlwaysEdge, Policy
from kit.policy.words import Target

Options = Mapping[str, Any]


class WrongPolicy(ValueError):
    """No such policy, or options that it does not take. ``field`` is ``"policy"`` or ``"options"``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


MAKERS: dict[str, Callable[..., Policy]] = {}
"""Name -> what makes the policy of its options. Each call makes a new one: some learn."""

ALSO = {"cascade": "confidence_cascade", "shuffle": "simple_shuffle", "latency": "latency_based"}
"""Short names, for the command line."""


def register(name: str, maker: Callable[..., Policy]) -> None:
    """Add a policy.

    Args:
        name: what files and the command line call it.
        maker: gets the options as keywords; those that name tiers are called ``tier``, ``fallback``,
            ``edge``, ``cloud``, ``tiers`` or ``weights``. A policy around another one takes that one as
            ``inner``: files give its name, with its options beside it, or a table
            ``{ policy = "nearest" }``.

    Raises:
        ValueError: another policy has this name.
    """
    if MAKERS.get(name, maker) is not maker or name in ALSO:
        raise ValueError(f"a policy is called {name!r} already: choose another name.")
    MAKERS[name] = maker


def make(name: str, options: Options | None = None, tiers: Sequence[str] = ()) -> Policy:
    """A new policy.

    Args:
        name: see `MAKERS`.
        options: its arguments.
        tiers: of a fleet, nearest first; they stand in for options that name tiers and are not given, and
            short names (`ALSO`) are understood. Without them everything must be said, as in a file.

    Raises:
        WrongPolicy: an unknown name or option, one that is missing, or one that cannot be.
    """
    options, name = dict(options or {}), ALSO.get(name, name) if tiers else name
    if name not in MAKERS:
        raise WrongPolicy(
            "policy",
            f"no policy is called {name!r}; there are: {', '.join(MAKERS)}. "
            "Chapter 11 brings more (import kit.route), and kit.policy.register adds your own.",
        )
    takes = inspect.signature(MAKERS[name])
    options = {**_usual(name, takes, tiers), **options}
    if "inner" in takes.parameters and "inner" in options:
        options = _with_inner(options, takes, tiers)
    try:
        takes.bind(**options)
    except TypeError as e:
        wants = ", ".join(takes.parameters) or "none"
        raise WrongPolicy(
            "options", f"policy {name} has the options {wants}, got {', '.join(options) or 'none'} ({e})."
        ) from None
    try:
        return MAKERS[name](**options)
    except WrongPolicy:
        raise
    except (ValueError, TypeError) as e:
        raise WrongPolicy("options", f"policy {name}: {e}") from None


def _usual(name: str, takes: inspect.Signature, tiers: Sequence[str]) -> Options:
    """Options that name tiers, if nobody says otherwise: the nearest is the edge, the farthest the cloud."""
    if not tiers:
        return {}
    near, far = tiers[0], tiers[-1]
    usual = {
        "edge": near,
        "cloud": far,
        "tier": near if name == "always_edge" else far,
        "fallback": near,
        "tiers": tuple(reversed(tiers)),
        "weights": dict.fromkeys(tiers, 1.0),
        "inner": {"policy": "confidence_cascade", "edge": near, "cloud": far},
    }
    return {key: value for key, value in usual.items() if key in takes.parameters}


def _with_inner(options: dict[str, Any], takes: inspect.Signature, tiers: Sequence[str]) -> dict[str, Any]:
    """Make the policy inside; options that the one around does not take are for it."""
    own = {key: value for key, value in options.items() if key in takes.parameters}
    rest = {key: value for key, value in options.items() if key not in own}
    inner = own["inner"]
    if isinstance(inner, Mapping):
        if "policy" not in inner:
            raise WrongPolicy("options", f'inner must be a name or {{ policy = "nearest" }}, got {inner}.')
        if rest:
            raise WrongPolicy("options", f"{', '.join(rest)}: put these inside inner = {{ ... }}.")
        inner, rest = inner["policy"], {key: value for key, value in inner.items() if key != "policy"}
    return {**own, "inner": make(inner, rest, tiers)}


def tiers_of(options: Options) -> list[str]:
    """Tiers that a policy's options name, in order, those of policies inside included."""
    found: list[str] = []
    for key in ("tier", "fallback", "edge", "cloud"):
        found += [options[key]] if key in options else []
    found += [*options.get("tiers", ()), *options.get("weights", ())]
    inner = options.get("inner")
    return [*found, *tiers_of(inner)] if isinstance(inner, Mapping) else found


def _always_edge(tier: str) -> Policy:
    return AlwaysEdge(tier)


def _always_cloud(tier: str) -> Policy:
    return AlwaysCloud(tier)


def _cascade(edge: str, cloud: str, threshold: float = 0.7) -> Policy:
    return b.ConfidenceCascade(threshold, Target(edge), Target(cloud))


def _chain(tiers: Sequence[str]) -> Policy:
    return b.FallbackChain(tuple(tiers))


def _shuffle(weights: Mapping[str, float]) -> Policy:
    return b.SimpleShuffle(weights)


def _split(weights: Mapping[str, float], salt: str = "") -> Policy:
    return b.StableSplit(weights, salt=salt)


def _hedged(tier: str, fallback: str, after_ms: float = 100.0) -> Policy:
    return b.Hedged(b.FallbackChain((tier, fallback)), after_ms)


def _private(inner: Policy) -> Policy:
    return b.PrivacyFirst(inner)


for _name, _maker in {
    "always_edge": _always_edge,
    "always_cloud": _always_cloud,
    "nearest": b.Nearest,
    "simple_shuffle": _shuffle,
    "stable_split": _split,
    "least_busy": b.LeastBusy,
    "power_of_two": b.PowerOfTwoChoices,
    "fallback_chain": _chain,
    "confidence_cascade": _cascade,
    "hedged": _hedged,
    "privacy_first": _private,
}.items():
    register(_name, _maker)
