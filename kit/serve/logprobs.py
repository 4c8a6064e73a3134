"""Log-probabilities of the tokens that were chosen, and of those that nearly were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.decode import Picker, Sampling
from kit.decode.text import token_bytes


@dataclass(frozen=True)
class Chosen:
    """One token and its chances.

    Attributes:
        token: its number. ``logprob``: natural logarithm of its probability.
        top: the most likely tokens and theirs, the best first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Watched(Sampling):
    """Sampling that notes, for each token that it chooses, what the model thought of it.

    As in vLLM, the probabilities are the model's own, before temperature and nucleus.

    Attributes:
        alternatives: likely tokens to note beside each.
        log: what was noted, in order.
    """

    alternatives: int = 0
    log: list[Chosen] = field(default_factory=list, compare=False)

    def picker(self, prompt: Sequence[int] = ()) -> Picker:
        return _Watcher(self, prompt)


class _Watcher(Picker):
    sampling: Watched

    def pick(self, logits: np.ndarray) -> int:
        token = super().pick(logits)
        z = logits.astype(np.float64)
        logs = z - z.max() - np.log(np.exp(z - z.max()).sum())  # [vocab]
        top = ()
        if n := self.sampling.alternatives:
            best = np.argpartition(-logs, n)[:n]
            top = tuple((int(t), float(logs[t])) for t in best[np.argsort(-logs[best], kind="stable")])
        self.sampling.log.append(Chosen(token, float(logs[token]), top))
        return token


def _text(token: int) -> str:
    return token_bytes()[token].decode("utf-8", errors="replace")


def _entry(token: int, logprob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": logprob, "bytes": list(token_bytes()[token])}


def for_chat(chosen: Sequence[Chosen]) -> dict[str, Any]:
    """As ``choices[].logprobs`` of a chat."""
    content = [
        _entry(c.token, c.logprob) | {"top_logprobs": [_entry(*pair) for pair in c.top]} for c in chosen
    ]
    return {"content": content, "refusal": None}


def for_completion(chosen: Sequence[Chosen], offset: int = 0) -> dict[str, Any]:
    """As ``choices[].logprobs`` of a completion; ``offset``: characters before the first token."""
    texts = [_text(c.token) for c in chosen]
    offsets = [offset + sum(map(len, texts[:i])) for i in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [c.logprob for c in chosen],
        "top_logprobs": [{_text(t): p for t, p in c.top} for c in chosen],
        "text_offset": offsets,
    }
