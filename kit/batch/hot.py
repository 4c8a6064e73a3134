"""Answers that were given before: how often is the same thing asked, and what is a memory of it worth?

Popularity follows Zipf's law: the k-th most frequent sentence is asked in proportion to ``1 / k**s``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit import economics


def zipf(n: int, s: float = 1.0) -> np.ndarray:
    """Probability of each of ``n`` sentences, the most popular first, float64 [n].

    Raises:
        ValueError: no sentences, or a negative ``s``.
    """
    if n < 1 or s < 0:
        raise ValueError(f"expected n of at least 1 and s of at least 0, got {n} and {s}.")
    p = np.arange(1, n + 1) ** -float(s)
    return p / p.sum()


def requests(n: int, p: np.ndarray, seed: int = 0) -> np.ndarray:
    """``n`` independent requests: number of the sentence asked, int64 [n]."""
    return np.random.default_rng(seed).choice(len(p), n, p=p)


class Cache:
    """The last answers, in front of a model. When it is full, the one unused for longest goes (LRU).

    Args:
        answer: what is asked if the answer is not known.
        size: answers that are kept; 0: none.

    Attributes:
        hits, misses: so far.
    """

    def __init__(self, answer: Callable[[Any], Any], size: int) -> None:
        if size < 0:
            raise ValueError(f"size must be at least 0, got {size}.")
        self._answer, self.size, self.hits, self.misses = answer, size, 0, 0
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, question: Any) -> Any:
        """The answer, from memory if it is there."""
        if question in self._known:
            self.hits += 1
            self._known.move_to_end(question)
            return self._known[question]
        self.misses += 1
        found = self._answer(question)
        if self.size:
            self._known[question] = found
            if len(self._known) > self.size:
                self._known.popitem(last=False)
        return found

    @property
    def hit_rate(self) -> float:
        """Part of all requests that memory answered."""
        return self.hits / max(self.hits + self.misses, 1)


def hit_rate(asked: Sequence[int] | np.ndarray, size: int, warm: float = 0.5) -> float:
    """Hit rate of an LRU cache over a stream, once it has filled.

    Args:
        asked: sentences in the order in which they are asked.
        size: of the cache.
        warm: part of the stream that only fills the cache and is not counted.
    """
    cache = Cache(lambda question: True, size)
    begin = int(len(asked) * warm)
    for question in asked[:begin]:
        cache(int(question))
    cache.hits = cache.misses = 0
    for question in asked[begin:]:
        cache(int(question))
    return cache.hit_rate


def expected_hit_rate(p: np.ndarray, size: int) -> float:
    """What theory says of an LRU cache: a sentence is kept for about the same time whoever it is.

    Source: Che, Tung and Wang 2002, "Hierarchical Web caching systems", IEEE JSAC 20(7).

    Args:
        p: probability of each sentence.
        size: of the cache.
    """
    if size <= 0 or size >= len(p):
        return float(size > 0)
    low, high = 0.0, 1.0
    while np.sum(-np.expm1(-p * high)) < size:
        high *= 2
    for _ in range(60):  # how many requests long is a sentence kept?
        middle = (low + high) / 2
        low, high = (middle, high) if np.sum(-np.expm1(-p * middle)) < size else (low, middle)
    return float(np.sum(p * -np.expm1(-p * high)))


def different(p: np.ndarray, n: float) -> float:
    """How many different sentences ``n`` requests ask, on average."""
    return float(np.sum(-np.expm1(n * np.log1p(-np.minimum(p, 1 - 1e-15)))))


@dataclass(frozen=True)
class Ways:
    """What a number of requests costs in three ways, in US dollars.

    Attributes:
        live: every request is calculated when it comes.
        remembered: the first time it is calculated; a cache keeps every answer.
        precomputed: all sentences are calculated beforehand, in batches.
    """

    live: float
    remembered: float
    precomputed: float


def ways(p: np.ndarray, n: float, live_usd: float, offline_usd: float, lookup_usd: float = 0.0) -> Ways:
    """Cost of ``n`` requests.

    Args:
        p: probability of each sentence that can be asked.
        n: requests until the answers are no longer valid (a new model, a new command).
        live_usd, offline_usd: one answer, online and in a batch.
        lookup_usd: to find an answer that is there.
    """
    looked = n * lookup_usd
    return Ways(n * live_usd, looked + different(p, n) * live_usd, looked + len(p) * offline_usd)


def break_even(sentences: int, live_usd: float, offline_usd: float, lookup_usd: float = 0.0) -> float:
    """Requests from which it is cheaper to precompute all sentences than to calculate each request live."""
    return economics.break_even_requests(sentences * offline_usd, lookup_usd, live_usd)


def break_even_remembered(p: np.ndarray, live_usd: float, offline_usd: float) -> float:
    """Requests from which precomputing is cheaper than calculating each *different* sentence once, live.

    Infinity if it never is: offline is not cheaper, so the cache that waits to be asked wins.
    """
    if offline_usd >= live_usd:
        return float("inf")
    low, high = 0.0, 1.0
    while different(p, high) * live_usd < len(p) * offline_usd:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        enough = different(p, middle) * live_usd >= len(p) * offline_usd
        low, high = (low, middle) if enough else (middle, high)
    return high
