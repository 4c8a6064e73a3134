"""What if? A scenario with some values changed, over a range of another, and what mattered most."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from kit.simulate.changes import apply
from kit.simulate.checks import warnings
from kit.simulate.results import Kept, Summary
from kit.simulate.run import run
from kit.simulate.scenario import Objectives, Scenario, ScenarioError

WORTH_S = 3.0
"""Processes are started for sweeps that would take longer than this alone."""
MOST = 20_000
"""A run of a sweep has about so many requests at most."""


@dataclass(frozen=True)
class Answer:
    """What one run says.

    Attributes:
        summary: of the run. ``kept``: its objectives. ``busy``: tier -> part of its time that it worked.
    """

    summary: Summary
    kept: list[Kept]
    busy: Mapping[str, float]


def ask(
    scenario: Scenario, topology: str | None = None, seed: int = 0, slo: Mapping[str, float] | None = None
) -> Answer:
    """Run a scenario once.

    Args:
        scenario, topology, seed: as for `run`.
        slo: objectives; None: the scenario's own.
    """
    result = run(scenario, topology=topology, seed=seed)
    busy = {name: place.busy for name, place in result.places.items()}
    return Answer(result.summary(), result.kept(slo), busy)


def sweep(
    scenario: Scenario,
    path: str,
    values: Sequence[Any],
    *,
    topology: str | None = None,
    seed: int = 0,
    slo: Mapping[str, float] | None = None,
    most: int | None = MOST,
) -> list[Answer]:
    """One run for each value of ``path``, with the same chance.

    The numbers do not depend on how many work on it: this process for short sweeps, all cores for long ones,
    a Ray cluster if the environment variable ``RAY_ADDRESS`` names one.

    Args:
        scenario: all other values.
        path: what changes, such as ``requests_per_s`` or ``network.wan.rtt_ms``.
        values: of it.
        topology, seed: as for `run`. ``slo``: objectives; None: the scenario's own.
        most: runs are `shortened` to about so many requests; None: they are not.

    Raises:
        ScenarioError: no such path, or a value that cannot be.
    """
    variants = [apply(scenario, [f"{path}={value}"]) for value in values]
    if most:
        variants = [shortened(variant, most) for variant in variants]
    asked = [partial(ask, variant, topology, seed, slo) for variant in variants]
    if os.environ.get("RAY_ADDRESS"):
        return _on_ray(asked)
    if not asked:
        return []
    before = time.perf_counter()
    first = asked[0]()
    left_s = (time.perf_counter() - before) * (len(asked) - 1)
    if left_s < WORTH_S:
        return [first, *(one() for one in asked[1:])]
    return [first, *_on_cores(asked[1:])]


def _on_cores(asked: Sequence[Callable[[], Answer]]) -> list[Answer]:
    spawn = multiprocessing.get_context("spawn")  # a notebook has threads, which a fork would break
    with ProcessPoolExecutor(min(len(asked), os.cpu_count() or 1), mp_context=spawn) as pool:
        return [one.result() for one in [pool.submit(work) for work in asked]]


def _on_ray(asked: Sequence[Callable[[], Answer]]) -> list[Answer]:
    import ray

    ray.init(ignore_reinit_error=True, log_to_driver=False)
    remote: Any = ray.remote(_call)
    return ray.get([remote.remote(work) for work in asked])


def _call(work: Callable[[], Answer]) -> Answer:
    return work()


@dataclass(frozen=True)
class Effect:
    """What one change does to a measure.

    Attributes:
        change: as it was written.
        alone: the measure with this change only, and without the others.
        without: the measure with all changes but this one.
    """

    change: str
    alone: float
    without: float


def effects(
    scenario: Scenario, changes: Sequence[str], measure: str, *, topology: str | None = None, seed: int = 0
) -> tuple[float, float, list[Effect]]:
    """Which change matters most? The measure before, after all changes, and each change's part.

    The one without which the result would differ most comes first.

    Raises:
        ScenarioError: a change that cannot be.
    """

    def value(some: Sequence[str]) -> float:
        return float(getattr(ask(apply(scenario, some), topology, seed).summary, measure))

    before, after = value([]), value(changes)
    found = [Effect(c, value([c]), value([d for d in changes if d is not c])) for c in changes]
    return before, after, sorted(found, key=lambda e: -abs(after - e.without))


def shortened(scenario: Scenario, most: int = MOST) -> Scenario:
    """The same with fewer seconds, so that about ``most`` requests come. A scenario in which the time of day
    matters (a daily wave, outages at known times) stays as it is."""
    w = scenario.workload
    if w.arrivals == "daily" or scenario.outages or w.requests_per_s * w.seconds <= most:
        return scenario
    return scenario.but(workload=replace(w, seconds=most / w.requests_per_s))


def overloads(scenario: Scenario, path: str, values: Sequence[Any]) -> list[str]:
    """Notes on a sweep: from which value on a queue may grow without end, each said once."""
    known, found = set(), []
    for value in values:
        for warning in warnings(apply(scenario, [f"{path}={value}"])):
            if (about := warning.split(":")[0]) not in known:
                known.add(about)
                found.append(f"from {path} = {value} on: {warning}")
    return found


def objectives(texts: Sequence[str]) -> dict[str, float]:
    """Objectives such as ``p95_ms=100``.

    Raises:
        ScenarioError: no such measure, or no number.
    """
    known = [f.name for f in fields(Objectives)]
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise ScenarioError(
                f"--slo {text}: no objective is called {name!r}; there are: {', '.join(known)}."
            )
        try:
            found[name] = float(value)
        except ValueError:
            raise ScenarioError(f"--slo {text}: expected a number, as in {name}=100.") from None
    return found


def main_measure(scenario: Scenario, slo: Mapping[str, float] | None) -> str:
    """What a scenario is judged by first: its first objective, or P95."""
    said = slo or {k: v for k, v in asdict(scenario.slo).items() if v is not None}
    return next(iter(said), "p95_ms")


def told(
    scenario: Scenario,
    changes: Sequence[str],
    slo: Mapping[str, float] | None = None,
    *,
    topology: str | None = None,
    seed: int = 0,
) -> str:
    """Which change mattered most, in a sentence for each."""
    measure = main_measure(scenario, slo)
    before, after, found = effects(scenario, changes, measure, topology=topology, seed=seed)
    way = topology or scenario.policy
    if before == after:
        return f"Base values, {way}: {measure} stays at {_digits(before)}; for it, no change matters."
    lines = [
        f"Base values, {way}: {measure} was {_digits(before)} and is {_digits(after)}. What mattered most:"
    ]
    lines += [
        f"  {e.change}: alone it makes {_digits(e.alone)}; without it, {_digits(e.without)}" for e in found
    ]
    return "\n".join(lines)


def draw(
    scenario: Scenario,
    answers: Mapping[str, Answer],
    file: Path,
    swept: str | None = None,
    slo: Mapping[str, float] | None = None,
) -> None:
    """Draw what was found, as HTML or PNG. ``swept``: what the names of the answers are values of."""
    from kit.simulate import figures

    limit = (slo or {}).get("p95_ms", scenario.slo.p95_ms)
    if swept is None:
        fig = figures.picture(answers, limit)
    else:
        try:
            x: list[Any] = [float(name) for name in answers]
        except ValueError:
            x = list(answers)
        fig = figures.over(x, list(answers.values()), name=swept, limit_ms=limit)
    figures.write(fig, file)


COLUMNS = {
    "requests": "requests",
    "p50_ms": "P50 ms",
    "p95_ms": "P95 ms",
    "p99_ms": "P99 ms",
    "availability": "answered",
    "quality": "right",
    "usd_per_1k": "USD/1000",
    "energy_j": "J each",
    "private_leaks": "leaks",
    "edge_rate": "at edge",
}
"""What a table shows, and its heading."""


def row(answer: Answer) -> dict[str, float]:
    """One line of a table."""
    values = asdict(answer.summary)
    return {heading: values[name] for name, heading in COLUMNS.items()}


def text(rows: Mapping[str, Mapping[str, float]], head: str = "") -> str:
    """A table as text, for a terminal."""
    columns = list(next(iter(rows.values())))
    widths = [max(len(c), 9) for c in columns]
    first = max(len(head), *(len(name) for name in rows))
    lines = [head.ljust(first) + "".join(f"  {c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for name, values in rows.items():
        cells = (f"  {_digits(values[c]):>{w}}" for c, w in zip(columns, widths, strict=True))
        lines.append(name.ljust(first) + "".join(cells))
    return "\n".join(lines)


def _digits(value: float) -> str:
    if value != value:
        return "-"
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
