"""What a runtime makes of a graph: operators, counted after each level of its optimisation."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from kit import engine

# Names in ONNX Runtime. Each level includes those before it:
# basic removes what is constant or without effect, extended fuses operators, all also changes memory layouts.
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def at_level(path: str | Path, level: str, **options: Any) -> Any:
    """Open an ONNX file with the runtime's optimisation at ``level``, one of ``LEVELS``.

    ``options`` go to ``engine.session``.

    Raises:
        ValueError: no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}.")
    import onnxruntime as ort

    levels: Any = ort.GraphOptimizationLevel  # pyright: ignore[reportAttributeAccessIssue]
    return engine.session(path, graph_optimization_level=getattr(levels, LEVELS[level]), **options)


def optimise(path: str | Path, level: str) -> Counter[str]:
    """Operators of the graph that the runtime really runs at ``level``, with how often each stands in it.

    Raises as ``at_level``.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "optimised.onnx")
        at_level(path, level, optimized_model_filepath=str(written))
        model = onnx.load(written)
    return Counter(node.op_type for node in model.graph.node)
