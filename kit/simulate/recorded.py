"""Answers of real models, recorded once: requests drawn from a table instead of chances to be right.

A table is a CSV file in ``datasets/``, one row for each thing that can be asked. For a model called ``edge``
it has the columns ``edge_right`` (0 or 1), ``edge_sure`` (its confidence, 0 to 1) and, if it classifies,
``edge_said`` (its guess of the intent).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kit.artifacts import DATASETS
from kit.simulate.scenario import Class, Scenario, Wrong


@dataclass(frozen=True)
class Recorded:
    """Some rows of such a table.

    Attributes:
        file: its name.
        columns: texts, each [n].
    """

    file: str
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def where(self, wanted: Mapping[str, str | Sequence[str]]) -> Recorded:
        """The rows whose columns have these values, or one of several: ``{"split": "test"}``.

        Raises:
            Wrong: no such column, or no such row.
        """
        keep = np.ones(len(self), bool)
        for name, values in wanted.items():
            values = [values] if isinstance(values, str) else list(values)
            found = np.isin(self[name], values)
            if not found.any():
                has = ", ".join(sorted(set(self[name].tolist()))[:12])
                raise Wrong(
                    "where", f"{name} is nowhere {' or '.join(values)} in {self.file}; it has: {has}."
                )
            keep &= found
        if not keep.any():
            raise Wrong("where", f"no row of {self.file} fits all of {dict(wanted)}.")
        return Recorded(self.file, {name: column[keep] for name, column in self.columns.items()})

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise Wrong("answers", f"{self.file} has no column {name!r}; it has: {', '.join(self.columns)}.")
        return self.columns[name]

    def right(self, model: str) -> np.ndarray:
        """Was ``model`` right? bool [n]."""
        return self[f"{model}_right"] == "1"

    def sure(self, model: str) -> np.ndarray:
        """Confidence of ``model``, 0 to 1, [n]."""
        return self[f"{model}_sure"].astype(float)


@cache
def table(file: str) -> Recorded:
    """All rows of a file in ``datasets/``.

    Raises:
        Wrong: it cannot be read, or is empty.
    """
    try:
        with (DATASETS / file).open(encoding="utf-8", newline="") as f:
            rows = list(csv.reader(f))
    except OSError as e:
        raise Wrong("answers", f"datasets/{file} cannot be read ({e.strerror}).") from None
    if len(rows) < 2:
        raise Wrong("answers", f"datasets/{file} has no rows.")
    return Recorded(file, dict(zip(rows[0], np.array(rows[1:]).T, strict=True)))


def of(kind: Class) -> Recorded | None:
    """What a class of requests is drawn from; None: it is not recorded."""
    if kind.answers is None:
        return None
    wanted = tuple((k, v if isinstance(v, str) else tuple(v)) for k, v in sorted(kind.where.items()))
    return _some(kind.answers, wanted)


@cache
def _some(file: str, wanted: tuple[tuple[str, str | tuple[str, ...]], ...]) -> Recorded:
    return table(file).where(dict(wanted))


class Answers:
    """What each tier says to each recorded item of a scenario; see `World.right`.

    Attributes:
        right: bool [tiers, items]. ``sure``: [tiers, items]. ``said``: what the tier that is asked first
            guesses, [items]; None: nobody is. All classes one after the other; ``begin``: where each begins.

    Raises:
        Wrong: a file, a column or a tier's model that is not there; classes with and without a table.
    """

    def __init__(self, scenario: Scenario) -> None:
        classes, tiers = scenario.workload.classes, scenario.tiers
        tables = []
        for name, kind in classes.items():
            found = of(kind)
            if found is None:
                raise Wrong("answers", f"class {name} has none, and others have: say it for all or for none.")
            tables.append(found)
        for name, tier in tiers.items():
            if tier.answers_as is None:
                raise Wrong(
                    "answers_as", f'tier {name}: say whose recorded answers it gives: answers_as = "edge".'
                )
        as_models = [str(tier.answers_as) for tier in tiers.values()]
        self.right = np.array([np.concatenate([t.right(m) for t in tables]) for m in as_models])
        self.sure = np.array([np.concatenate([t.sure(m) for t in tables]) for m in as_models])
        self.begin = np.cumsum([0, *map(len, tables)])[:-1]
        first = scenario.dispatch.edge_first
        self.first = None if first is None else list(tiers).index(first)
        said = None if self.first is None else [t[f"{as_models[self.first]}_said"] for t in tables]
        self.said = None if said is None else np.concatenate(said).tolist()
        self.guess = None if self.first is None else self.sure[self.first].tolist()


def answers(scenario: Scenario) -> Answers | None:
    """The recorded answers of a scenario; None: it has none."""
    if all(kind.answers is None for kind in scenario.workload.classes.values()):
        return None
    return Answers(scenario)
