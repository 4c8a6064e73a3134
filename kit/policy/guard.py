"""Policies that people write: what if one raises, returns nonsense, or takes too long?

The simulator stops at that request and says what was wrong; a live gateway says so and answers all the same,
along a route that it was given for such cases.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late

import numpy as np

from kit.policy.rules import Policy, tell
from kit.policy.words import FleetView, Outcome, Request, Route, Target

PATIENCE_S = 1.0
"""How long a decision may take. A good one takes microseconds: this is for those that compute for ever."""


class PolicyError(ValueError):
    """A policy's decision cannot be used.

    Attributes:
        request: what it was asked about. ``now_s``: when.
        fault: what was wrong, in words.
        kind: class of the request, if the driver knows it.
    """

    def __init__(self, policy: object, request: Request, now_s: float, fault: str, kind: str = "") -> None:
        which = f"request {request.id}" + (f" ({kind})" if kind else "")
        super().__init__(f"{type(policy).__name__}, {which}, at {now_s:.3f} s: {fault}")
        self.request, self.now_s, self.fault, self.kind = request, now_s, fault, kind


def fault(route: object, fleet: FleetView) -> str | None:
    """What is wrong with what a policy returned; None: nothing."""
    if not isinstance(route, Route):
        return (
            f"route() returned {route!r:.80}, expected a kit.policy.Route, such as "
            'Route(Target("edge")) or route_along(("edge", "cloud")).'
        )
    known = [tier.name for tier in fleet.tiers]
    for target in (route.target, *route.fallbacks):
        if not isinstance(target, Target):
            return f'the route names {target!r:.80}, expected a kit.policy.Target, such as Target("edge").'
        if target.tier not in known:
            return f"the route names tier {target.tier!r}; this fleet has: {', '.join(known)}."
    return None


def decide(
    policy: Policy,
    request: Request,
    fleet: FleetView,
    now: float,
    rng: np.random.Generator,
    patience_s: float = PATIENCE_S,
) -> Route:
    """What ``policy`` says about a request, if it can be used.

    Raises:
        PolicyError: it raised, returned something else than a route of this fleet, or took longer than
            ``patience_s``.
    """
    began = time.perf_counter()
    try:
        route = policy.route(request, fleet, now, rng)
    except Exception as e:
        raise PolicyError(policy, request, now, f"route() raised {type(e).__name__}: {e}") from e
    took_s = time.perf_counter() - began
    if wrong := fault(route, fleet):
        raise PolicyError(policy, request, now, wrong)
    if took_s > patience_s:
        said = f"route() took {took_s:.2f} s, and a decision may take {patience_s:g} s: do less there."
        raise PolicyError(policy, request, now, said)
    return route


class Guarded:
    """What ``policy`` says; and if that cannot be used, ``fallback``, and ``report`` is told why.

    Put `PrivacyFirst` around it and not inside, so that the fallback is looked at too.

    Args:
        policy: whoever decides.
        fallback: the route for requests that it cannot decide about.
        patience_s: how long it may take.
        report: called with each fault, also with those of ``observe``.
    """

    def __init__(
        self,
        policy: Policy,
        fallback: Route,
        patience_s: float = PATIENCE_S,
        report: Callable[[PolicyError], None] = lambda error: None,
    ) -> None:
        self.policy, self.fallback, self.patience_s, self.report = policy, fallback, patience_s, report
        self.faults = 0

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        """Decide about one request; never raises because of the policy inside."""
        try:
            return decide(self.policy, request, fleet, now, rng, self.patience_s)
        except PolicyError as e:
            self._note(e)
            return self.fallback

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on; a policy that cannot bear it goes on without."""
        try:
            tell(self.policy, outcome)
        except Exception as e:
            said = f"observe() raised {type(e).__name__}: {e}"
            self._note(PolicyError(self.policy, outcome.request, outcome.latency_ms / 1000, said))

    def _note(self, error: PolicyError) -> None:
        self.faults += 1
        self.report(error)


class Watched:
    """A policy that decides in a thread of its own, and is left alone there if it takes too long.

    While it is still busy with an old decision, new ones fail at once. For a live gateway, inside `Guarded`:
    a thread cannot be stopped from outside, but nobody has to wait for it.

    Args:
        policy: whoever decides.
        patience_s: how long a decision is waited for.
    """

    def __init__(self, policy: Policy, patience_s: float = 0.05) -> None:
        self.policy, self.patience_s = policy, patience_s
        self._thread = ThreadPoolExecutor(1, "policy")
        self._busy: Future | None = None

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        """Decide about one request.

        Raises:
            TimeoutError: it takes longer, or is still busy.
        """
        if self._busy is not None and not self._busy.done():
            raise TimeoutError("it is still busy with an earlier request")
        self._busy = self._thread.submit(self.policy.route, request, fleet, now, rng)
        try:
            return self._busy.result(self.patience_s)
        except Late:
            if self._busy.done():
                raise  # the policy itself raised it
            raise TimeoutError(f"no decision within {1000 * self.patience_s:g} ms") from None

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on, unless the policy is busy: it would have to wait."""
        if self._busy is None or self._busy.done():
            tell(self.policy, outcome)

    def __deepcopy__(self, memo: dict) -> Watched:
        import copy

        return Watched(copy.deepcopy(self.policy, memo), self.patience_s)
