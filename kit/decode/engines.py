"""How fast other engines write with the same model: recorded in ``datasets/engines.csv``.

``python tests/bench_decode.py --record`` measures them again and writes the file.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from kit.artifacts import DATASETS

FILE = DATASETS / "engines.csv"
COLUMNS = ("engine", "format", "round", "tokens_per_s")


@dataclass(frozen=True)
class Speed:
    """What one engine reached.

    Attributes:
        engine: its name.
        format: of the weights.
        tokens_per_s: in each round of the run.
    """

    engine: str
    format: str
    tokens_per_s: tuple[float, ...]


def engines(file: Path = FILE) -> list[Speed]:
    """The recorded engines, in the order of the file.

    Raises:
        ValueError: a file with other columns.
    """
    found: dict[tuple[str, str], list[float]] = {}
    with file.open(encoding="utf-8", newline="") as f:
        rows = csv.DictReader(f)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{file.name} must have the columns {', '.join(COLUMNS)}, got {rows.fieldnames}."
            )
        for row in rows:
            found.setdefault((row["engine"], row["format"]), []).append(float(row["tokens_per_s"]))
    return [Speed(engine, kind, tuple(values)) for (engine, kind), values in found.items()]
