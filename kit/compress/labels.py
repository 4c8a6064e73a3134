"""The teachers as the rest of the kit asks them, and what they say of sentences that nobody labelled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kit import artifacts, data
from kit.compress.unlabelled import sentences
from kit.engine import session
from kit.models.intent import load_intent, logits
from kit.quantize import minilm_inputs

NEW = {"en": 80_000, "zh": 12_000}  # sentences for the teachers to label


def softmax(z: np.ndarray) -> np.ndarray:
    """Logits as probabilities, float64 [n, classes]."""
    z = np.asarray(z, np.float64)
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def reader_logits(reader: Any, texts: Sequence[str], batch: int = 64) -> np.ndarray:
    """What the artifact ``teacher.onnx`` says, float32 [len(texts), classes].

    Sentences of like length go together, so that there is little padding.

    Args:
        reader: a session.
        texts: English, normalised (``data.normalise``).
        batch: sentences in one call.
    """
    order = np.argsort([len(t) for t in texts], kind="stable")
    out = np.empty((len(texts), len(data.INTENTS)), np.float32)
    for start in range(0, len(texts), batch):
        rows = order[start : start + batch]
        out[rows] = reader.run(None, minilm_inputs([texts[i] for i in rows]))[0]  # pyright: ignore
    return out


@cache
def _english() -> Any:
    return session(artifacts.get("teacher.onnx"), spin=False)


@cache
def _chinese() -> list[Any]:
    return [load_intent(path) for path in sorted(artifacts.get("teacher.zh").iterdir())]


def ask_teacher(texts: Sequence[str], lang: str) -> np.ndarray:
    """What the teacher of a language says: probabilities, float64 [len(texts), classes].

    Args:
        texts: normalised sentences.
        lang: ``"en"`` or ``"zh"``.

    Raises:
        ValueError: an unknown language, or no texts.
    """
    if lang not in data.LANGS:
        raise ValueError(f"lang must be one of {data.LANGS}, got {lang!r}.")
    if not len(texts):
        raise ValueError("no texts were given: the teacher needs at least one.")
    if lang == "en":
        return softmax(reader_logits(_english(), texts))
    return np.mean([softmax(logits(net, texts)) for net in _chinese()], axis=0)


def build_labels(out: Path, *_: Path) -> None:
    """The artifact ``teacher.labels``: new sentences, and the teachers' probabilities for each.

    A ``.npz`` with ``texts``, str [sentences], and ``p``, float16 [sentences, classes].
    """
    new = {lang: sentences(n, lang) for lang, n in NEW.items()}
    p = np.concatenate([ask_teacher(texts, lang) for lang, texts in new.items()])
    texts = [text for part in new.values() for text in part]
    order = random.Random(0).sample(range(len(texts)), len(texts))  # languages mixed
    with out.open("wb") as f:
        np.savez_compressed(f, texts=np.array(texts)[order], p=p[order].astype(np.float16))


def labels() -> tuple[list[str], np.ndarray]:
    """The artifact ``teacher.labels``: texts, and probabilities float32 [texts, classes]."""
    with np.load(artifacts.get("teacher.labels")) as found:
        return found["texts"].tolist(), found["p"].astype(np.float32)
