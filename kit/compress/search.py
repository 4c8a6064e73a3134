"""A small search for a smaller shape: train each a little, time each on this machine, keep the front.

What a shape costs is measured: the bytes of its file, and the time of a sentence in ONNX Runtime. How good it
can be is estimated by a short training, the same for all. Shapes are compared on the dev split, so that the
test stays a test.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kit import data
from kit.compress.builders import SMALL
from kit.compress.distil import teach
from kit.compress.labels import labels
from kit.export import build_intent
from kit.models.intent import IntentNet, save_intent
from kit.train import everything, probabilities

SIZES, BUCKETS, WIDTHS = (6, 4), (32749, 16381, 8191), ((64, 0), (32, 16), (16, 8))
SENTENCE = "turn off the kitchen lights"


@dataclass(frozen=True)
class Shape:
    """One candidate: arguments of ``IntentNet``.

    Attributes:
        sizes: n-grams of 1 to this many bytes.
        buckets: rows of the tables.
        dim: columns of the vectors.
        rank: of the votes; 0 for one vote per intent.
    """

    sizes: int
    buckets: int
    dim: int
    rank: int

    @property
    def name(self) -> str:
        """Such as ``"4 bytes, 16k, 32+16"``: longest n-gram, buckets, columns and votes."""
        return f"{self.sizes} bytes, {round(self.buckets / 1024)}k, {self.dim}+{self.rank or 'all'}"

    def net(self) -> IntentNet:
        """An untrained model of this shape."""
        return IntentNet(sizes=self.sizes, buckets=self.buckets, dim=self.dim, rank=self.rank)


FIRST = Shape(6, 32749, 64, 0)  # chapter 01's
CHOSEN = Shape(**SMALL)


def shapes() -> list[Shape]:
    """All candidates; ``FIRST`` is the first."""
    return [Shape(s, b, d, r) for b, s, (d, r) in itertools.product(BUCKETS, SIZES, WIDTHS)]


def on_dev(model: IntentNet) -> float:
    """Accuracy on the dev split in percent: the mean of people and templates, in both languages."""
    kinds = [[e for e in everything("dev") if e.kind == kind] for kind in ("people", "templates")]
    return float(
        np.mean([100 * (probabilities(model, es).argmax(1) == data.labels(es)).mean() for es in kinds])
    )


def write_edge(model: IntentNet, path: Path) -> None:
    """Write an edge model that is in memory as an ONNX file, as chapter 02 does it."""
    weights = path.with_suffix(".safetensors")
    save_intent(model, weights)
    build_intent(path, weights)
    weights.unlink()


def build_search(out: Path, *_: Path) -> None:
    """The artifact ``compress.search``: a folder with ``search.json``, shape -> accuracy on the dev split in
    percent after a short training, and an ONNX file for each shape."""
    out.mkdir()
    texts, p = labels()
    found = {}
    for shape in shapes():
        torch.manual_seed(0)
        model = teach(shape.net(), texts, p, n=2, each=8000, part=0.5)
        found[shape.name] = on_dev(model)
        write_edge(model, out / f"{shape.name}.onnx")
    (out / "search.json").write_text(json.dumps(found, indent=1))
