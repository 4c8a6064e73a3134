"""Draft and verify: a cheap draft guesses a few tokens, the target reads all of them in one call.

The target reads five tokens in little more time than one, because what takes time is reading its weights. So
guesses that stand are nearly free, and those that do not cost little. ``rounds`` is the whole method.

Not here: trees of guesses (several guesses for the same place), and batches of conversations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kit.decode import EOS, GREEDY, Sampling, penalise, probabilities
from kit.speculate.accept import verify_greedy, verify_sampled
from kit.speculate.lengths import Fixed, Length


@dataclass(frozen=True)
class Guess:
    """What a draft proposes.

    Attributes:
        tokens: the guesses, in order; may be fewer than asked for, or none.
        q: what each was drawn from, [len(tokens), vocab]; None if the draft did not draw but was sure.
    """

    tokens: Sequence[int]
    q: np.ndarray | None = None


class Target(Protocol):
    """What speculation needs of a target: what an ``Engine`` has, and ``Faraway`` before one."""

    vocab: int
    context: int

    @property
    def hidden(self) -> np.ndarray: ...
    @property
    def past(self) -> int: ...
    @past.setter
    def past(self, tokens: int) -> None: ...
    def reset(self) -> None: ...
    def forward(self, ids: Sequence[int]) -> np.ndarray: ...
    def extend(self, ids: Sequence[int]) -> np.ndarray: ...


class Draft(Protocol):
    """Anything that guesses how a text goes on.

    Attributes:
        vocab: number of tokens of its tokenizer; it must be the target's.
    """

    vocab: int

    def begin(self, ids: Sequence[int]) -> None:
        """A new text begins with ``ids``, the prompt."""
        ...

    def seen(self, hidden: np.ndarray) -> None:
        """The target read some more tokens of the text, and these are its ``hidden`` states for them,
        [tokens, hidden_size]; width 0 if the target does not show them."""
        ...

    def propose(self, text: Sequence[int], n: int, sampling: Sampling, rng: np.random.Generator) -> Guess:
        """Guess at most ``n`` tokens after ``text``, and draw them as ``sampling`` says.

        A draft may stop early, but only by what it knows before it draws a token: dropping one because it
        turned out to be unlikely would change what is written.
        """
        ...


@dataclass(frozen=True)
class Round:
    """One guess and its check.

    Attributes:
        tokens: that it brought: the guesses that stood, and one of the target's own.
        guessed: tokens that the draft proposed.
        kept: how many of them stood.
        draft_ms, target_ms: time of each.
    """

    tokens: tuple[int, ...]
    guessed: int
    kept: int
    draft_ms: float
    target_ms: float


class DraftError(ValueError):
    """A draft does not fit the target, or proposed what cannot be checked."""


def rounds(
    target: Target,
    draft: Draft,
    ids: Sequence[int],
    n: int,
    *,
    length: int | Length = 4,
    sampling: Sampling = GREEDY,
    eos: int | None = EOS,
) -> Iterator[Round]:
    """Yield up to ``n`` tokens after ``ids``, a round at a time; greedy or drawn, they are the target's.

    The first round is the prompt's: it brings one token, without a guess. ``eos`` is not yielded.

    Args:
        target: works on its row 0.
        draft: guesses.
        ids: the prompt; see ``chat_ids``.
        length: guesses in a round, or a rule that says how many.
        sampling: how a token is chosen, as for plain decoding.
        eos: the token that ends an answer; None: none does.

    Raises:
        DraftError: the draft has another vocabulary, or proposed what is no token.
        ValueError: no prompt, a prompt or a number of guesses beyond the context, or fewer than 1 token.
    """
    rule = _rule(length, target)
    _check(target, draft, ids, n)
    rng, text, guess = np.random.default_rng(sampling.seed), list(ids), Guess(())
    target.reset()
    start = time.perf_counter()
    draft.begin(ids)
    drafted = time.perf_counter()
    logits = target.forward(ids)[-1:]  # [1, vocab]
    read = target.hidden  # of all tokens that the target read in this round
    while True:
        kept, token = _verify(guess, logits, text, sampling, rng)
        target.past -= len(guess.tokens) - kept  # what did not stand is forgotten
        draft.seen(read[: len(read) - len(guess.tokens) + kept])
        new = (*guess.tokens[:kept], token)
        over = eos in new
        new = new[: new.index(eos)] if over else new
        ended = time.perf_counter()
        step = Round(new, len(guess.tokens), kept, 1000 * (drafted - start), 1000 * (ended - drafted))
        if len(text) > len(ids):  # the prompt's round teaches nothing
            rule.learn(step)
        text += new
        yield step
        left, room = len(ids) + n - len(text), target.context - target.past - 1
        if over or left < 1 or room < 0:
            return
        start, guess = time.perf_counter(), Guess(())
        most = min(rule.guesses(), left - 1, room)  # the last token is the target's own
        if most > 0:
            guess = draft.propose(text, most, sampling, rng)
            _check_guess(guess, most, target.vocab)
        drafted = time.perf_counter()
        logits = target.extend([text[-1], *guess.tokens])  # [1 + guesses, vocab]
        read = target.hidden


def _verify(
    guess: Guess, logits: np.ndarray, text: Sequence[int], sampling: Sampling, rng: np.random.Generator
) -> tuple[int, int]:
    """How many guesses stand, and the token after them."""
    tokens, q = list(guess.tokens), guess.q
    if sampling.repetition_penalty != 1:
        logits = np.stack(
            [penalise(row, {*text, *tokens[:i]}, sampling.repetition_penalty) for i, row in enumerate(logits)]
        )
    if sampling.temperature == 0:
        return verify_greedy(tokens, logits)
    p = np.stack([probabilities(row, sampling) for row in logits])
    if q is None:  # the draft was sure: all its probability is on the guess
        q = np.zeros((len(tokens), p.shape[1]))
        q[np.arange(len(tokens)), tokens] = 1
    return verify_sampled(tokens, q, p, rng)


def _rule(length: int | Length, target: Target) -> Length:
    """A number of guesses as a rule."""
    rule = Fixed(length) if isinstance(length, int) else length
    longest = rule.longest
    if longest >= target.context:
        raise ValueError(
            f"{longest} guesses do not fit: the target's cache holds {target.context} tokens, prompt and "
            "answer together. Guess fewer, or open the Engine with a larger context."
        )
    return rule


def _check(target: Target, draft: Draft, ids: Sequence[int], n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}: it is the number of tokens to make.")
    if len(ids) == 0:
        raise ValueError("the prompt is empty: the model needs at least one token to go on from.")
    if draft.vocab != target.vocab:
        raise DraftError(
            f"the draft's tokenizer has {draft.vocab:,} tokens and the target's {target.vocab:,}: a number "
            "must mean the same text to both. Take a draft made for this target."
        )


def _check_guess(guess: Guess, most: int, vocab: int) -> None:
    """Raise if a guess cannot be checked: then no token of it is used."""
    tokens, q = guess.tokens, guess.q
    if len(tokens) > most:
        raise DraftError(f"the draft proposed {len(tokens)} tokens, {most} were asked for.")
    wrong = [t for t in tokens if not isinstance(t, int | np.integer) or not 0 <= t < vocab]
    if wrong:
        raise DraftError(f"the draft proposed {wrong[0]!r}, which is no token: they are 0 to {vocab - 1:,}.")
    if q is None or not len(tokens):
        return
    if q.shape != (len(tokens), vocab):
        raise DraftError(
            f"q must have a row for each guess, shape {(len(tokens), vocab)}, but it is {q.shape}."
        )
    if not (np.isfinite(q).all() and q.min() >= 0 and np.allclose(q.sum(1), 1, atol=1e-4)):
        raise DraftError("q must be probabilities: finite, not negative, each row adding up to 1.")
    if not (q[np.arange(len(tokens)), list(tokens)] > 0).all():
        raise DraftError(
            "the draft proposed a token to which its own q gives no chance: it was not drawn from q."
        )
