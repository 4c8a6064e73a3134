"""The same commands, answered offline: one by one, in batches, in batches of like length, by many workers.

Nobody waits for an offline answer, so batches may be as large as pays, and in any order.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit import data
from kit.engine import session
from kit.models import quiet
from kit.quantize.quality import minilm_inputs


@dataclass(frozen=True)
class Offline:
    """One way of answering many sentences.

    Attributes:
        sentences: how many were answered.
        seconds: from the start of the first to the end of the last, with tokenizing.
        padding: part of all positions that the model read for nothing.
        answers: class of each sentence, int64 [sentences].
        start_s: seconds more, until workers stood ready and to hand answers back.
    """

    sentences: int
    seconds: float
    padding: float
    answers: np.ndarray
    start_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Sentences per second."""
        return self.sentences / self.seconds


def feed(model: Any, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], float]:
    """Inputs of a classifier for some sentences, and the part of their positions that is padding.

    The edge model reads bytes, always 96 of them. A reader of MiniLM's tokens gets as many as its longest
    sentence has.
    """
    if model.get_inputs()[0].name == "bytes":
        x = data.encode(texts)
        return {"bytes": x}, float((x == 0).mean())
    tokens = minilm_inputs(texts)
    return tokens, float((tokens["attention_mask"] == 0).mean())


def in_order(texts: Sequence[str], size: int) -> list[np.ndarray]:
    """Batches of ``size`` as the sentences came: numbers of sentences, int64 [size] each."""
    return np.split(np.arange(len(texts)), range(size, len(texts), size))


def by_length(texts: Sequence[str], size: int) -> list[np.ndarray]:
    """Batches of ``size``, sentences with as many tokens together (*bucketing*)."""
    tokens = minilm_inputs(texts)["attention_mask"].sum(1)
    return np.split(np.argsort(tokens, kind="stable"), range(size, len(texts), size))


def answer(
    model: Any, texts: Sequence[str], size: int = 1, batches: Callable[..., list[np.ndarray]] = in_order
) -> Offline:
    """Answer the sentences batch by batch with one session.

    Args:
        model: a session of the edge model or of a reader.
        texts: normalised sentences.
        size: sentences in a batch.
        batches: ``in_order`` or ``by_length``; its time counts.

    Raises:
        ValueError: a batch of less than one sentence, or no sentences.
    """
    if size < 1 or not len(texts):
        raise ValueError(f"need at least one sentence, and one in a batch; got {len(texts)} and {size}.")
    feed(model, [texts[0]])  # loads the tokenizer
    answers, padded, read = np.empty(len(texts), np.int64), 0.0, 0
    start = time.perf_counter()
    for rows in batches(texts, size):
        inputs, padding = feed(model, [texts[int(i)] for i in rows])
        answers[rows] = model.run(None, inputs)[0].argmax(-1)
        positions = next(iter(inputs.values())).size
        padded, read = padded + padding * positions, read + positions
    return Offline(len(texts), time.perf_counter() - start, padded / read, answers)


class Worker:
    """What a Ray worker keeps: its own session, with one thread. Called with a batch of columns."""

    def __init__(self, path: str) -> None:
        self._model = session(path, threads=1, spin=False)
        self({"row": np.zeros(1), "text": np.array(["turn on the light"])})  # warm before work comes

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        began = np.full(len(columns["row"]), time.time())
        inputs, _ = feed(self._model, columns["text"].tolist())
        answers = self._model.run(None, inputs)[0].argmax(-1)  # pyright: ignore
        ended = np.full(len(began), time.time())
        return {"row": columns["row"], "answer": answers, "began": began, "ended": ended}


def has_ray() -> bool:
    """Is Ray installed?"""
    return importlib.util.find_spec("ray") is not None


def start_ray(workers: int) -> float:
    """Start Ray on this machine, quietly, without dashboard or telemetry. Returns the seconds it took.

    Raises:
        ImportError: Ray is not installed; the message says how to get it.
    """
    if not has_ray():
        raise ImportError('Ray is not installed. Run: pip install -c constraints.txt -e ".[ray]"')
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    start = time.perf_counter()
    with quiet():
        import ray
        import ray.data

        if not ray.is_initialized():
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=200_000_000,
            )
    return time.perf_counter() - start


def answer_with_ray(path: Path, texts: Sequence[str], size: int, workers: int = 2) -> Offline:
    """Answer the sentences on Ray Data, with one worker a core, in batches of like length.

    Args:
        path: ONNX file of the edge model or of a reader.
        texts: normalised sentences.
        size: sentences in a batch.
        workers: processes; each opens the file once.

    Raises:
        ImportError: Ray is not installed.
    """
    begin = time.perf_counter()
    start_ray(workers)
    import ray.data

    order = np.concatenate(by_length(texts, size))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with quiet():
        rows = ray.data.from_items([{"row": int(i), "text": texts[i]} for i in order])
        found = rows.map_batches(
            Worker,  # type: ignore[arg-type]
            fn_constructor_args=(str(path),),
            batch_size=size,
            compute=ray.data.ActorPoolStrategy(size=workers),
        ).to_pandas()
    answers = np.empty(len(texts), np.int64)
    answers[found["row"].to_numpy()] = found["answer"].to_numpy()
    seconds = float(found["ended"].to_numpy().max() - found["began"].to_numpy().min())
    return Offline(len(texts), seconds, float("nan"), answers, time.perf_counter() - begin - seconds)


def stop_ray() -> None:
    """Stop what ``start_ray`` started."""
    if has_ray():
        with quiet():
            import ray

            ray.shutdown()
