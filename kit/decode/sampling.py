"""From logits to the next token: greedy, or drawn with temperature, top-k, top-p and a repetition penalty.

The rules and their order are those of transformers' ``generate``: penalty, temperature, top-k, top-p. Not
here: beam search, minimum lengths, bans of words.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Attributes:
        temperature: 0 takes the most likely token (greedy); 1 draws as the model says; above 1 is wilder.
        top_k: only the k most likely tokens may be drawn; 0: all.
        top_p: only the fewest tokens that together have this probability may be drawn (the *nucleus*,
            Holtzman et al. 2020); 1: all.
        repetition_penalty: logits of tokens that stand in the text already are divided by it if positive,
            multiplied if negative (Keskar et al. 2019); 1: none.
        seed: makes draws repeatable; None: every run draws anew.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "repetition_penalty"):
            _number(name, getattr(self, name))
        for name in ("top_k", "seed"):
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(f"{name} must be a whole number, got {value!r}.")
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}: 0 is greedy.")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}: 0 keeps all tokens.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}: 1 keeps all tokens.")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}: 1 is none.")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, got {self.seed}; None draws anew each time.")

    def picker(self, prompt: Sequence[int] = ()) -> Picker:
        """A ``Picker`` for one answer to ``prompt``, whose tokens count as used for the penalty."""
        return Picker(self, prompt)


def _number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}.")


def penalise(logits: np.ndarray, used: Collection[int], penalty: float) -> np.ndarray:
    """Logits [vocab] with those of used tokens made smaller; the input stays as it is."""
    if penalty == 1 or not used:
        return logits
    out, at = logits.copy(), np.fromiter(used, np.int64)
    out[at] = np.where(out[at] > 0, out[at] / penalty, out[at] * penalty)
    return out


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """What a token is drawn from: float64 [vocab], adds up to 1. At temperature 0 all of it is on the best.

    Args:
        logits: float [vocab], after ``penalise``.
        sampling: the settings; the penalty is not applied again.
    """
    if sampling.temperature == 0:
        p = np.zeros(len(logits))
        p[logits.argmax()] = 1
        return p
    z = logits.astype(np.float64) / sampling.temperature
    if 0 < sampling.top_k < len(z):
        least = np.partition(z, -sampling.top_k)[-sampling.top_k]  # the k-th largest
        z = np.where(z < least, -np.inf, z)
    p = np.exp(z - z.max())
    p /= p.sum()
    return nucleus(p, sampling.top_p) if sampling.top_p < 1 else p


def nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    """The fewest most likely tokens that together have probability ``top_p``; they add up to 1, [vocab].

    Only tokens above ``(1 - top_p) / vocab`` are sorted: the others together have less than ``1 - top_p``.
    """
    likely = np.flatnonzero(p > (1 - top_p) / len(p))
    order = likely[np.argsort(-p[likely], kind="stable")]
    before = np.cumsum(p[order]) - p[order]  # what the more likely ones have
    kept = order[before < top_p]
    out = np.zeros_like(p)
    out[kept] = p[kept]
    return out / out.sum()


def draw(p: np.ndarray, rng: np.random.Generator) -> int:
    """A token drawn from probabilities [vocab]."""
    token = int(np.searchsorted(np.cumsum(p), rng.random(), "right"))
    # rounding may leave the sum below 1: then the last token that has a chance
    return token if token < len(p) else int(np.flatnonzero(p)[-1])


class Picker:
    """Chooses the tokens of one answer: keeps the random numbers, and what was used.

    Args:
        sampling: the settings.
        prompt: tokens that count as used.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self._rng = np.random.default_rng(sampling.seed)
        self._used = set(prompt) if sampling.repetition_penalty != 1 else set()

    def pick(self, logits: np.ndarray) -> int:
        """The next token after logits [vocab], which stay as they are."""
        logits = penalise(logits, self._used, self.sampling.repetition_penalty)
        if self.sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            token = draw(probabilities(logits, self.sampling), self._rng)
        if self.sampling.repetition_penalty != 1:
            self._used.add(token)
        return token
