"""Two questions that take several trainings: how many sentences of people, and how small a model?"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from kit import data
from kit.data import Example
from kit.models.intent import IntentNet
from kit.train.judge import by_speech, correct
from kit.train.loop import MIX, everything, train

PEOPLE = (0, 100, 300, 700)  # sentences of people in training; the artifact intent.pt has them all
SHAPES = (
    {"buckets": 509, "dim": 8, "hidden": 32},
    {"buckets": 2039, "dim": 16, "hidden": 64},
    {"buckets": 8191, "dim": 32, "hidden": 128},
    {"buckets": 32749, "dim": 64, "hidden": 128},  # the shape of intent.pt
)
EPOCHS = 3


def _measured(model: IntentNet) -> dict[str, Any]:
    """Accuracy in percent with its interval, by kind of speech and language."""
    return by_speech(lambda examples: correct(model, examples))


def with_people(n: int, seed: int = 0) -> list[Example]:
    """Everything to train on, with only ``n`` of the people's sentences."""
    rest = [e for e in everything("train") if e.kind != "people"]
    return rest + random.Random(seed).sample(data.load("people", "train"), n)


def build_study(out: Path) -> None:
    """The artifact ``train.study``: short trainings with fewer sentences of people, with smaller models."""
    mix = {kind: size // 2 for kind, size in MIX.items()}
    learning = [{"sentences": n, **_measured(train(with_people(n), n=EPOCHS, mix=mix))} for n in PEOPLE]
    sizes = []
    for shape in SHAPES:
        model = train(everything("train"), n=EPOCHS, mix=mix, report=None, **shape)
        parameters = sum(p.numel() for p in model.parameters())
        sizes.append({**shape, "parameters": parameters, **_measured(model)})
    out.write_text(json.dumps({"learning": learning, "sizes": sizes}, indent=1))
