"""What the chapter tries in the simulator besides the voice home: old signals, and a server that says no."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.policy import LeastBusy, Policy, PowerOfTwoChoices, SimpleShuffle
from kit.route.latency import LatencyBased
from kit.simulate import Dispatch, Scenario, Tier, Workload, run

AGES_S = (0.02, 0.1, 0.5, 2.0)
BUFFERS = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)


def alike(
    servers: int = 8, load: float = 0.8, service_ms: float = 20.0, age_s: float = 1.0, requests: int = 6000
) -> Scenario:
    """Some servers that are all alike, each with a queue of its own, and a router with old signals.

    Args:
        load: busy part of each, if all get the same. ``service_ms``: mean of an exponential service.
        age_s: how often the router looks at the queues.
    """
    rate = 1000 * load * servers / service_ms
    place = Tier(kind="regional_edge", service_ms=service_ms, service_cv=1)
    return Scenario(
        title="servers alike",
        workload=Workload(requests_per_s=rate, seconds=requests / rate),
        tiers={f"server {k + 1}": place for k in range(servers)},
        dispatch=Dispatch(signals_every_s=age_s),
    )


def routers(servers: int = 8) -> dict[str, Policy]:
    """Three ways to choose among servers that are alike."""
    return {
        "random": SimpleShuffle({f"server {k + 1}": 1.0 for k in range(servers)}),
        "least busy": LeastBusy(),
        "two choices": PowerOfTwoChoices(),
    }


def herding(ages_s: Sequence[float] = AGES_S, seeds: Sequence[int] = (0, 1)) -> dict[str, np.ndarray]:
    """P95 in ms of each router, for signals of several ages: name -> [ages], mean over the seeds."""
    scenarios = [alike(age_s=age_s) for age_s in ages_s]
    return {
        name: np.array([_p95_ms(one, policy, seeds) for one in scenarios])
        for name, policy in routers().items()
    }


def buffers(
    widths: Sequence[float] = BUFFERS, seeds: Sequence[int] = (0, 1), servers: int = 3, load: float = 0.3
) -> dict[str, np.ndarray]:
    """P95 in ms of latency-based routing by the width of its buffer, and of random choice; each [widths]."""
    scenario = alike(servers, load, requests=4000)
    lots_ms = _p95_ms(scenario, routers(servers)["random"], seeds)
    return {
        "latency": np.array([_p95_ms(scenario, LatencyBased(buffer=width), seeds) for width in widths]),
        "random": np.full(len(widths), lots_ms),
    }


def _p95_ms(scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> float:
    return float(np.mean([run(scenario, policy, seed=seed).summary().p95_ms for seed in seeds]))
