"""Drafts: one copies from the text, one is a language model, one goes on from the target's own states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.decode import Sampling, common, draw, probabilities
from kit.engine import Engine
from kit.speculate.core import DraftError, Guess


class NGram:
    """Guesses that the text goes on as it did the last time the same words stood there. No model.

    *Prompt lookup*, Saxena 2023: good where an answer quotes, corrects or sums up its prompt.

    Args:
        longest, shortest: how many of the last tokens must be the same; the most are tried first.
        vocab: number of tokens.
    """

    def __init__(self, longest: int = 4, shortest: int = 2, vocab: int = 49152) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(f"expected 1 <= shortest <= longest, got {shortest} and {longest}.")
        self.longest, self.shortest, self.vocab = longest, shortest, vocab

    def begin(self, ids: Sequence[int]) -> None: ...

    def seen(self, hidden: np.ndarray) -> None: ...

    def propose(self, text: Sequence[int], n: int, sampling: Sampling, rng: np.random.Generator) -> Guess:
        whole = np.array(text)
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            before = np.lib.stride_tricks.sliding_window_view(whole[:-1], size)  # [places, size]
            places = np.flatnonzero((before == whole[-size:]).all(1))
            if len(places):
                start = int(places[-1]) + size  # what followed the last time
                return Guess(list(text[start : start + n]))
        return Guess(())


class _Model:
    """What model drafts share: words that they can guess, one after the other.

    Args:
        engine: the draft's graph.
        words: the tokens that it can guess, in the order of its logits, int64 [engine.vocab].
        vocab: number of tokens of the tokenizer.
    """

    def __init__(self, engine: Engine, words: np.ndarray, vocab: int = 49152) -> None:
        if len(words) != engine.vocab:
            raise DraftError(
                f"the draft has {engine.vocab:,} logits, and its list of words names {len(words):,}: "
                "it needs a word for each."
            )
        if words.min() < 0 or words.max() >= vocab:
            raise DraftError(
                f"the draft's words go to {words.max():,}, and the tokenizer has {vocab:,} tokens."
            )
        self.engine, self.words, self.vocab = engine, words, vocab

    def begin(self, ids: Sequence[int]) -> None:
        self.engine.reset()

    def _read(self, text: Sequence[int]) -> np.ndarray:
        """Read what is new in the text; logits of the first guess, [engine.vocab]."""
        raise NotImplementedError

    def _next(self, token: int) -> np.ndarray:
        """Read a guess; logits of the one after it."""
        raise NotImplementedError

    def propose(self, text: Sequence[int], n: int, sampling: Sampling, rng: np.random.Generator) -> Guess:
        n = min(n, self.engine.context - len(text))
        if n < 1:
            return Guess(())
        logits, tokens, q = self._read(text), list[int](), list[np.ndarray]()
        while True:
            if sampling.temperature == 0:
                at = int(logits.argmax())
            else:
                q.append(probabilities(logits, sampling))
                at = draw(q[-1], rng)
            tokens.append(int(self.words[at]))
            if len(tokens) == n:
                break
            logits = self._next(tokens[-1])
        if not q:
            return Guess(tokens)
        spread = np.zeros((n, self.vocab))
        spread[:, self.words] = q  # words that it cannot guess have no chance
        return Guess(tokens, spread)


class SmallModel(_Model):
    """A language model with a cache of its own: distilled from the target (chapter 04), or a rounded copy."""

    def begin(self, ids: Sequence[int]) -> None:
        super().begin(ids)
        self._held = list(ids[: self.engine.context])  # what its cache holds
        self.engine.forward(self._held)

    def seen(self, hidden: np.ndarray) -> None: ...

    def _read(self, text: Sequence[int]) -> np.ndarray:
        known = min(common(self._held, text), len(text) - 1)
        self.engine.past = known
        self._held = list(text)
        return self.engine.extend(text[known:])[-1]

    def _next(self, token: int) -> np.ndarray:
        self._held.append(token)
        return self.engine.extend([token])[-1]


class Head(_Model):
    """One layer that reads the target's last hidden state beside the newest token, and guesses the next
    state.

    The target has thought about the text with thirty layers already; the head only goes on from there. After
    Li et al. 2024, "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty". Its embedding table
    and last layer are the target's.
    """

    def __init__(self, engine: Engine, words: np.ndarray, vocab: int = 49152) -> None:
        super().__init__(engine, words, vocab)
        self._states = np.empty((engine.context, engine.hidden_size), np.float32)
        self._known = self._held = 0
        self._prompt: Sequence[int] = ()

    def begin(self, ids: Sequence[int]) -> None:
        super().begin(ids)
        self._prompt = ids
        self._known = 0  # states of the target that are there: of the text's first tokens
        self._held = 0  # pairs of a true state and the token after it that the cache holds

    def seen(self, hidden: np.ndarray) -> None:
        if hidden.shape[1] != self.engine.hidden_size:
            raise DraftError(
                f"the head reads hidden states of width {self.engine.hidden_size}, the target shows "
                f"{hidden.shape[1]}: open it with speculate.open_target."
            )
        fits = min(len(hidden), len(self._states) - self._known)
        self._states[self._known : self._known + fits] = hidden[:fits]
        self._known += fits
        if not self._held and 1 < len(self._prompt) == self._known:
            self._read(self._prompt)  # the prompt's pairs, all at once

    def _read(self, text: Sequence[int]) -> np.ndarray:
        """Pairs: state of token i, and token i + 1."""
        new = slice(self._held, len(text) - 1)
        self.engine.past = self._held
        logits = self.engine.extend(text[self._held + 1 :], self._states[new])
        self._held = len(text) - 1
        return logits[-1]

    def _next(self, token: int) -> np.ndarray:
        return self.engine.extend([token], self.engine.hidden[-1:])[-1]
