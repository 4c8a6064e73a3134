"""What queueing theory says, to hold the measurements against; and the load at which two rules are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kit.batch.core import Job
from kit.batch.costs import Costs, predict
from kit.batch.drive import Arrivals
from kit.batch.rules import Rule
from kit.batch.workload import poisson
from kit.records import Records, Summary


def mg1_wait_s(rate_per_s: float, service_s: np.ndarray) -> float:
    """Mean wait before the start in front of one server, with Poisson arrivals, in seconds.

    With services that are all alike this is M/D/1. Infinity at a load of 1 and more.
    Source: Pollaczek 1930 and Khinchine 1932; in any book on queues, such as Kleinrock 1975.

    Args:
        rate_per_s: requests per second.
        service_s: what requests take, alone [n].
    """
    load = rate_per_s * service_s.mean()
    return float(rate_per_s * np.mean(service_s**2) / (2 * (1 - load))) if load < 1 else float("inf")


def little(records: Records) -> tuple[float, float]:
    """Requests in the house, counted over time, and rate times mean stay. Little's law: both are equal.

    Source: Little 1961, "A proof for the queuing formula L = λW".
    """
    come, go = np.sort(records["scheduled_s"]), np.sort(records["last_token_s"])
    times = np.concatenate([come, go])
    change = np.concatenate([np.ones(len(come)), -np.ones(len(go))])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(change[order])[:-1]  # between one event and the next
    span_s = float(go[-1] - come[0])
    counted = float(np.sum(inside * np.diff(times[order])) / span_s)
    return counted, len(records) / span_s * float(records["e2e_ms"].mean()) / 1000


@dataclass(frozen=True)
class Point:
    """One rule at one rate of arrival: mean end-to-end latency beside the summary."""

    rate_per_s: float
    mean_ms: float
    summary: Summary


def sweep(
    costs: Costs, rules: Sequence[Rule], rates_per_s: Sequence[float], jobs: Sequence[Job], rows: int = 8
) -> dict[str, list[Point]]:
    """Predicted runs of every rule at every rate, with the same jobs in the same order: rule -> points."""
    found: dict[str, list[Point]] = {rule.name: [] for rule in rules}
    for rate in rates_per_s:
        times = poisson(rate, len(jobs))
        for rule in rules:
            records = predict(costs, rule, Arrivals(times, jobs), rows).records
            found[rule.name].append(Point(rate, float(records["e2e_ms"].mean()), records.summary()))
    return found


def crossover(first: Sequence[Point], second: Sequence[Point]) -> float:
    """Rate from which the second rule has the lower mean latency: a straight line between points.

    NaN if it never has, or already has at the lowest rate.
    """
    ahead = np.array([b.mean_ms - a.mean_ms for a, b in zip(first, second, strict=True)])
    rates = np.array([p.rate_per_s for p in first])
    turn = np.flatnonzero((ahead[:-1] > 0) & (ahead[1:] <= 0))
    if not len(turn):
        return float("nan")
    i = int(turn[0])
    return float(rates[i] + (rates[i + 1] - rates[i]) * ahead[i] / (ahead[i] - ahead[i + 1]))
