"""Distillation: the edge model learns what the teacher says, not only which label is right.

The loop is that of chapter 01 (``train.fit``); only the targets change. A target is a probability for each
class: the teacher's for a sentence that nobody labelled; for one with a label, nearly all of it on the label.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kit import data
from kit.models.intent import IntentNet
from kit.train import MIX, epochs, everything, fit

TAUGHT_EPOCHS, PART = 8, 0.7  # epochs, and the part of chapter 01's labelled sentences in each: 16,000
EACH = 30_000  # sentences of the teacher in an epoch, beside them


def soften(p: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities at a higher temperature: ``softmax(log(p) / temperature)``, [n, classes].

    Above 1 the small probabilities grow: what else it could have been is easier to see, and to learn.

    Raises:
        ValueError: a temperature that is not above 0.
    """
    if temperature <= 0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}: 1 leaves probabilities as they are."
        )
    z = np.log(np.maximum(np.asarray(p, np.float64), 1e-9)) / temperature
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def hard(classes: Tensor, smoothing: float = 0.05) -> Tensor:
    """Classes [n] as probabilities [n, classes]: 95% on the label, the rest shared by all."""
    count = len(data.INTENTS)
    return F.one_hot(classes, count).float() * (1 - smoothing) + smoothing / count


def soft_loss(logits: Tensor, targets: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Cross-entropy against probabilities, at a temperature, times its square.

    The gradient of a softened softmax shrinks with the square of the temperature; the factor makes up for it,
    so that the learning rate need not change (Hinton et al. 2015, section 2).

    Args:
        logits: of the student, [batch, classes].
        targets: probabilities, softened already, [batch, classes].
        temperature: what the targets were softened with: for all, or for each sentence, [batch, 1].
    """
    return F.cross_entropy(logits / temperature, targets * temperature**2)


def lessons(
    texts: Tensor,
    targets: Tensor,
    n: int,
    each: int,
    *,
    seed: int = 0,
    part: float = 1.0,
    temperature: float = 1.0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each epoch shows: the labelled sentences of chapter 01, and some that the teacher labelled.

    Args:
        texts: bytes of the teacher's sentences, int32 [sentences, length].
        targets: what the teacher says, softened already, float32 [sentences, classes].
        n: epochs.
        each: sentences of the teacher in an epoch; 0 for none.
        seed: of the draw.
        part: of chapter 01's number of labelled sentences in an epoch, 0 to 1.
        temperature: that the targets were softened with; labels stay at 1.

    Yields:
        Bytes, int32 [sentences, length]; and probabilities with each sentence's temperature as the last
        column, float32 [sentences, classes + 1].
    """
    pick = torch.Generator().manual_seed(seed)
    mix = {kind: round(part * size) for kind, size in MIX.items()}
    soft = F.pad(targets, (0, 1), value=temperature)
    for x, classes in epochs(everything("train"), mix, n, random.Random(seed)):
        some = torch.randperm(len(texts), generator=pick)[:each]
        x, y = torch.cat([x, texts[some]]), torch.cat([F.pad(hard(classes), (0, 1), value=1.0), soft[some]])
        order = torch.randperm(len(x), generator=pick)
        yield x[order], y[order]


def teach(
    model: IntentNet,
    texts: Sequence[str],
    p: np.ndarray,
    *,
    n: int = TAUGHT_EPOCHS,
    each: int = EACH,
    part: float = PART,
    temperature: float = 1.0,
    lr: float = 1e-2,
    seed: int = 0,
) -> IntentNet:
    """Train ``model`` on labelled sentences and on what the teacher says; the settings are chapter 01's.

    Args:
        model: the student; is changed, too.
        texts: sentences that the teacher labelled.
        p: its probabilities, [sentences, classes].
        n, each, part, seed: as for ``lessons``.
        temperature: softens what the teacher says.
        lr: as for ``train.fit``.
    """
    torch.manual_seed(seed)
    encoded = torch.from_numpy(data.encode(texts))
    soft = p if temperature == 1 else soften(p, temperature)
    each = min(each, len(texts))
    steps = n * -(-(sum(round(part * size) for size in MIX.values()) + each) // 128)
    shown = lessons(
        encoded, torch.from_numpy(np.asarray(soft, np.float32)), n, each,
        seed=seed, part=part, temperature=temperature,
    )  # fmt: skip
    return fit(model, shown, steps, loss=lambda z, y: soft_loss(z, y[:, :-1], y[:, -1:]), lr=lr)
