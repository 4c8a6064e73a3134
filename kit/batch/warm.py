"""The first call is not like the hundredth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kit.engine import session


def first_calls(
    path: Path, shapes: Sequence[tuple[int, int]], calls: int = 100
) -> tuple[float, dict[str, np.ndarray]]:
    """Open a session of a reader, and call it with one shape after the other.

    Args:
        path: ONNX file that reads MiniLM's tokens.
        shapes: (sentences, tokens each).
        calls: of each shape.

    Returns:
        Milliseconds to open the file, and of each call: name -> ms, [calls].
    """
    start = time.perf_counter()
    model, times = session(path, spin=False), {}
    opening_ms = 1000 * (time.perf_counter() - start)
    for rows, tokens in shapes:
        ids = np.full((rows, tokens), 2003, np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        ms = np.empty(calls)
        for i in range(calls):
            start = time.perf_counter()
            model.run(None, inputs)
            ms[i] = 1000 * (time.perf_counter() - start)
        times[f"{rows} × {tokens}"] = ms
    return opening_ms, times
