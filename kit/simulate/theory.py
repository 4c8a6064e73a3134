"""What queueing theory says in closed form. The simulator is held against it.

Requests come independently (Poisson). Rates are per second, times in seconds. Sources: Erlang 1917;
Pollaczek 1930 and Khinchine 1932; Burke 1956; in any book on queues, such as Kleinrock 1975, "Queueing
Systems, volume 1".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GRID = 2**15


@dataclass(frozen=True)
class Queue:
    """A queue in the long run.

    Attributes:
        mean_wait_s: of those that are let in, before their service.
        loss: part of the requests that find no place.
        wait_tail: P(wait > t). ``sojourn_tail``: P(wait and service > t).
    """

    mean_wait_s: float
    loss: float
    wait_tail: Callable[[float], float]
    sojourn_tail: Callable[[float], float]

    def wait_quantile_s(self, level: float) -> float:
        """The wait that this part of all stays below; 0 if so many do not wait."""
        return _quantile(self.wait_tail, level)

    def sojourn_quantile_s(self, level: float) -> float:
        """The same for the whole stay."""
        return _quantile(self.sojourn_tail, level)


def _quantile(tail: Callable[[float], float], level: float) -> float:
    """Where a tail that falls reaches 1 - level, by halving."""
    if tail(0.0) <= 1 - level:
        return 0.0
    high = 1e-9
    while tail(high) > 1 - level:
        high *= 2
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1 - level else (low, middle)
    return (low + high) / 2


def _load(rate: float, service_s: float, servers: int = 1) -> float:
    if not (rate > 0 and service_s > 0) or servers < 1:
        raise ValueError(f"rate, service and servers must be above 0, got {rate}, {service_s} and {servers}.")
    load = rate * service_s / servers
    if load >= 1:
        raise ValueError(
            f"the load is {load:.2f}: {rate:g} requests/s of {service_s:g} s need {rate * service_s:.2f} "
            f"servers, and there are {servers}. The queue grows without end; no formula says how long."
        )
    return load


def erlang_b(offered: float, servers: int) -> float:
    """M/M/c/c: part of the requests that find all servers busy. ``offered`` is rate times service."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked


def erlang_c(offered: float, servers: int) -> float:
    """M/M/c: part of the requests that must wait."""
    blocked = erlang_b(offered, servers)
    return blocked / (1 - offered / servers * (1 - blocked))


def mmc(rate: float, service_s: float, servers: int = 1) -> Queue:
    """Exponential services, ``servers`` of them, no bound: M/M/c; M/M/1 with one.

    Who must wait waits for an exponential time, and then is served for another: their sum has a tail of two
    exponentials. With one server it is a single one again.

    Raises:
        ValueError: a load of 1 or more.
    """
    _load(rate, service_s, servers)
    waits = erlang_c(rate * service_s, servers)
    mu, theta = 1 / service_s, servers / service_s - rate

    def sojourn_tail(t: float) -> float:
        alone = math.exp(-mu * t)
        if abs(theta - mu) < 1e-9 * mu:
            both = alone * (1 + mu * t)
        else:
            both = (theta * alone - mu * math.exp(-theta * t)) / (theta - mu)
        return (1 - waits) * alone + waits * both

    return Queue(waits / theta, 0.0, lambda t: waits * math.exp(-theta * t), sojourn_tail)


def mmck(rate: float, service_s: float, servers: int, queue: int) -> Queue:
    """Exponential services and ``queue`` places to wait: M/M/c/K with K = servers + queue; M/M/c/c with 0."""
    offered = rate * service_s
    inside = np.arange(servers + queue + 1)
    steps = np.log(offered) - np.log(np.minimum(np.maximum(inside, 1), servers))
    logs = np.cumsum(np.where(inside > 0, steps, 0.0))
    p = np.exp(logs - logs.max())
    p /= p.sum()  # chance of so many inside
    let_in = p[:-1] / p[:-1].sum()  # as those find it who are let in
    ahead = np.maximum(inside[:-1] - servers + 1, 0)  # services that must end before one's own begins
    speed = servers / service_s

    last = 1 / service_s  # the rate of one's own service

    def wait_tail(t: float) -> float:
        fewer = np.append(0.0, np.cumsum(_poisson(len(ahead) + 1, speed * t)))  # P(fewer than k services end)
        return float(let_in @ fewer[ahead])

    def sojourn_tail(t: float) -> float:
        """Fewer than k of them end by t; or i do, and none of the i - k later ones stands for one's own."""
        x = speed * t
        ends = _poisson(len(ahead) + int(x + 12 * math.sqrt(x)) + 50, x)
        fewer = np.append(0.0, np.cumsum(ends))
        later = np.zeros(len(ends) + 1)  # sum over i >= k of P(i end) (1 - last / speed)^(i - k)
        for k in range(len(ends) - 1, -1, -1):
            later[k] = ends[k] + (1 - last / speed) * later[k + 1]
        return float(let_in @ (fewer[ahead] + later[ahead]))

    return Queue(float(let_in @ ahead) / speed, float(p[-1]), wait_tail, sojourn_tail)


