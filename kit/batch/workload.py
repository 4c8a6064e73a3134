"""What is asked: requests to the language model, and when they come; commands for the classifiers."""

from __future__ import annotations

from functools import cache

import numpy as np

from kit import data, facts
from kit.batch.core import Job
from kit.decode.prompts import requests
from kit.engine import chat_ids

TRACE = "azure_llm_2023_conversation"
LEVELS = (5, 25, 50, 75, 95, 99)


def answer_lengths(n: int, shrink: float = 4, seed: int = 0) -> list[int]:
    """Tokens of ``n`` answers: as in an hour of a chat service (see ``facts.workloads``), made shorter.

    Args:
        n: how many.
        shrink: our answers are so many times shorter, so that a page does not take an hour.
        seed: of the draw.
    """
    trace = facts.workloads()[TRACE]
    known = [getattr(trace, f"output_p{level}") for level in LEVELS]
    drawn = np.interp(100 * np.random.default_rng(seed).random(n), LEVELS, known)
    return [max(2, round(tokens / shrink)) for tokens in drawn]


def jobs(n: int, shrink: float = 4, seed: int = 0) -> list[Job]:
    """``n`` requests to SmolLM2. Answers are as long as ``answer_lengths`` says: no token ends them early,
    so that every run has the same work."""
    rng = np.random.default_rng(seed)
    asked = requests()
    drawn = rng.choice(len(asked), n, replace=n > len(asked))
    lengths = answer_lengths(n, shrink, seed)
    return [
        Job(f"q{i + 1}", chat_ids(asked[q]), max_tokens=length, eos=None)
        for i, (q, length) in enumerate(zip(drawn, lengths, strict=True))
    ]


def poisson(rate_per_s: float, n: int, seed: int = 0) -> list[float]:
    """Times of ``n`` requests that come independently of each other, in seconds; the first at 0.

    The same seed gives the same stream at every rate, only faster or slower.

    Raises:
        ValueError: a rate that is not above 0.
    """
    if not rate_per_s > 0:
        raise ValueError(f"rate_per_s must be above 0, got {rate_per_s}.")
    gaps = np.random.default_rng(seed + 1).exponential(1 / rate_per_s, n - 1)
    return [0.0, *np.cumsum(gaps).tolist()]


@cache
def commands(n: int = 10_000, seed: int = 0) -> tuple[str, ...]:
    """``n`` different English commands, of people and of the grammar, in no order.

    Raises:
        ValueError: there are not so many.
    """
    said = [e.text for kind in ("people", "templates") for s in data.SPLITS for e in data.load(kind, s, "en")]
    if not 0 < n <= len(said):
        raise ValueError(f"there are {len(said):,} commands, so n must be from 1 to that, got {n}.")
    return tuple(np.random.default_rng(seed).permutation(said)[:n].tolist())
