"""The policy that decides: one with a name, or a reader's own, which may fail without any harm."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import kit.route  # noqa: F401  registers the chapter's own names
from kit.policy import (
    MAKERS,
    FleetView,
    Guarded,
    Outcome,
    Policy,
    PolicyError,
    PrivacyFirst,
    Request,
    Route,
    Target,
    Watched,
    WrongPolicy,
    make,
    tell,
)
from kit.policy.named import ALSO
from kit.route.gateway.settings import Settings
from kit.serve.settings import SettingsError


@dataclass(frozen=True)
class WithFallback:
    """What ``policy`` says, and ``tier`` behind it as the last fallback, if the route has not got it yet."""

    policy: Policy
    tier: str

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        route = self.policy.route(request, fleet, now, rng)
        if self.tier in (target.tier for target in (route.target, *route.fallbacks)):
            return route
        return replace(route, fallbacks=(*route.fallbacks, Target(self.tier)))

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on."""
        tell(self.policy, outcome)


class Deciding:
    """A function as a policy: it is called like ``Policy.route``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        return self._function(request, fleet, now, rng)


def build(settings: Settings, report: Callable[[PolicyError], None], policy: Policy | None = None) -> Policy:
    """The policy that the settings name, guarded: the same object inside as in the simulator.

    Args:
        policy: an object to take instead of the name.
        report: called when it fails; the request then goes to the nearest tier.

    Raises:
        SettingsError: there is no such policy.
    """
    names = [tier.name for tier in settings.tiers]
    if policy is not None:
        inner: Policy = Watched(policy, settings.policy_limit_ms / 1000)
    elif settings.policy in MAKERS or settings.policy in ALSO:
        try:
            inner = make(settings.policy, settings.options, names)
        except WrongPolicy as e:
            raise SettingsError(f"{e.field}: {e.message}") from None
    else:
        inner = Watched(own(settings.policy, settings.options), settings.policy_limit_ms / 1000)
    nearest = Route(Target(names[0]), tuple(Target(name) for name in names[1:]))
    return around(inner, settings, nearest, report)


def around(
    inner: Policy, settings: Settings, nearest: Route, report: Callable[[PolicyError], None]
) -> Policy:
    """``inner`` with a guard, and with what the settings want around it. Privacy is outermost."""
    policy: Policy = Guarded(inner, nearest, settings.policy_limit_ms / 1000, report)
    if settings.fallback:
        policy = WithFallback(policy, settings.fallback)
    return PrivacyFirst(policy) if settings.privacy_first else policy


def own(where: str, options: dict[str, Any]) -> Policy:
    """A reader's policy: ``module:Object``, or the path of a Python file with one policy in it.

    The object is a policy, a class that makes one (of ``options``), or a function like ``Policy.route``.

    Raises:
        SettingsError: it cannot be found, or is none of these.
    """
    place, _, name = where.rpartition(":") if ":" in where else (where, "", "")
    try:
        module = _module(place)
        found = getattr(module, name) if name else _only(module)
        made: Any = found(**options) if inspect.isclass(found) else found
    except SettingsError:
        raise
    except Exception as e:  # whatever a reader's file does when it is read
        raise SettingsError(f"policy {where!r}: {type(e).__name__}: {e}") from e
    if callable(getattr(made, "route", None)):
        return made
    if callable(made):
        return Deciding(made)
    raise SettingsError(f"policy {where!r}: {made!r} has no route(request, fleet, now, rng).")


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None or not Path(place).is_file():
            raise SettingsError(f"policy: there is no file {place!r}.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(place)
    except ImportError as e:
        known = ", ".join(MAKERS)
        raise SettingsError(
            f"policy: {place!r} is no known name ({known}), no module and no Python file ({e})."
        ) from None


def _only(module: ModuleType) -> Any:
    """The one policy that stands in a module."""
    found = [
        value
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__ and callable(getattr(value, "route", None))
    ]
    if len(found) != 1:
        raise SettingsError(
            f"policy: {module.__name__} has {len(found)} classes with a route(), so say which: "
            f"{module.__name__}.py:Name."
        )
    return found[0]
