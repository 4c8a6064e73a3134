"""The training loop.

The loop is short on purpose. What makes the model good is what it is shown: ``mix`` says how many
sentences of each kind an epoch has, and ``chatter`` puts words around a command, as people do.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from kit import data
from kit.data import Example
from kit.models.intent import IntentNet, save_intent
from kit.train.confidence import calibrate

EPOCHS = 10
MIX = {"templates": 9000, "people": 7000, "not_a_command": 7000}  # sentences of each kind in an epoch


def draw(examples: Sequence[Example], n: int, rng: random.Random) -> list[Example]:
    """``n`` examples: each as often as any other, give or take one."""
    if not examples:
        return []
    return list(examples) * (n // len(examples)) + rng.sample(list(examples), n % len(examples))


def chatter(text: str, talk: Sequence[str], lang: str, rng: random.Random) -> str:
    """``text`` with a few words of something else said before or after it.

    "hang on a second turn the light off": people talk around a command. The label stays.
    """
    other = rng.choice(talk)
    words, gap = (other.split(), " ") if lang == "en" else (list(other), "")
    size = rng.randint(1, 6)
    start = rng.randrange(max(1, len(words) - size + 1))
    fragment = gap.join(words[start : start + size])
    return f"{fragment}{gap}{text}" if rng.random() < 0.5 else f"{text}{gap}{fragment}"


def epochs(
    examples: Sequence[Example], mix: Mapping[str, int], n: int, rng: random.Random, around: float = 0.25
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What each epoch shows: bytes int32 [sentences, length] and classes int64 [sentences].

    Args:
        examples: everything to learn from.
        mix: how many sentences of each kind; a kind that ``examples`` lacks is left out.
        n: epochs.
        rng: makes the draw repeatable.
        around: share of the sentences that get chatter around them.
    """
    kinds = {kind: [e for e in examples if e.kind == kind] for kind in mix}
    talk = {lang: [e.text for e in kinds.get("not_a_command", ()) if e.lang == lang] for lang in data.LANGS}
    for _ in range(n):
        shown = [e for kind, size in mix.items() for e in draw(kinds[kind], size, rng)]
        rng.shuffle(shown)
        texts = [
            chatter(e.text, talk[e.lang], e.lang, rng) if talk[e.lang] and rng.random() < around else e.text
            for e in shown
        ]
        yield torch.from_numpy(data.encode(texts)), torch.from_numpy(data.labels(shown))


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def smoothed(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy that asks to be 95% sure, not 100%: label smoothing (Szegedy et al. 2016)."""
    return F.cross_entropy(logits, classes, label_smoothing=0.05)


def fit(
    model: IntentNet,
    shown: Iterable[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    *,
    loss: Loss = smoothed,
    batch: int = 128,
    lr: float = 1e-2,
    report: Callable[[int, float], None] | None = None,
) -> IntentNet:
    """The loop itself: show the model sentences, and change its weights after each batch.

    AdamW with one warm-up and one cool-down of the learning rate (Smith 2018, super-convergence), and
    the running mean of the weights as the result (Polyak 1992).

    Args:
        model: is changed, too.
        shown: for each epoch, bytes int32 [sentences, length] and what ``loss`` takes [sentences, ...].
        steps: batches in all epochs together.
        loss: (logits [batch, classes], targets [batch, ...]) -> a number.
        batch: sentences per step.
        lr: the highest learning rate.
        report: called after each epoch with its number and its mean loss.
    """
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for epoch, (texts, targets) in enumerate(shown):
        losses = []
        for text, target in zip(texts.split(batch), targets.split(batch), strict=True):
            text = text[:, : int((text > 0).sum(1).max())]  # no time for padding
            value = loss(model(text), target)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(weight, 0.01)
            losses.append(value.item())
        if report:
            report(epoch, float(np.mean(losses)))
    return average.eval()


def train(
    examples: Sequence[Example],
    *,
    n: int = EPOCHS,
    mix: Mapping[str, int] = MIX,
    batch: int = 128,
    lr: float = 1e-2,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
    **shape: int,
) -> IntentNet:
    """Train an edge model from nothing.

    Args:
        examples: what to learn from; kinds are mixed as ``mix`` says.
        n: epochs.
        mix: sentences per epoch by kind.
        batch, lr, report: as for ``fit``.
        seed: of weights, draw and dropout.
        shape: arguments of ``IntentNet``, such as ``buckets=4093``.

    Raises:
        ValueError: nothing to learn from.
    """
    if not examples:
        raise ValueError("train needs examples, got none: see kit.data.load")
    torch.manual_seed(seed)
    model = IntentNet(**shape)
    per_epoch = sum(size for kind, size in mix.items() if any(e.kind == kind for e in examples))
    shown = epochs(examples, mix, n, random.Random(seed))
    return fit(model, shown, n * -(-per_epoch // batch), batch=batch, lr=lr, report=report)


def everything(split: str) -> list[Example]:
    """Templates, people and what is not a command, in both languages."""
    return [e for kind in MIX for e in data.load(kind, split)]


def build_intent(out: Path) -> None:
    """The artifact ``intent.pt``: trained on everything, calibrated on the dev split."""
    model = train(everything("train"))
    calibrate(model, everything("dev"))
    save_intent(model, out)
