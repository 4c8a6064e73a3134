"""Trainings that take too long for a page: five seeds, four ways, recorded in ``datasets/taught.csv``.

``python tests/bench_compress.py --record`` runs them again and writes the file.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit import data
from kit.artifacts import DATASETS

FILE = DATASETS / "taught.csv"
WAYS = ALONE, LONGER, TAUGHT, SMALLER = (
    "alone",
    "alone, as many steps",
    "with a teacher",
    "small, with a teacher",
)
COLUMNS = (
    "way",
    "seed",
    "steps",
    "seconds",
    *(f"{kind}_{lang}" for kind in ("people", "templates") for lang in data.LANGS),
)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        way: one of ``WAYS``.
        seed: of weights, draw and dropout.
        steps: batches.
        seconds: that it took.
        people, templates: language -> accuracy on the test split in percent.
    """

    way: str
    seed: int
    steps: int
    seconds: float
    people: dict[str, float]
    templates: dict[str, float]


def runs(file: Path = FILE) -> list[Run]:
    """The recorded trainings.

    Raises:
        ValueError: a file with other columns.
    """
    with file.open(encoding="utf-8", newline="") as f:
        rows = csv.DictReader(f)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{file.name} must have the columns {', '.join(COLUMNS)}, got {rows.fieldnames}."
            )
        found = []
        for row in rows:
            kinds = ("people", "templates")
            right = ({lang: float(row[f"{kind}_{lang}"]) for lang in data.LANGS} for kind in kinds)
            counts = int(row["seed"]), int(row["steps"]), float(row["seconds"])
            found.append(Run(row["way"], *counts, *right))
        return found


def closed(
    runs: Sequence[Run], teacher: float, lang: str = "en", before: str = ALONE, after: str = TAUGHT
) -> tuple[float, float, float]:
    """Which part of the gap to the teacher one way of teaching closes over another, 0 to 1.

    Both ways were run with the same seeds: the 95% interval is a bootstrap over seeds, drawn in pairs.

    Args:
        runs: the recorded trainings.
        teacher: its accuracy on the same sentences in percent.
        lang: of the sentences.
        before, after: the two ways.

    Raises:
        ValueError: the two ways were not run with the same seeds.
    """
    right = [{run.seed: run.people[lang] for run in runs if run.way == way} for way in (before, after)]
    if not right[0] or right[0].keys() != right[1].keys():
        raise ValueError(
            f"{before!r} and {after!r} must be run with the same seeds: {list(right[0])}, {list(right[1])}."
        )
    low, high = (np.array([kind[seed] for seed in sorted(kind)]) for kind in right)
    pick = np.random.default_rng(0).integers(len(low), size=(5000, len(low)))
    part = (high - low)[pick].mean(1) / (teacher - low[pick].mean(1))
    middle = float((high - low).mean() / (teacher - low.mean()))
    lowest, highest = np.percentile(part, [2.5, 97.5])
    return middle, float(lowest), float(highest)
