"""A model with its matrices exposed: other weights are tried in it without opening it again.

In ONNX a constant that is also listed as an input is a default: whoever runs the model may replace it.
So one session serves every way of rounding. Accuracy is real here; size is counted, and speed is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kit.engine import session
from kit.quantize.by_hand import Quantized, rounded
from kit.quantize.graphs import attributes, matrices, tables_int8

Plan = Mapping[str, Quantized | np.ndarray]
"""How to round: label of a matrix -> its codes, or the floats to use. What is left out stays as it is."""


class Workbench:
    """An ONNX model whose tables are INT8 already, and whose matrices wait to be rounded.

    Args:
        path: the file, in FP32.

    Attributes:
        weights: label -> matrix [inputs, outputs], in the order of the graph.
        session: the open model.
    """

    def __init__(self, path: str | Path) -> None:
        model = tables_int8(onnx.load(path))
        self._names = {label: name for name, label in matrices(model).items()}
        graph = model.graph
        constants = {t.name: t for t in graph.initializer}
        users = {n.input[1]: n for n in graph.node if n.op_type in ("MatMul", "Gemm")}
        self._turned, self._taps, self.weights = set(), {}, {}
        for label, name in self._names.items():
            w = numpy_helper.to_array(constants[name])
            if attributes(users[name]).get("transB"):
                self._turned.add(label)
                w = w.T
            self.weights[label], self._taps[label] = w, users[name].input[0]
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, constants[name].dims))
        self._result = graph.output[0].name
        known = {o.name for o in graph.output} | {i.name for i in graph.input}
        for name in dict.fromkeys(self._taps.values()):
            if name not in known:
                graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        data = model.SerializeToString()
        self._rest_bytes = len(data) - sum(w.nbytes for w in self.weights.values())
        self.session = session(data)

    def fit(self, plan: Plan) -> Fitted:
        """The model with the matrices of ``plan`` in place of its own; it runs like a session."""
        feeds = {}
        for label, w in plan.items():
            value = w.dequantize() if isinstance(w, Quantized) else w
            feeds[self._names[label]] = np.ascontiguousarray(value.T if label in self._turned else value)
        return Fitted(self.session, self._result, feeds)

    def mb(self, plan: Plan) -> float:
        """Size of a file with this plan in MB: packed codes with scales of two bytes, tables in INT8."""
        total = self._rest_bytes
        for label, w in self.weights.items():
            q = plan.get(label, w)
            total += q.nbytes - 2 * q.scale.size if isinstance(q, Quantized) else q.nbytes
        return total / 1e6

    def round_all(self, bits: int, scales: str = "blocks", block: int = 32) -> dict[str, Quantized]:
        """The plan that rounds every matrix alike; arguments as in ``rounded``."""
        return {label: rounded(w, bits, scales, block) for label, w in self.weights.items()}

    def inputs(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What every matrix is multiplied with on real data: label -> [samples, inputs].

        Args:
            feeds: inputs of the model by name, one run each. Padding would count as data: give
                sentences one by one.
        """
        names = list(dict.fromkeys(self._taps.values()))
        seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for feed in feeds:
            for name, value in zip(names, self.session.run(names, dict(feed)), strict=True):
                seen[name].append(value.reshape(-1, value.shape[-1]))
        joined = {name: np.concatenate(values) for name, values in seen.items()}
        return {label: joined[name] for label, name in self._taps.items()}


class Fitted:
    """A workbench's model with other weights. ``run`` has the arguments of a session's."""

    def __init__(self, session: Any, result: str, feeds: dict[str, np.ndarray]) -> None:
        self._session, self._result, self._feeds = session, result, feeds

    def run(self, names: list[str] | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The model's first output, or those named."""
        return self._session.run(names or [self._result], {**inputs, **self._feeds})


def sensitivity(
    bench: Workbench, evaluate: Callable[[Fitted], float], rounding: Callable[[np.ndarray], Any]
) -> dict[str, float]:
    """Round one matrix at a time and evaluate the model: which one minds most?

    Args:
        bench: the model.
        evaluate: model -> a score.
        rounding: matrix [inputs, outputs] -> its codes, or floats.

    Returns:
        Score by label, in the order of the graph.
    """
    return {label: evaluate(bench.fit({label: rounding(w)})) for label, w in bench.weights.items()}


def short(label: str) -> str:
    """A label of MiniLM or SmolLM2 in few words: ``layer 4 intermediate``."""
    kept = re.sub(r"bert\.encoder\.|model\.|attention\.self\.|mlp\.|\.dense|\.MatMul", "", label)
    return kept.replace("layers.", "layer ").replace(".", " ")
