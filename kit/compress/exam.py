"""What a cut model answers, kept sentence by sentence, so that every later question can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kit import data
from kit.compress.labels import ask_teacher, softmax
from kit.data import Example
from kit.engine import session
from kit.measure import accuracy, lead
from kit.models.intent import IntentNet, logits
from kit.train import calibrate, everything


@cache
def asked(kind: str = "people") -> tuple[Example, ...]:
    """The test sentences of one kind, English before Chinese."""
    return tuple(e for lang in data.LANGS for e in data.load(kind, "test", lang))


@dataclass(frozen=True)
class Answers:
    """What a model said of the test sentences of people, in both languages.

    Attributes:
        said: classes, one per sentence of ``asked()``.
        sure: its probability for each of them, 0 to 1, after calibration on the dev split.
        templates: part of the test templates that it got right, 0 to 1.
    """

    said: tuple[int, ...]
    sure: tuple[float, ...]
    templates: float

    @property
    def hits(self) -> np.ndarray:
        """Whether each sentence was right, bool [sentences]."""
        return np.array(self.said) == data.labels(asked())

    def right(self, lang: str | None = None) -> tuple[float, float, float]:
        """Accuracy on people in percent with its interval, in one language or in both."""
        return accuracy(self.hits[of(lang)])

    def ahead(self, other: Answers, lang: str | None = None) -> tuple[float, float, float]:
        """Points of accuracy by which it is ahead of another model on people, with the interval."""
        return lead(self.hits[of(lang)], other.hits[of(lang)])

    def as_json(self) -> dict[str, Any]:
        """For an artifact; ``from_json`` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Answers:
        """What ``as_json`` gave, after it was written and read."""
        return cls(tuple(kept["said"]), tuple(kept["sure"]), kept["templates"])


def of(lang: str | None) -> np.ndarray:
    """Which sentences of ``asked()`` are in a language, bool [sentences]; None: all."""
    return np.array([lang in (None, e.lang) for e in asked()])


def answers(p: np.ndarray, templates: np.ndarray) -> Answers:
    """Keep what a model says.

    Args:
        p: probabilities of the sentences of ``asked()``, [sentences, classes].
        templates: the same for ``asked("templates")``.
    """
    return Answers(
        said=tuple(p.argmax(1).tolist()),
        sure=tuple(p.max(1).round(4).tolist()),
        templates=float((templates.argmax(1) == data.labels(asked("templates"))).mean()),
    )


def examine(model: IntentNet) -> Answers:
    """Let an edge model answer. It is calibrated first, as chapter 01 does."""
    calibrate(model, everything("dev"))
    return answers(*(softmax(logits(model, texts(kind))) for kind in ("people", "templates")))


def examine_teacher() -> Answers:
    """Let the teachers answer, each in its language."""
    kinds = []
    for kind in ("people", "templates"):
        kinds.append(np.concatenate([ask_teacher(texts(kind, lang), lang) for lang in data.LANGS]))
    return answers(*kinds)


def texts(kind: str, lang: str | None = None) -> list[str]:
    """The texts of ``asked(kind)``, in one language or in both."""
    return [e.text for e in asked(kind) if lang in (None, e.lang)]


def by_frequency(kinds: Mapping[str, Answers], parts: int = 3) -> tuple[list[str], dict[str, list[float]]]:
    """Accuracy on people by how often people's training sentences have the intent.

    Args:
        kinds: name -> answers.
        parts: groups of intents, as equal in test sentences as can be.

    Returns:
        Names of the groups; and for each model the accuracy in each group, in percent.
    """
    known = [e.label for e in everything("train") if e.kind == "people"]
    seen = np.array([known.count(e.label) for e in asked()])
    edges = np.quantile(seen, np.linspace(0, 1, parts + 1)[1:-1])
    group = np.searchsorted(edges, seen, side="left")
    names = [f"{seen[group == g].min()} to {seen[group == g].max()}" for g in range(parts)]
    return names, {
        name: [100 * float(a.hits[group == g].mean()) for g in range(parts)] for name, a in kinds.items()
    }


def examine_file(path: Path) -> Answers:
    """Let an edge model's ONNX file answer, as it is."""
    opened = session(path, spin=False)

    def ask(kind: str) -> np.ndarray:
        x = data.encode(texts(kind))
        return softmax(
            np.concatenate([opened.run(None, {"bytes": x[i : i + 256]})[0] for i in range(0, len(x), 256)])
        )

    return answers(ask("people"), ask("templates"))
