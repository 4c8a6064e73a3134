"""Cuts of many sizes, each trained a little afterwards: the trainings that the chapter's curves need.

All of them start from the taught edge model, and the training afterwards has its sentences too: those with
labels, and those that the teacher labelled.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from kit import artifacts
from kit.compress.distil import teach
from kit.compress.exam import Answers, examine
from kit.compress.labels import labels
from kit.compress.lowrank import factor
from kit.compress.prune import prune, settled, slim
from kit.compress.qat import rounding
from kit.models.intent import IntentNet, load_intent

SHARES = (0.5, 0.8, 0.9, 0.95)  # of the weights cut
COLUMNS, UNITS, RANK = 32, 64, 16  # of the vectors, of the head, of the votes: kept
BITS = (8, 4, 2)


def tuned(model: IntentNet, seed: int = 1) -> IntentNet:
    """Train a cut model for two short epochs, gently, with the sentences of ``teach``; cuts become final."""
    texts, p = labels()
    return settled(teach(model.train(), texts, p, n=2, each=8000, part=0.5, lr=2e-3, seed=seed))


def build_study(out: Path, taught: Path, *_: Path) -> None:
    """The artifact ``compress.study``: each cut before and after training, as answers; JSON."""
    model = load_intent(taught)
    found: dict[str, Any] = {"taught": examine(model).as_json()}
    longer = tuned(copy.deepcopy(model))
    found["trained on"] = examine(longer).as_json()
    cuts = {f"{share:.0%} zeros": prune(model, share) for share in SHARES}
    thin = factor(model, RANK)
    cuts |= {f"{COLUMNS} columns": slim(model, COLUMNS, UNITS), f"rank {RANK}": thin}
    cuts[f"{COLUMNS} columns, rank {RANK}"] = slim(thin, COLUMNS, UNITS)
    for name, cut in cuts.items():
        found[f"{name}, raw"] = examine(settled(cut)).as_json()
        found[name] = examine(tuned(cut)).as_json()
    for bits in BITS:  # rounded after as much training as rounding in the loop has
        found[f"{bits} bits, raw"] = examine(settled(rounding(longer, bits))).as_json()
        found[f"{bits} bits"] = examine(tuned(rounding(model, bits))).as_json()
    out.write_text(json.dumps(found))


@cache
def study() -> dict[str, Answers]:
    """The artifact ``compress.study``: cut -> answers; ``", raw"`` means before the training afterwards."""
    found = json.loads(artifacts.get("compress.study").read_text())
    return {name: Answers.from_json(kept) for name, kept in found.items()}


def by_share() -> tuple[dict[float, Answers], dict[float, Answers]]:
    """Share of zeros -> answers, of the cut alone and after training; 0 is the taught model."""
    found = study()
    raw = {0.0: found["taught"]} | {s: found[f"{s:.0%} zeros, raw"] for s in SHARES}
    return raw, {0.0: found["trained on"]} | {s: found[f"{s:.0%} zeros"] for s in SHARES}


def by_bits() -> tuple[dict[int, Answers], dict[int, Answers]]:
    """Bits -> answers, rounded after training and trained with rounding."""
    found = study()
    return {b: found[f"{b} bits, raw"] for b in BITS}, {b: found[f"{b} bits"] for b in BITS}
