"""One matrix, one vector or eight, in NumPy: why rows share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kit import measure
from kit.batch.core import Job
from kit.batch.costs import Costs
from kit.measure import Timing

# Three requests on paper: a prompt takes 1 s, and so does a step, whoever takes part.
PAPER = Costs(step_ms={1: 1000.0}, prompt_ms={1: 1000.0})
PAPER_JOBS = [Job(name, [1], max_tokens=n, eos=None) for name, n in (("A", 5), ("B", 2), ("C", 4))]


def together(counts: tuple[int, int] = (1, 8), size: int = 4096, rounds: int = 20) -> Mapping[str, Timing]:
    """Time of one square matrix times one vector, and times several vectors at once.

    Args:
        counts: how many vectors.
        size: rows and columns of the matrix, float32: 4096 are 67 MB, more than a cache holds.
        rounds: timed runs of each.
    """
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(size, size)).astype(np.float32)
    vectors = {n: rng.normal(size=(size, n)).astype(np.float32) for n in counts}
    return measure.compare({str(n): lambda x=x: matrix @ x for n, x in vectors.items()}, rounds)
