"""What the real models answered, sentence by sentence: ``answers.csv``, made by `kit.route.record`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from kit.artifacts import DATASETS
from kit.simulate import recorded

FILE = DATASETS / "answers.csv"

COLUMNS = (
    *("split", "lang", "kind", "text", "intent", "edge_said", "edge_sure", "edge_right"),
    *("cloud_said", "cloud_sure", "cloud_right", "english_sure", "english_right"),
)
"""``edge``: the edge model in INT8. ``cloud``: the teacher of the sentence's language, or SmolLM2 for a
question. ``english``: a cloud that reads English only, whatever it is asked."""

MIX = {"people": 0.6, "templates": 0.2, "not_a_command": 0.2}
"""Kinds of speech in a home, fixed before any router was measured. Nobody has published what a home hears, so
this is an ASSUMPTION: most is said in people's own words, a fifth in the words that the grammar knows (what
people fall back to when they were not understood), and a fifth is not meant for the home."""


@dataclass(frozen=True)
class Judged:
    """Sentences that two models answered. All arrays are [n].

    Attributes:
        edge_right, cloud_right: bool. ``edge_sure``: confidence of the edge, 0 to 1.
        weight: of each sentence; they sum to 1. ``stratum``: number of its kind, 0, 1, ...
    """

    edge_right: np.ndarray
    cloud_right: np.ndarray
    edge_sure: np.ndarray
    weight: np.ndarray
    stratum: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def part(self, which: np.ndarray) -> Judged:
        """Some of them, by index; weights stay as they are."""
        return Judged(*(getattr(self, f.name)[which] for f in fields(self)))

    def resampled(self, rng: np.random.Generator) -> Judged:
        """As many sentences of each kind, drawn with replacement: one step of a bootstrap."""
        kinds = [np.flatnonzero(self.stratum == s) for s in np.unique(self.stratum)]
        return self.part(np.concatenate([rng.choice(kind, len(kind)) for kind in kinds]))


def judged(split: str, lang: str = "en", mix: Mapping[str, float] = MIX, cloud: str = "cloud") -> Judged:
    """Recorded answers of one split in one language, weighted so that kinds of speech mix as ``mix`` says.

    Args:
        split: ``"dev"`` to choose, ``"test"`` to report.
        lang: ``"en"`` or ``"zh"``.
        mix: kind -> its part; only their proportions count.
        cloud: whose answers: ``"cloud"`` or ``"english"``.

    Raises:
        kit.simulate.Wrong: no such split, language, kind or model.
    """
    total = sum(mix.values())
    tables = [recorded.table(FILE.name).where({"split": split, "lang": lang, "kind": kind}) for kind in mix]
    return Judged(
        edge_right=np.concatenate([t.right("edge") for t in tables]),
        cloud_right=np.concatenate([t.right(cloud) for t in tables]),
        edge_sure=np.concatenate([t.sure("edge") for t in tables]),
        weight=np.concatenate(
            [np.full(len(t), part / total / len(t)) for t, part in zip(tables, mix.values(), strict=True)]
        ),
        stratum=np.repeat(np.arange(len(tables)), [len(t) for t in tables]),
    )
