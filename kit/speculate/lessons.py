"""What a draft learns from: requests of many kinds, and what the target answers.

A draft should guess what *this* target says, so the target writes the text (Leviathan et al. 2023, section 5,
suggest it; Zhou et al. 2024, "DistillSpec", show that it helps). Its last hidden states are kept beside the
tokens: times the last layer they are its probabilities, and far smaller.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kit import data
from kit.artifacts import DATASETS
from kit.decode import Picker, Sampling, requests
from kit.decode.decoder import EOS
from kit.engine import Engine, chat_ids

CONVERSATIONS, TOKENS, ROWS = 5000, 110, 24  # how many, tokens of an answer at most, written side by side
WARM = (0.0, 0.0, 0.7, 1.0)  # temperatures, taken in turn: half of the answers are greedy


def prompts(n: int, seed: int = 0) -> list[str]:
    """Requests to learn from, none of which is in ``prompts.txt``: patterns of ``requests.toml`` filled in,
    and the English questions of ``questions.csv``."""
    lists = tomllib.loads((DATASETS / "requests.toml").read_text("utf-8"))
    found = [e.text for split in data.SPLITS for e in data.load("not_a_command", split, "en")]
    for pattern in lists["patterns"]:
        for name in ("topic", "thing"):
            if f"{{{name}}}" in pattern:
                found += [pattern.format(**{name: value}) for value in lists[f"{name}s"]]
    rng = random.Random(seed)
    exam = {_plain(text) for text in requests()}
    unseen = sorted(text for text in set(found) if _plain(text) not in exam)
    return rng.sample(unseen, min(n, len(unseen)))


def _plain(text: str) -> str:
    return text.casefold().strip(" .?!")


@dataclass
class Conversation:
    """A prompt and its answer.

    Attributes:
        ids: tokens of both.
        prompt: how many of them are the prompt.
        hidden: the target's last hidden states after each token that it read, float16 [tokens, hidden_size]
            in all. It did not read the last one.
    """

    ids: list[int]
    prompt: int
    hidden: list[np.ndarray]


def write(target: Engine, asked: Sequence[str], tokens: int = TOKENS) -> Iterator[Conversation]:
    """Let the target answer many requests, ``target.rows`` at a time; an answer is yielded when it is done.

    Args:
        target: with the output ``hidden`` (see ``with_hidden``).
        asked: requests.
        tokens: of an answer, at most.
    """
    waiting, rows = list(enumerate(asked))[::-1], list[tuple[Conversation, Picker]]()

    def start(row: int) -> None:
        i, text = waiting.pop()
        ids = chat_ids(text)
        target.reset(row)
        picker = Sampling(temperature=WARM[i % len(WARM)], seed=i).picker(ids)
        token = picker.pick(target.prefill(ids, row))
        rows[row:] = [(Conversation([*ids, token], len(ids), [target.hidden.astype(np.float16)]), picker)]

    while waiting or rows:
        while waiting and len(rows) < target.rows:
            start(len(rows))
        logits = target.step_rows([talk.ids[-1] for talk, _ in rows])
        hidden = target.hidden.astype(np.float16)
        for i, (talk, picker) in enumerate(rows):
            talk.hidden.append(hidden[i : i + 1])
            talk.ids.append(picker.pick(logits[i]))
        for row in reversed(range(len(rows))):
            talk, _ = rows[row]
            if talk.ids[-1] == EOS or len(talk.ids) - talk.prompt >= tokens:
                yield talk
                rows[row] = rows[-1]  # the last conversation moves into the free row
                target.copy(len(rows) - 1, row)
                rows.pop()
