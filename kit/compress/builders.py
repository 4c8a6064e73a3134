"""How the store of artifacts makes the taught models: ``function(out, *parents)``."""

from __future__ import annotations

from pathlib import Path

import torch

from kit.compress.distil import teach
from kit.compress.labels import labels
from kit.compress.qat import rounding
from kit.compress.study import tuned
from kit.models.intent import IntentNet, load_intent, save_intent
from kit.train import calibrate, everything

SMALL = {"sizes": 4, "buckets": 16381, "dim": 32, "rank": 16}  # what the search of this chapter found


def _build(out: Path, **shape: int) -> None:
    torch.manual_seed(0)
    model = teach(IntentNet(**shape), *labels())
    calibrate(model, everything("dev"))
    save_intent(model, out)


def build_taught(out: Path, *_: Path) -> None:
    """The artifact ``intent.taught``: an edge model of chapter 01's shape that had a teacher."""
    _build(out)


def build_small(out: Path, *_: Path) -> None:
    """The artifact ``intent.small``: an edge model of a smaller shape that had a teacher."""
    _build(out, **SMALL)


def build_qat(out: Path, taught: Path, *_: Path) -> None:
    """The artifact ``intent.qat``: the taught model, trained on with its weights rounded to 8 bits."""
    model = tuned(rounding(load_intent(taught), 8))
    calibrate(model, everything("dev"))
    save_intent(model, out)
