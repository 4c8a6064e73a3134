"""What rounding costs: perplexity, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from kit import artifacts, models
from kit.engine import Engine, tokenizer


def passages() -> list[str]:
    """25 plain sentences about homes, weather and science, written for this kit."""
    return (artifacts.DATASETS / "passages.txt").read_text("utf-8").splitlines()


def perplexity(engine: Engine, texts: Sequence[str]) -> float:
    """How surprised the model is by each next token: as if it chose among that many equally likely ones.

    Each text is read from its start, in one prefill. Lower is better; 1 is the least. Compare models on
    the same texts only.
    """
    losses = []
    for text in texts:
        ids = tokenizer()(text).input_ids
        engine.reset()
        logits = engine.forward(ids)[:-1].astype(np.float64)  # row i predicts token i + 1
        top = logits.max(-1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        losses.append(total - logits[np.arange(len(ids) - 1), ids[1:]])
    return float(np.exp(np.concatenate(losses).mean()))


@cache
def _minilm_tokenizer() -> Any:
    return models.minilm_tokenizer()


def minilm_inputs(texts: Sequence[str], length: int = 64) -> dict[str, np.ndarray]:
    """Tokens of English texts as MiniLM's two inputs, padded to the longest, cut at ``length``."""
    batch = _minilm_tokenizer()(list(texts), padding=True, truncation=True, max_length=length)
    return {k: np.array(batch[k], np.int64) for k in ("input_ids", "attention_mask")}


def embed(minilm: Any, texts: Sequence[str], batch: int = 32) -> np.ndarray:
    """Sentence embeddings of English texts, float32 [len(texts), 384], each of length 1.

    Args:
        minilm: a session of ``minilm.onnx`` or ``minilm.int8``.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike lengths need little padding
    out = np.empty((len(texts), 384), np.float32)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        out[rows] = minilm.run(None, minilm_inputs([texts[i] for i in rows]))[0]
    return out
