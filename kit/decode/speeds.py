"""The chapter's measurements: with and without a cache, operator by operator, as the text grows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kit import measure
from kit.engine import Engine
from kit.measure import Timing

WORD = 5  # a token like any other: for speed it does not matter which


def reading(engine: Engine, lengths: Sequence[int], rounds: int = 5) -> dict[int, Timing]:
    """Time to read a text from its start, by its length in tokens; all lengths are timed in turn."""

    def read(n: int) -> None:
        engine.reset()
        engine.prefill([WORD] * n)

    return _by_length(read, lengths, rounds)


def steps(engine: Engine, lengths: Sequence[int], rounds: int = 12) -> dict[int, Timing]:
    """Time of one more token when the cache holds a text, by its length in tokens; timed in turn."""

    def step(n: int) -> None:
        engine.past = n  # what stands in the cache does not matter for the time
        engine.step(WORD)

    return _by_length(step, lengths, rounds)


def _by_length(work: Callable[[int], None], lengths: Sequence[int], rounds: int) -> dict[int, Timing]:
    times = measure.compare({str(n): partial(work, n) for n in lengths}, rounds, warmup=1)
    return {n: times[str(n)] for n in lengths}


LARGE = 10_000  # outputs that only a last layer has: one for each word
KINDS = {
    "MatMul": "matrices of the layers",
    "MatMulNBits": "matrices of the layers",
    "GroupQueryAttention": "attention",
    "SkipSimplifiedLayerNormalization": "norms",
    "SimplifiedLayerNormalization": "norms",
}


def by_operator(path: Path, steps: int = 30) -> dict[str, float]:
    """Where the time of a token goes: kind of operator -> ms a token, by ONNX Runtime's own profile.

    The profile itself costs time: it says how parts compare, not how fast a token is.
    """
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(path, enable_profiling=True, profile_file_prefix=str(Path(folder) / "profile"))
        engine.prefill([WORD] * 32)
        for _ in range(steps):
            engine.step(WORD)
        events = json.loads(Path(engine.session.end_profiling()).read_text())
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    runs = sorted(e["ts"] for e in events if e["name"] == "model_run")
    spent = dict.fromkeys([*KINDS.values(), "last layer", "the rest"], 0)
    for e in kernels:
        if e["ts"] < runs[1]:
            continue  # the first run was the prompt
        kind = KINDS.get(e["args"]["op_name"], "the rest")
        if kind == KINDS["MatMul"] and _outputs(e) > LARGE:
            kind = "last layer"
        spent[kind] += e["dur"]
    return {kind: us / 1000 / steps for kind, us in spent.items()}


def _outputs(event: dict) -> int:
    """Columns of what a node of the profile puts out."""
    shapes = [shape for each in event["args"]["output_type_shape"] for shape in each.values() if shape]
    return shapes[0][-1] if shapes else 0


def timing(samples: np.ndarray) -> Timing:
    """Times in ms as a ``Timing``, without a control."""
    return Timing(samples, np.ones(len(samples)))
