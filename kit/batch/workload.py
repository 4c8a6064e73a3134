"""What is asked: questions for the language model, and when they come; commands for the classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from kit import data, facts
from kit.artifacts import ROOT
from kit.batch.core import Job
from kit.engine import chat_ids

TRACE = "azure_llm_2023_conversation"
LEVELS = (5, 25, 50, 75, 95, 99)


@cache
def questions() -> tuple[str, ...]:
    """English questions that are not commands, in the order of ``datasets/questions.csv``."""
    import csv

    with (ROOT / "datasets" / "questions.csv").open(encoding="utf-8") as f:
        return tuple(row["text"] for row in csv.DictReader(f) if row["lang"] == "en")


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
    """``n`` questions for SmolLM2. Answers are as long as ``answer_lengths`` says: no token ends them early,
    so that every run has the same work."""
    rng = np.random.default_rng(seed)
    asked = rng.choice(len(questions()), n, replace=n > len(questions()))
    lengths = answer_lengths(n, shrink, seed)
    return [
        Job(f"q{i + 1}", chat_ids(questions()[q]), max_tokens=length, eos=None)
        for i, (q, length) in enumerate(zip(asked, lengths, strict=True))
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


def lengths(texts: Sequence[str]) -> np.ndarray:
    """Bytes of each text, int64 [n]."""
    return np.array([len(t.encode()) for t in texts], np.int64)
