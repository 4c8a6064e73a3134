"""What the chapter measures: answers with and without a draft, in turn, and what a round costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from kit import measure
from kit.decode import EOS, GREEDY, Sampling
from kit.engine import Engine, chat_ids
from kit.measure import Timing
from kit.speculate.core import Draft, Round, Target, rounds
from kit.speculate.lengths import Costs, Length

WORD = 5  # a token like any other: for speed it does not matter which
MOST = 9  # tokens that the target reads at once, at most, where that is timed
RESAMPLES = 2000
T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """An answer, and how it came.

    Attributes:
        tokens: of the answer.
        first_ms: until the first token was there: both models read the prompt.
        ms: from the first token to the last.
        rounds: without the prompt's; none for plain decoding.
    """

    tokens: tuple[int, ...]
    first_ms: float
    ms: float
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True)
class Way:
    """How to write: plainly, or with a draft.

    Attributes:
        draft: None: plain decoding.
        length: guesses in a round, or a rule, which keeps what it learned from one answer to the next.
    """

    draft: Draft | None = None
    length: int | Length = 4


def tell(
    target: Target,
    ids: Sequence[int],
    n: int,
    way: Way = Way(),
    sampling: Sampling = GREEDY,
    eos: int | None = EOS,
) -> Told:
    """Write up to ``n`` tokens after ``ids``; arguments as for ``rounds``.

    Plain decoding needs an ``Engine``.
    """
    if way.draft is None:
        assert isinstance(target, Engine), "plain decoding needs an Engine"
        target.reset()
        tokens, first_ms, ms = _timed(target.generate(ids, n, eos, sampling.picker(ids).pick))
        return Told(tuple(tokens), first_ms, ms)
    every, first_ms, ms = _timed(
        rounds(target, way.draft, ids, n, length=way.length, sampling=sampling, eos=eos)
    )
    return Told(tuple(t for r in every for t in r.tokens), first_ms, ms, tuple(every[1:]))


def _timed(made: Iterator[T]) -> tuple[list[T], float, float]:
    """All of it, ms until the first is there, and ms from there to the last."""
    start = time.perf_counter()
    items = list(islice(made, 1))
    there = time.perf_counter()
    items += made
    return items, 1000 * (there - start), 1000 * (time.perf_counter() - there)


def race(
    target: Engine,
    asked: Sequence[str],
    ways: Mapping[str, Way],
    n: int = 64,
    sampling: Sampling = GREEDY,
    eos: int | None = EOS,
) -> dict[str, list[Told]]:
    """Answer each request in every way, in turn and in a new order each time: name -> answers.

    Without an ``eos`` all answers are as long, so that the first and the last round count little.
    """
    told: dict[str, list[Told]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for text in asked:
        ids = chat_ids(text)
        for name in rng.permutation(list(ways)):
            told[name].append(tell(target, ids, n, ways[name], sampling, eos))
    return told


def gain(before: Sequence[Told], after: Sequence[Told]) -> tuple[float, float, float]:
    """How many times faster: time for each token before, divided by that after, over all answers; and its 95%
    interval, answers resampled together."""

    def pace(told: Sequence[Told]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([t.ms for t in told]), np.array([max(len(t.tokens) - 1, 0) for t in told])

    (ms_a, made_a), (ms_b, made_b) = pace(before), pace(after)
    pick = np.random.default_rng(0).integers(len(before), size=(RESAMPLES, len(before)))
    whole = np.arange(len(before))[None]

    def ratios(at: np.ndarray) -> np.ndarray:
        paces = ms_a[at].sum(1) / made_a[at].sum(1), ms_b[at].sum(1) / made_b[at].sum(1)
        return paces[0] / paces[1]

    low, high = np.percentile(ratios(pick), [2.5, 97.5])
    return float(ratios(whole)[0]), float(low), float(high)


def best_gain(ways: Mapping[str, Sequence[Told]]) -> tuple[float, float, float]:
    """The largest gain over the way ``plain``, with its interval."""
    return max(gain(ways["plain"], told) for name, told in ways.items() if name != "plain")


def tokens_per_s(told: Sequence[Told]) -> float:
    """Speed after the first token, over all answers."""
    return 1000 * sum(max(len(t.tokens) - 1, 0) for t in told) / sum(t.ms for t in told)


def acceptance(told: Sequence[Told]) -> float:
    """Chance that a guess stands when all before it stood: those that stood, of those that were looked at."""
    every = [r for t in told for r in t.rounds]
    looked = sum(min(r.kept + 1, r.guessed) for r in every)
    return sum(r.kept for r in every) / looked if looked else float("nan")


def by_place(told: Sequence[Told], most: int) -> list[float]:
    """The same for each place of a round, [most]; NaN where no guess was looked at."""
    every = [r for t in told for r in t.rounds]
    out = []
    for place in range(most):
        looked = [r.kept > place for r in every if r.guessed > place and r.kept >= place]
        out.append(float(np.mean(looked)) if looked else float("nan"))
    return out


def tokens_a_round(told: Sequence[Told]) -> float:
    """Tokens that a round brought."""
    every = [r for t in told for r in t.rounds]
    return sum(len(r.tokens) for r in every) / len(every)


def checks(target: Engine, most: int = MOST, past: int = 100, repeats: int = 12) -> dict[int, Timing]:
    """Time in which the target reads 1, 2, ... ``most`` tokens at once, after a text of ``past`` tokens; all
    are timed in turn."""

    def read(tokens: int) -> None:
        target.past = past  # what stands in the cache does not matter for the time
        target.extend([WORD] * tokens).argmax(-1)

    sizes = range(1, most + 1)
    times = measure.compare({str(k): partial(read, k) for k in sizes}, repeats, warmup=2)
    return {k: times[str(k)] for k in sizes}


def costs(
    target: Engine,
    draft: Draft,
    asked: Sequence[str],
    times: Mapping[int, Timing] | None = None,
    n: int = 32,
) -> Costs:
    """What a round costs with this target and draft, measured.

    Args:
        target, draft: the pair.
        asked: a few requests for a rehearsal, with one guess a round and with four: the draft's time.
        times: of ``checks(target)``, if they are there already.
        n: tokens of an answer.
    """
    spent = {}
    for length in (1, 4):
        told = [tell(target, chat_ids(text), n, Way(draft, length)) for text in asked]
        every = [r.draft_ms for t in told for r in t.rounds if r.guessed == length]
        spent[length] = float(np.median(every)) if every else 0.0
    each = max(spent[4] - spent[1], 0.0) / 3
    start = max(spent[1] - each, 0.0)
    return Costs(each, tuple(t.p50 for t in (times or checks(target)).values()), start)
