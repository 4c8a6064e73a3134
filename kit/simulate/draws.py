"""Chance, so that it can be repeated and shared: each purpose has its own stream, each chunk its own start.

Two runs with the same seed meet the same requests, the same network and the same services, whatever is
decided in between (common random numbers), and a run in pieces is the same on any number of processes.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np


def stream(seed: int, purpose: str, chunk: int = 0) -> np.random.Generator:
    """The generator for one purpose ("service cloud") and one chunk of requests."""
    return np.random.default_rng([seed, crc32(purpose.encode()), chunk])


def gamma(rng: np.random.Generator, n: int, cv: float) -> np.ndarray:
    """``n`` draws with mean 1 and this coefficient of variation, [n]; 0: always 1."""
    if cv == 0:
        return np.ones(n)
    if cv == 1:
        return rng.standard_exponential(n)
    return rng.standard_gamma(1 / cv**2, n) * cv**2
