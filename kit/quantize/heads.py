"""The heads of MiniLM's exam: linear, fitted once on embeddings of the exact model, and kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from kit import data
from kit.data import Example
from kit.engine import session
from kit.quantize.quality import embed

SENTENCES = 1200  # to learn from, people's first
HEADS, PART = 10, 0.8  # each head is fitted on another 80% of them


def lessons() -> list[Example]:
    """The English commands that the heads are fitted on: all of people's that train, and templates."""
    people, templates = data.load("people", "train", "en"), data.load("templates", "train", "en")
    return people + random.Random(0).sample(templates, SENTENCES - len(people))


def head(x: np.ndarray, y: np.ndarray) -> Any:
    """A logistic regression (scikit-learn) fitted on embeddings x [n, 384] and classes y [n]."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # ONNX Runtime's idle threads hold the cores: more threads would only wait
        return LogisticRegression(C=10, max_iter=1000).fit(x, y)


def build_minilm_heads(out: Path, minilm: Path) -> None:
    """The artifact ``minilm.heads``: weights [heads, 384, intents] and biases [heads, intents]."""
    examples = lessons()
    x, y = embed(session(minilm), [e.text for e in examples]), data.labels(examples)
    weights = np.zeros((HEADS, x.shape[1], len(data.INTENTS)), np.float32)
    biases = np.full((HEADS, len(data.INTENTS)), -np.inf, np.float32)  # what was never seen is never said
    rng = np.random.default_rng(0)
    for w, b in zip(weights, biases, strict=True):
        part = rng.permutation(len(y))[: int(PART * len(y))]
        fitted = head(x[part], y[part])
        w[:, fitted.classes_], b[fitted.classes_] = fitted.coef_.T, fitted.intercept_
    np.savez(out, weights=weights, biases=biases)


def verdicts(heads: Path, x: np.ndarray) -> np.ndarray:
    """What each head says to each embedding x [n, 384]: classes, int64 [heads, n]."""
    with np.load(heads) as fitted:
        return (x @ fitted["weights"] + fitted["biases"][:, None]).argmax(-1)
