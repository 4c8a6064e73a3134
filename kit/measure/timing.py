"""Timing with its doubt: warm-up, repeats, percentiles, bootstrap intervals, and a word on noise.

A *control*, a small piece of work that never changes, is timed between the samples. If even that
varies, the machine was busy with something else, and the verdict says so.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0
WIDE = 0.10  # of the median: an interval wider than this tells little
SLOW, OFTEN = 1.5, 0.10  # noisy if the control took 1.5 times its median in more than 10% of its runs


@dataclass(frozen=True)
class Timing:
    """Times of one piece of work.

    Attributes:
        samples: time of each run in ms, in the order of the runs.
        control: time of the control before each run in ms.
    """

    samples: np.ndarray
    control: np.ndarray

    @property
    def p50(self) -> float:
        """Median in ms."""
        return float(np.percentile(self.samples, 50))

    @property
    def p95(self) -> float:
        """95 of 100 runs took at most this many ms."""
        return float(np.percentile(self.samples, 95))

    @property
    def p99(self) -> float:
        """99 of 100 runs took at most this many ms; needs some hundred runs to mean much."""
        return float(np.percentile(self.samples, 99))

    def ci(self, q: float = 50) -> tuple[float, float]:
        """95% bootstrap interval of percentile ``q``, in ms.

        Source: Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", percentile method.
        """
        draws = np.random.default_rng(SEED).choice(self.samples, (RESAMPLES, len(self.samples)))
        low, high = np.percentile(np.percentile(draws, q, axis=1), [2.5, 97.5])
        return float(low), float(high)

    @property
    def why(self) -> str:
        """What makes this timing doubtful, in words; empty if nothing does."""
        low, high = self.ci()
        slow = float((self.control > SLOW * np.median(self.control)).mean())
        reasons = []
        if high - low > WIDE * self.p50:
            reasons.append(f"the median is known to ±{(high - low) / 2 / self.p50:.0%} only")
        if slow > OFTEN:
            reasons.append(f"a control that never changes was slow in {slow:.0%} of its runs")
        return "; ".join(reasons)

    @property
    def noisy(self) -> bool:
        """True if the machine was too busy, or the runs too few, to tell; ``why`` says which."""
        return bool(self.why)


def _control() -> float:
    """Time of a fixed piece of work in ms (some 50 µs)."""
    start = time.perf_counter_ns()
    sum(range(2000))
    return (time.perf_counter_ns() - start) / 1e6


def _once(fn: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    fn()
    return (time.perf_counter_ns() - start) / 1e6


def timeit(
    fn: Callable[[], object], *, repeats: int = 30, warmup: int = 5, seconds: float | None = None
) -> Timing:
    """Time ``fn``.

    Args:
        fn: the work, without arguments.
        repeats: timed runs.
        warmup: runs before them that are not kept: they fill caches and make lazy things happen.
        seconds: stop early once this much time has gone by (after 3 runs at least).

    Raises:
        ValueError: fewer than 3 repeats.
    """
    return _rounds({"": fn}, repeats, warmup, seconds)[""]


def compare(fns: Mapping[str, Callable[[], object]], rounds: int = 20, warmup: int = 2) -> dict[str, Timing]:
    """Time several pieces of work in turn, so that a busy minute hits all of them alike.

    Each round runs every one of them once, in a new order.

    Returns:
        A timing for each name. Sample i of all of them comes from round i.

    Raises:
        ValueError: fewer than 3 rounds.
    """
    return _rounds(fns, rounds, warmup, None)


def _rounds(
    fns: Mapping[str, Callable[[], object]], rounds: int, warmup: int, seconds: float | None
) -> dict[str, Timing]:
    if rounds < 3:
        raise ValueError(f"need at least 3 runs to say anything about their spread, got {rounds}.")
    for fn in fns.values():
        for _ in range(warmup):
            fn()
    samples: dict[str, list[float]] = {name: [] for name in fns}
    control: dict[str, list[float]] = {name: [] for name in fns}
    rng, collecting, start = np.random.default_rng(SEED), gc.isenabled(), time.perf_counter()
    gc.collect()
    gc.disable()  # a collection in the middle would be charged to whoever runs then
    try:
        for done in range(rounds):
            if seconds is not None and done >= 3 and time.perf_counter() - start > seconds:
                break
            for name in rng.permutation(list(fns)):
                control[name].append(_control())
                samples[name].append(_once(fns[name]))
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(np.array(samples[name]), np.array(control[name])) for name in fns}


def ratio(a: Timing, b: Timing) -> tuple[float, float, float]:
    """How many times longer ``a`` takes than ``b``: ratio of the medians and its 95% interval.

    Timings of equal length are resampled together, round by round, so that what slowed both in a
    round of ``compare`` cancels out.

    Returns:
        ``(ratio, low, high)``; an interval that holds 1 means: no difference was seen.
    """
    rng = np.random.default_rng(SEED)
    pick_a = rng.integers(len(a.samples), size=(RESAMPLES, len(a.samples)))
    paired = len(a.samples) == len(b.samples)
    pick_b = pick_a if paired else rng.integers(len(b.samples), size=(RESAMPLES, len(b.samples)))
    draws = np.median(a.samples[pick_a], axis=1) / np.median(b.samples[pick_b], axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return a.p50 / b.p50, float(low), float(high)