def _poisson(n: int, mean: float) -> np.ndarray:
    """P(0), P(1) ... P(n - 1) of a Poisson distribution, [n]."""
    if mean == 0:
        return np.eye(1, n)[0]
    return np.exp(np.cumsum(np.append(-mean, np.log(mean / np.arange(1, n)))))


def mg1(rate: float, services_s: np.ndarray, weights: np.ndarray | None = None) -> Queue:
    """One server, any services: M/G/1. With services that are all alike it is M/D/1.

    The mean is exact. The distributions are Beneš' series (the wait is a geometric number of residual
    services), summed by a Fourier transform on a grid of 2^15 points up to 60 mean waits.

    Args:
        rate: requests per second.
        services_s: what they take [n], equally likely, or with ``weights`` [n].

    Raises:
        ValueError: a load of 1 or more.
    """
    services_s = np.asarray(services_s, float)
    share = np.ones(len(services_s)) if weights is None else np.asarray(weights, float)
    share = share / share.sum()
    mean = float(share @ services_s)
    load = _load(rate, mean)
    mean_wait = rate * float(share @ services_s**2) / (2 * (1 - load))
    step = 60 * max(mean_wait, services_s.max()) / GRID
    edges = (np.arange(GRID) + 0.5) * step
    # P(residual > t) = E[max(service - t, 0)] / mean
    order = np.argsort(services_s)
    s, w = services_s[order], share[order]
    mass, work = np.append(np.cumsum(w[::-1])[::-1], 0), np.append(np.cumsum((w * s)[::-1])[::-1], 0)
    i = np.searchsorted(s, edges, side="right")
    residual_tail = (work[i] - edges * mass[i]) / mean
    residual = -np.diff(np.append(1.0, residual_tail))
    service = np.bincount(np.minimum(np.round(services_s / step).astype(int), GRID - 1), share, GRID)
    r, b = (np.fft.rfft(x, 2 * GRID) for x in (residual, service))
    wait = (1 - load) / (1 - load * r)
    tails = [1 - np.cumsum(np.fft.irfft(x, 2 * GRID)[:GRID]) for x in (wait, wait * b)]
    at = [lambda t, tail=tail: float(np.interp(t, edges, tail)) for tail in tails]
    return Queue(mean_wait, 0.0, at[0], at[1])


def tandem(rate: float, services_s: tuple[float, float]) -> Queue:
    """Two M/M/1 queues, one after the other. What leaves the first is Poisson again, and the two stays are
    independent (Burke 1956; Reich 1957). ``mean_wait_s`` is of both waits together, ``wait_tail`` of the
    second.

    Raises:
        ValueError: a load of 1 or more.
    """
    first, second = (mmc(rate, s) for s in services_s)
    a, b = (1 / s - rate for s in services_s)

    def sojourn_tail(t: float) -> float:
        if abs(a - b) < 1e-9 * a:
            return math.exp(-a * t) * (1 + a * t)
        return (b * math.exp(-a * t) - a * math.exp(-b * t)) / (b - a)

    return Queue(first.mean_wait_s + second.mean_wait_s, 0.0, second.wait_tail, sojourn_tail)


def shortcut_p99_s(rate: float, service_s: float, servers: int) -> float:
    """The P99 of the wait plus the **mean** service: often taken for the P99 of the whole. It is not."""
    return mmc(rate, service_s, servers).wait_quantile_s(0.99) + service_s
