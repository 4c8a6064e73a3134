"""Two drafts, distilled from the target: a small model of its own layers, and a head on its hidden states.

Both learn to say what the target says, probability for probability (chapter 04), about text that the target
wrote. Both keep the target's table of words and its last layer, which are never trained and never stored, and
both guess only the words that the target uses most. ``python -m kit.speculate.training`` trains both anew and
writes ``drafts.safetensors``: half an hour of writing, forty minutes of training on two cores.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit import artifacts, models
from kit.speculate.lessons import CONVERSATIONS, ROWS, TOKENS, prompts, write
from kit.speculate.opened import open_target
from kit.speculate.stored import STORED, save_drafts

LAYERS = (0, 1, 29)  # of the target, where the small model begins
WORDS = 8192
BATCH, RATES, HELD_OUT = 16, {"small": 1e-3, "head": 1.5e-3}, 200
SMALL_PASSES, HEAD_PASSES = (1, 1), (1, 1, 1, 1, 1, 2)  # one number for each epoch, see ``guesses``


@dataclass
class Lessons:
    """What the target wrote.

    Attributes:
        ids: tokens of all conversations, one after the other, int64 [tokens].
        hidden: the target's hidden state after each of them, float16 [tokens, hidden_size]; zeros after the
            last token of a conversation.
        starts, prompts, lengths: of each conversation: its first token, and how many tokens its prompt and
            the whole have, [conversations].
    """

    ids: np.ndarray
    hidden: np.ndarray
    starts: np.ndarray
    prompts: np.ndarray
    lengths: np.ndarray


def make_lessons(n: int = CONVERSATIONS) -> Lessons:
    """Let the target write (``lessons.write``)."""
    target = open_target("smollm2.fp32", context=TOKENS + 160, rows=ROWS)
    talks = list(write(target, prompts(n)))
    lengths = np.array([len(t.ids) for t in talks])
    gap = np.zeros((1, target.hidden_size), np.float16)
    return Lessons(
        np.concatenate([t.ids for t in talks]).astype(np.int64),
        np.concatenate([part for t in talks for part in (*t.hidden, gap)]),
        np.cumsum(lengths) - lengths,
        np.array([t.prompt for t in talks]),
        lengths,
    )


def common_words(lessons: Lessons, n: int = WORDS) -> np.ndarray:
    """The tokens that answers use most, int64 [n], in the order of their numbers; ties go to the smaller
    number."""
    answer = np.concatenate(
        [
            lessons.ids[s + p : s + size]
            for s, p, size in zip(lessons.starts, lessons.prompts, lessons.lengths, strict=True)
        ]
    )
    counts = np.bincount(answer, minlength=int(lessons.ids.max()) + 1)
    return np.sort(np.argsort(-counts, kind="stable")[:n])


class DraftNet(nn.Module):
    """Some layers of the target's kind between its table of words and its last layer.

    Args:
        target: SmolLM2 in torch.
        layers: of the target, to begin with.
        states: True: a head, which reads the target's hidden states, too.
    """

    def __init__(self, target: Any, layers: tuple[int, ...], states: bool) -> None:
        super().__init__()
        from transformers import LlamaModel

        config = copy.deepcopy(target.config)
        config.num_hidden_layers, config._attn_implementation = len(layers), "sdpa"
        self.body = LlamaModel(config)
        for mine, theirs in zip(self.body.layers, layers, strict=True):
            mine.load_state_dict(target.model.layers[theirs].state_dict())
        self.body.norm.load_state_dict(target.model.norm.state_dict())
        del self.body.embed_tokens
        self.table = target.model.embed_tokens.weight.detach()  # not a parameter: never trained, never stored
        size = config.hidden_size
        self.join = nn.Linear(2 * size, size, bias=False) if states else None
        if self.join is not None:
            with torch.no_grad():  # to begin with: the word, and a little of the state
                self.join.weight.copy_(torch.cat([0.02 * torch.eye(size), torch.eye(size)], 1))

    def forward(self, ids: Tensor, states: Tensor | None = None) -> Tensor:
        """Tokens [batch, tokens], and for a head the target's states before each, [batch, tokens,
        hidden_size] -> what the last layer reads, [batch, tokens, hidden_size]."""
        x = F.embedding(ids, self.table)
        if self.join is not None:
            assert states is not None
            x = self.join(torch.cat([states, x], -1))
        return self.body(inputs_embeds=x, use_cache=False).last_hidden_state


@dataclass
class Batch:
    """Conversations of like length, padded behind.

    Attributes:
        ids: int64 [batch, tokens].
        states: the target's, float32 [batch, tokens, hidden_size].
        answer: where what comes next is part of an answer, bool [batch, tokens].
    """

    ids: Tensor
    states: Tensor
    answer: Tensor


def batches(
    lessons: Lessons, which: np.ndarray, rng: np.random.Generator, size: int = BATCH
) -> Iterator[Batch]:
    """All of ``which`` once, in random order."""
    order = rng.permutation(which)
    groups = []
    for i in range(0, len(order), 16 * size):
        part = order[i : i + 16 * size]
        part = part[np.argsort(lessons.lengths[part], kind="stable")]
        groups += [part[j : j + size] for j in range(0, len(part), size)]
    for g in rng.permutation(len(groups)):
        rows = groups[g]
        longest = int(lessons.lengths[rows].max())
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        states = torch.zeros((len(rows), longest, lessons.hidden.shape[1]))
        answer = torch.zeros((len(rows), longest), dtype=torch.bool)
        for i, row in enumerate(rows):
            n, start = int(lessons.lengths[row]), int(lessons.starts[row])
            ids[i, :n] = torch.from_numpy(lessons.ids[start : start + n])
            states[i, :n] = torch.from_numpy(lessons.hidden[start : start + n].astype(np.float32))
            answer[i, lessons.prompts[row] - 1 : n - 1] = True
        yield Batch(ids, states, answer)


def guesses(net: DraftNet, batch: Batch, passes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What a draft says where the target says something about an answer.

    A head is run several times: first on the target's states, then on its own guesses of them, as it will
    be when it guesses several tokens in a row (after Zhang et al. 2024, "Learning Harmonized Representations
    for Speculative Sampling").

    Yields:
        Its states and the target's, [places, hidden_size] each.
    """
    if net.join is None:
        yield net(batch.ids)[batch.answer], batch.states[batch.answer]
        return
    states = batch.states
    # Pair i is the state of token i and token i + 1; the head guesses the state of token i + 1.
    wanted, place = batch.states[:, 1:], batch.answer[:, 1:]
    for _ in range(passes):
        said = net(batch.ids[:, 1:], states[:, :-1])
        yield said[place], wanted[place]
        states = torch.cat([states[:, :1], said.detach().float()], 1)


