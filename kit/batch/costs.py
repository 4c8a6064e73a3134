"""What a step costs with 1, 2, 4 ... rows; and what a whole run would cost, worked out from that.

``predict`` runs the very same batcher on an engine that calculates nothing: it only moves a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kit import measure
from kit.batch.core import Job
from kit.batch.drive import Run, Source, run
from kit.batch.rules import Rule
from kit.engine import Engine
from kit.measure import Timing

ROWS = (1, 2, 4, 8, 16)
SPEAK = 5  # a token that stands for any other, here where only time matters


def step_times(
    engines: Mapping[str, Engine], prompt: Sequence[int], rows: Sequence[int] = ROWS, rounds: int = 10
) -> dict[str, dict[int, Timing]]:
    """Time of one step with so many rows: engine -> rows -> timing. All are timed in turn.

    Args:
        engines: name -> engine with as many rows as the largest of ``rows``.
        prompt: tokens that each row holds.
        rows: how many rows go together.
        rounds: steps of each kind.
    """

    def step(engine: Engine, n: int, tokens: int) -> Callable[[], object]:
        def work() -> None:
            engine.pasts[:n] = tokens  # so that every step has as much to look back on
            engine.step_rows([SPEAK] * n)

        return work

    work = {}
    for name, engine in engines.items():
        engine.reset()
        engine.prefill(prompt)
        for row in range(1, max(rows)):
            engine.copy(0, row)
        work |= {f"{name} {n}": step(engine, n, len(prompt)) for n in rows}
    times = measure.compare(work, rounds)
    return {name: {n: times[f"{name} {n}"] for n in rows} for name in engines}


def drift(engines: Mapping[str, Engine], prompt: Sequence[int], rows: int = 8) -> dict[str, float]:
    """Does a row's answer depend on how many others are calculated with it? Engine -> largest difference of
    a logit between a step alone and a step with ``rows`` rows, all of which hold ``prompt``."""
    found = {}
    for name, engine in engines.items():
        engine.reset()
        engine.prefill(prompt)
        for row in range(1, rows):
            engine.copy(0, row)
        alone = engine.step(SPEAK).copy()  # [vocab]
        engine.pasts[:rows] = len(prompt)
        found[name] = float(np.abs(engine.step_rows([SPEAK] * rows) - alone).max())
    return found


def per_second(step: Timing, rows: int) -> tuple[float, float, float]:
    """Tokens per second of all rows together, with the 95% interval."""
    low, high = step.ci()
    return 1000 * rows / step.p50, 1000 * rows / high, 1000 * rows / low


@dataclass(frozen=True)
class Costs:
    """What an engine's calls cost, as straight lines between what was measured.

    Attributes:
        step_ms: rows -> milliseconds of a step.
        prompt_ms: tokens -> milliseconds to read such a prompt.
    """

    step_ms: Mapping[int, float]
    prompt_ms: Mapping[int, float]

    def step_s(self, rows: int) -> float:
        """Seconds of a step with so many rows."""
        return _between(self.step_ms, rows) / 1000

    def prompt_s(self, tokens: int) -> float:
        """Seconds to read a prompt."""
        return _between(self.prompt_ms, tokens) / 1000

    def alone_s(self, job: Job) -> float:
        """Seconds that one request takes if nobody else is there."""
        return self.prompt_s(len(job.prompt)) + (job.max_tokens - 1) * self.step_s(1)


def _between(known: Mapping[int, float], x: float) -> float:
    """A straight line between the known points, and on beyond the last in the same direction."""
    xs = sorted(known)
    ys = [known[n] for n in xs]
    if x <= xs[-1] or len(xs) == 1:
        return float(np.interp(x, xs, ys))
    slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
    return ys[-1] + max(slope, 0) * (x - xs[-1])


def costs(steps: Mapping[int, Timing], prompts: Mapping[int, Timing]) -> Costs:
    """Medians of what was measured."""
    return Costs({n: t.p50 for n, t in steps.items()}, {n: t.p50 for n, t in prompts.items()})


class Standstill:
    """A clock that moves only when somebody spends time, or waits."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    def wait_until(self, time_s: float) -> None:
        self._now_s = max(self._now_s, time_s)

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds


class CostOnly:
    """An engine that calculates nothing: it moves a clock by what the real one would take.

    Args:
        costs: what calls take.
        clock: moved by them.
        rows, context: as of ``Engine``.
    """

    vocab = 2**31

    def __init__(self, costs: Costs, clock: Standstill, rows: int = 8, context: int = 100_000) -> None:
        self.rows, self.context, self.pasts = rows, context, np.zeros(rows, np.int64)
        self._costs, self._clock = costs, clock
        self._step_s = [0.0, *(costs.step_s(n) for n in range(1, rows + 1))]
        self._logits = np.zeros((rows, SPEAK + 1), np.float32)
        self._logits[:, SPEAK] = 1

    def prefill(self, ids: Sequence[int], row: int = 0) -> np.ndarray:
        """Take the time of reading a prompt."""
        self._clock.spend(self._costs.prompt_s(len(ids)))
        return self._logits[row]

    def step_rows(self, tokens: Sequence[int]) -> np.ndarray:
        """Take the time of a step."""
        self._clock.spend(self._step_s[len(tokens)])
        return self._logits[: len(tokens)]

    def copy(self, source: int, target: int) -> None:
        """Takes no time worth counting: see the measurement in the chapter."""

    def reset(self, row: int = 0) -> None:
        """Nothing is kept."""


def predict(costs: Costs, rule: Rule, source: Source, rows: int = 8, model: str = "predicted") -> Run:
    """The run that would have been: as ``drive.run``, but answers have as many tokens as they may."""
    clock = Standstill()
    return run(CostOnly(costs, clock, rows), rule, source, clock, model)


def as_answered(jobs: Sequence[Job], tokens: Mapping[str, Sequence[int]]) -> list[Job]:
    """The same jobs, each allowed as many tokens as its answer really had (one at least)."""
    return [replace(job, max_tokens=max(1, len(tokens[job.id]))) for job in jobs]
