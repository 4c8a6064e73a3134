"""From a prompt to an answer: prefill, then one token at a time, as text that can be shown at once.

The loop every language model runs; each line of ``Decoder.stream`` is a step that chapter 05 measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kit.decode.sampling import Sampling
from kit.decode.text import TextStream
from kit.engine import Engine, tokenizer

Finish = Literal["", "stop", "length", "cancelled"]
EOS = 2  # SmolLM2's token that ends an answer
GREEDY = Sampling()


@dataclass(frozen=True)
class Piece:
    """What one token added to an answer.

    Attributes:
        text: can be shown at once; empty while a character or a stop sequence is open.
        token: its number; None for the last piece, which only brings what was held back.
        at_ms: since the prompt was handed in.
        finish: why the answer ends here: "stop" (the model ended it, or a stop sequence), "length" (enough
            tokens, or the cache is full), "cancelled"; "" while it goes on.
    """

    text: str
    token: int | None
    at_ms: float
    finish: Finish = ""


@dataclass(frozen=True)
class Answer:
    """A whole answer and its times.

    Attributes:
        text, finish: as in ``Piece``.
        prompt_tokens: tokens of the prompt.
        reused_tokens: of these, how many the cache held already.
        tokens: that were made.
        at_ms: when each of them was there, [tokens].
    """

    text: str
    finish: Finish
    prompt_tokens: int
    reused_tokens: int
    tokens: tuple[int, ...]
    at_ms: np.ndarray = field(repr=False)

    @property
    def ttft_ms(self) -> float:
        """Time to the first token; NaN if there is none."""
        return float(self.at_ms[0]) if len(self.at_ms) else float("nan")

    @property
    def itl_ms(self) -> np.ndarray:
        """Inter-token latencies: from each token to the next, [tokens - 1]."""
        return np.diff(self.at_ms)

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token; NaN with fewer than two."""
        return float(1000 / self.itl_ms.mean()) if len(self.itl_ms) else float("nan")


class Decoder:
    """Answers prompts with an ``Engine``, one after the other.

    Tokens that a prompt shares with the one before, from its start, stay in the cache and are not read again
    (*prefix caching*): a system prompt is read once.

    Args:
        engine: works on its row 0.

    Attributes:
        held: the tokens whose keys and values the cache holds.
        reused: how many tokens of the last prompt were there already.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.held, self.reused = engine, list[int](), 0
        self._answers = 0  # begun so far: an earlier one cannot go on
        engine.reset()

    def forget(self) -> None:
        """Empty the cache: the next prompt is read from its start."""
        self.engine.reset()
        self.held = []

    def read(self, ids: Sequence[int]) -> np.ndarray:
        """Prefill ``ids``, but not what the cache holds of them. Returns the last token's logits, [vocab].

        Raises:
            ValueError: no tokens, or too many for the cache.
        """
        if len(ids) == 0:
            raise ValueError("the prompt is empty: the model needs at least one token to go on from.")
        if len(ids) > self.engine.context:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, and the cache has room for {self.engine.context}. "
                "Shorten it, or open the Engine with a larger context."
            )
        self._answers += 1
        if self.engine.past != len(self.held):  # somebody else used the engine
            self.held = []
        # The last token is always read: its logits are what we are here for.
        self.reused = min(common(self.held, ids), len(ids) - 1)
        self.engine.past = self.reused
        self.held = list(ids[: self.reused])
        logits = self.engine.prefill(ids[self.reused :])
        self.held = list(ids)
        return logits

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 100,
        sampling: Sampling = GREEDY,
        stop: str | Sequence[str] = (),
        cancelled: Callable[[], bool] = lambda: False,
        eos: int | None = EOS,
    ) -> Iterator[Piece]:
        """Yield an answer piece by piece; the last piece says why it ends. Wrong arguments raise at once.

        Args:
            prompt: text or tokens; ``chat_ids(question)`` for a question.
            max_tokens: most tokens to make.
            sampling: how each one is chosen.
            stop: texts that end the answer.
            cancelled: asked before each token; True ends the answer.
            eos: the token that ends an answer; None: none does.

        Raises:
            TypeError: a prompt or stop of another type.
            ValueError: an empty prompt, one longer than the cache, or fewer than 1 token asked for.
        """
        ids = prompt_ids(prompt)
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        stream, picker, start = TextStream(stop), sampling.picker(ids), time.perf_counter()
        logits = self.read(ids)  # here, not in the generator below: a bad prompt raises at once
        return self._pieces(logits, stream, picker.pick, max_tokens, cancelled, eos, start)

    def _pieces(
        self,
        logits: np.ndarray,
        stream: TextStream,
        pick: Callable[[np.ndarray], int],
        max_tokens: int,
        cancelled: Callable[[], bool],
        eos: int | None,
        start: float,
    ) -> Iterator[Piece]:
        finish, mine = "length", self._answers
        for made in range(1, max_tokens + 1):
            if mine != self._answers:
                raise RuntimeError(
                    "another prompt was read since: a Decoder answers one at a time. Finish this answer "
                    "first, or open a second Engine; chapter 07 answers several together."
                )
            if cancelled():
                finish = "cancelled"
                break
            token = pick(logits)
            if token == eos:
                finish = "stop"
                break
            text = stream.push(token)
            yield Piece(text, token, _ms(start))
            if stream.stopped:
                finish = "stop"
                break
            if made == max_tokens or len(self.held) == self.engine.context:
                break
            logits = self.engine.step(token)
            self.held.append(token)
        yield Piece(stream.finish(), None, _ms(start), finish)

    def answer(self, prompt: str | Sequence[int], **settings) -> Answer:
        """The whole answer, with the time of each token; arguments as for ``stream``."""
        ids = prompt_ids(prompt)
        pieces = list(self.stream(ids, **settings))
        made = [p for p in pieces if p.token is not None]
        return Answer(
            text="".join(p.text for p in pieces),
            finish=pieces[-1].finish,
            prompt_tokens=len(ids),
            reused_tokens=self.reused,
            tokens=tuple(p.token for p in made if p.token is not None),
            at_ms=np.array([p.at_ms for p in made]),
        )


def generate_without_cache(engine: Engine, ids: Sequence[int], n: int = 100) -> Iterator[int]:
    """Yield ``n`` greedy tokens after ``ids``, reading the whole text again for each of them."""
    text = list(ids)
    for _ in range(n):
        engine.reset()
        token = int(engine.prefill(text).argmax())
        yield token
        text.append(token)


def prompt_ids(prompt: str | Sequence[int]) -> list[int]:
    """Tokens of a prompt: a text is tokenized as it is, without the form of a chat.

    Raises:
        TypeError: neither text nor whole numbers.
    """
    if isinstance(prompt, str):
        return tokenizer()(prompt, add_special_tokens=False).input_ids
    if not isinstance(prompt, Sequence) or not all(isinstance(i, int | np.integer) for i in prompt):
        raise TypeError(f"a prompt must be a text or a list of tokens, got {type(prompt).__name__}.")
    return [int(i) for i in prompt]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts share from their start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1000