def train(
    net: DraftNet,
    lessons: Lessons,
    words: np.ndarray,
    *,
    passes: Sequence[int],
    rate: float,
    report: Callable[[str], None] = print,
) -> DraftNet:
    """Distil: cross-entropy against the target's probabilities of the common words.

    Args:
        passes: for each epoch, see ``guesses``.
        rate: highest learning rate.
        report: is told how training goes.
    """
    torch.manual_seed(0)
    rng, began = np.random.default_rng(0), time.perf_counter()
    last = net.table[torch.from_numpy(words)].bfloat16()  # [words, hidden_size]
    which = np.arange(len(lessons.lengths))
    learned, kept = which[:-HELD_OUT], which[-HELD_OUT:]
    steps = len(passes) * (-(-len(learned) // BATCH) + 1)
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    done, recent = 0, []
    for many in passes:
        for batch in batches(lessons, learned, rng):
            with torch.autocast("cpu", torch.bfloat16):
                losses = []
                for said, wanted in guesses(net, batch, many):
                    target = F.linear(wanted.bfloat16(), last).float().softmax(-1)
                    losses.append(F.cross_entropy(F.linear(said, last).float(), target))
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done, recent = done + 1, [*recent[-49:], losses[0].item()]
            if done % 50 == 0:
                report(
                    f"step {done} of {steps}: loss {np.mean(recent):.3f}, {time.perf_counter() - began:.0f} s"
                )
        report(f"as the target on held-out answers: {agreement(net, lessons, words, kept)}")
    return net.eval()


@torch.inference_mode()
def agreement(net: DraftNet, lessons: Lessons, words: np.ndarray, which: np.ndarray) -> list[float]:
    """How often the draft's likeliest word is the target's, for each pass of ``guesses``; 0 to 1."""
    net.eval()
    whole, last = net.table, net.table[torch.from_numpy(words)]
    numbers = torch.from_numpy(words)
    right: list[list[float]] = [[], [], []]
    for batch in batches(lessons, which, np.random.default_rng(0)):
        for i, (said, wanted) in enumerate(guesses(net, batch, 3)):
            best = numbers[F.linear(said.float(), last).argmax(-1)]
            right[i] += (best == F.linear(wanted, whole).argmax(-1)).float().tolist()
    net.train()
    return [round(float(np.mean(r)), 3) for r in right if r]


def weights(net: DraftNet) -> dict[str, np.ndarray]:
    """What was trained, by name."""
    return {name: w.detach().float().numpy() for name, w in net.state_dict().items()}


def main() -> None:
    target, lessons = models.smollm2_torch(artifacts.get("smollm2.hf")), make_lessons()
    words = common_words(lessons)
    nets = {
        "small": train(
            DraftNet(target, LAYERS, states=False), lessons, words, passes=SMALL_PASSES, rate=RATES["small"]
        ),
        "head": train(
            DraftNet(target, LAYERS[-1:], states=True), lessons, words, passes=HEAD_PASSES, rate=RATES["head"]
        ),
    }
    save_drafts(words, {name: weights(net) for name, net in nets.items()})
    print(f"{STORED.name}: {STORED.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
