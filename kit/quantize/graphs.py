"""Rewriting ONNX graphs so that ONNX Runtime multiplies by small integers.

Each function takes a model and returns a new one; the one given is not changed. A matrix counts if it is
a constant on the right of a ``MatMul`` or ``Gemm``; a table if rows are looked up in it (``Gather``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from kit import models
from kit.quantize.by_hand import block_nbits, symmetric_int8

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
TABLE_WIDTH = 16  # numbers a row of a table that is worth rounding: its scale takes 4 bytes


class _Edit:
    """A new graph in the making: constants and nodes are added, what nothing uses is left out."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {t.name: t for t in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        turned = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose"}
        gathered = {n.input[0] for n in model.graph.node if n.op_type == "Gather"}
        # output of a Transpose -> the matrix behind it, where words are looked up in the last layer
        self.tied = {out: w for out, w in turned.items() if w in self.constants and out in gathered}

    def array(self, name: str) -> np.ndarray | None:
        """A float matrix among the constants, or None."""
        t = self.constants.get(name)
        if t is None or len(t.dims) != 2 or t.data_type != onnx.TensorProto.FLOAT:
            return None
        return numpy_helper.to_array(t)

    def weight(self, node: onnx.NodeProto) -> np.ndarray | None:
        """The matrix [inputs, outputs] that a node multiplies by, or None."""
        if node.op_type not in ("MatMul", "Gemm"):
            return None
        w, settings = self.array(node.input[1]), attributes(node)
        if settings.get("transA") or settings.get("alpha", 1) != 1 or settings.get("beta", 1) != 1:
            return None
        return w.T if w is not None and settings.get("transB") else w

    def table(self, node: onnx.NodeProto) -> np.ndarray | None:
        """The table [rows, numbers] in which a node looks up rows, or None."""
        if node.op_type != "Gather" or attributes(node).get("axis", 0) != 0:
            return None
        w = self.array(node.input[0])
        return w if w is not None and w.shape[1] >= TABLE_WIDTH else None

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def blocks(self, name: str, w: np.ndarray, bits: int, size: int) -> list[str]:
        """Codes and scales of a matrix in blocks, made once. Scales are stored in two bytes; ONNX Runtime
        widens them when it opens the file."""
        if name + ".codes" not in self.constants:
            q = block_nbits(w, bits, size)
            self.constant(name + ".codes", q.packed)
            half = self.constant(name + ".half", q.scale[..., 0].astype(np.float16))
            self.add("Cast", [half], name + ".scale", to=onnx.TensorProto.FLOAT)
        return [name + ".codes", name + ".scale"]

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **settings: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **settings))
        return output

    def look_up(self, node: onnx.NodeProto, codes: str, scale: str, zero: int = 0) -> None:
        """Replace a ``Gather`` of float rows: fetch the codes and their scales, then multiply."""
        ids, out = node.input[1], node.output[0]
        value = self.add("Cast", [self.add("Gather", [codes, ids], out + ".codes")], out + ".float", to=1)
        if zero:
            shift = self.constant(out + ".zero", np.array(zero, np.float32))
            value = self.add("Sub", [value, shift], out + ".shifted")
        step = self.add("Gather", [scale, ids], out + ".scale")
        step = self.add("Unsqueeze", [step, self.constant(out + ".last", np.array([-1]))], out + ".step")
        if not zero:
            self.add("Mul", [value, step], out)
            return
        value = self.add("Mul", [value, step], out + ".blocks")  # [..., blocks, block]
        self.add("Reshape", [value, self.constant(out + ".shape", np.array([0, 0, -1]))], out)

    def rounded_table(self, node: onnx.NodeProto, table: np.ndarray) -> None:
        """Replace a ``Gather`` from a float table by one from int8 rows, one scale a row."""
        q, name = symmetric_int8(table, axis=0), node.input[0]
        codes = self.constant(name + ".codes", q.codes)
        self.look_up(node, codes, self.constant(name + ".scale", q.scale[:, 0]))

    def done(self) -> onnx.ModelProto:
        used = {i for n in self.nodes for i in n.input}
        g = self.model.graph
        constants = [t for name, t in self.constants.items() if name in used]
        graph = helper.make_graph(self.nodes, g.name, g.input, g.output, constants)
        opsets = {o.domain: o.version for o in self.model.opset_import} | {MICROSOFT: 1}
        imports = [helper.make_opsetid(d, v) for d, v in opsets.items()]
        functions, version = self.model.functions, self.model.ir_version
        model = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=version)
        model.metadata_props.extend(self.model.metadata_props)  # labels and the like travel along
        return model


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def width(w: np.ndarray, block: int) -> int:
    """The largest power of two that divides the inputs of ``w`` [inputs, outputs], at most ``block``."""
    return min(block, w.shape[0] & -w.shape[0])


def matrices(model: onnx.ModelProto) -> dict[str, str]:
    """The constant matrices of a model, in order: name -> a name for people, from the bias added to it."""
    edit = _Edit(model)
    users = {i: n for n in model.graph.node if n.op_type == "Add" for i in n.input}
    found = {}
    for node in model.graph.node:
        if edit.weight(node) is None:
            continue
        name, add = node.input[1], users.get(node.output[0])
        biases = [i for i in (add.input if add else node.input[2:]) if i in edit.constants]
        found[name] = (biases[0] if biases else name).removesuffix(".bias").removesuffix(".weight")
    return found


def weights_int8_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """INT8 weights, one scale per output; inputs are rounded to INT8 while it runs, one scale per call.

    That one scale covers the whole input, every sentence and token of it. A single huge value (an
    *outlier*) then makes all other steps coarse: harmless in MiniLM, ruinous for SmolLM2's prefill.
    """
    edit = _Edit(model)
    for node in model.graph.node:
        name = node.output[0]
        if (w := edit.weight(node)) is not None:
            q, weight = symmetric_int8(w, axis=1), node.input[1]
            inputs = [node.input[0], edit.constant(weight + ".codes", q.codes)]
            inputs.append(edit.constant(weight + ".scale", q.scale[0]))
            inputs.append(edit.constant(weight + ".zero", np.zeros(w.shape[1], np.int8)))
            edit.add("DynamicQuantizeMatMul", inputs + list(node.input[2:]), name, MICROSOFT)
        elif node.op_type == "Transpose" and name in edit.tied:
            q = symmetric_int8(edit.array(node.input[0]).T, axis=0)  # type: ignore[union-attr]
            edit.constant(name + ".scale", q.scale[:, 0])
            # shares the codes of the last layer: stored once, turned when the file is opened
            edit.add("Transpose", [node.input[0] + ".codes"], name + ".codes", perm=[1, 0])
        elif node.op_type == "Gather" and node.input[0] in edit.tied:
            edit.look_up(node, node.input[0] + ".codes", node.input[0] + ".scale")
        elif (table := edit.table(node)) is not None:
            edit.rounded_table(node, table)
        else:
            edit.nodes.append(node)
    return edit.done()


def weights_nbits(model: onnx.ModelProto, bits: int, block: int = 32) -> onnx.ModelProto:
    """Weights of 4 or 8 bits in blocks (``MatMulNBits``), each with a scale of its own.

    What flows between layers stays float; inside a multiplication ONNX Runtime rounds each row's inputs to
    INT8 too, a block at a time (``accuracy_level`` 4), so that it multiplies whole numbers.

    A last layer that also serves as the table of words keeps 8 bits and is stored once. Other tables
    become int8 rows.

    Args:
        bits: 4 or 8.
        block: weights that share a scale, at most. A matrix whose number of inputs divides by a smaller
            power of two only takes that one, so that no block is padded.

    Raises:
        ValueError: other numbers of bits. ONNX Runtime multiplies packed weights of 4 and 8 bits on the
            CPU; for fewer, ``fake_quantize`` shows the accuracy, and ``Quantized.nbytes`` the size.
    """
    if bits not in (4, 8):
        raise ValueError(f"ONNX Runtime runs 4 and 8 bits on the CPU, not {bits}: use fake_quantize for it.")
    edit = _Edit(model)
    shared = set(edit.tied.values())
    for node in model.graph.node:
        if (w := edit.weight(node)) is not None and len(node.input) == 2:
            weight = node.input[1]
            n = 8 if weight in shared else bits
            inputs = [node.input[0], *edit.blocks(weight, w, n, size := width(w, block))]
            settings = {"K": w.shape[0], "N": w.shape[1], "bits": n, "block_size": size, "accuracy_level": 4}
            edit.add("MatMulNBits", inputs, node.output[0], MICROSOFT, **settings)
        elif node.op_type == "Transpose" and node.output[0] in edit.tied:
            continue
        elif node.op_type == "Gather" and node.input[0] in edit.tied:
            weight = edit.tied[node.input[0]]
            w = edit.array(weight)
            assert w is not None
            edit.look_up(node, *edit.blocks(weight, w, 8, width(w, block)), zero=128)
        elif (table := edit.table(node)) is not None:
            edit.rounded_table(node, table)
        else:
            edit.nodes.append(node)
    return edit.done()


def tables_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """INT8 tables, one scale a row; matrices stay as they are."""
    edit = _Edit(model)
    for node in model.graph.node:
        if (table := edit.table(node)) is not None:
            edit.rounded_table(node, table)
        else:
            edit.nodes.append(node)
    return edit.done()


def fake_quantize(
    model: onnx.ModelProto,
    rounding: Callable[[np.ndarray], np.ndarray],
    only: Collection[str] | None = None,
) -> onnx.ModelProto:
    """Replace matrices by their rounded values, stored as floats: the accuracy, without size or speed.

    Args:
        rounding: [inputs, outputs] -> the same shape, such as
            ``lambda w: block_nbits(w, 3).dequantize()``, or ``bf16``.
        only: names of the matrices to round (see ``matrices``); all of them if left out.
    """
    edit = _Edit(model)
    edit.nodes = list(model.graph.node)
    for node in model.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if (only is None or name in only) and (w := edit.weight(node)) is not None:
            value = rounding(w)
            edit.constant(name, value.T if attributes(node).get("transB") else value)
    return edit.done()


def bf16(w: np.ndarray) -> np.ndarray:
    """Round to bfloat16 (8 bits of exponent, 7 of fraction) and back. ONNX Runtime's CPU has few kernels
    for that type, so the kit shows what the rounding costs and counts two bytes a weight."""
    return w.astype(ml_dtypes.bfloat16).astype(np.float32)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in float16, inputs and outputs left as they are. Half the size; seldom faster
    on a CPU, where ONNX Runtime turns most of it back into float32 while it runs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return convert_float_to_float16(copy, keep_io_types=True)


def int8_dynamic(path_in: Path, path_out: Path) -> None:
    """Quantize an ONNX file with ``weights_int8_dynamic``."""
    onnx.save(weights_int8_dynamic(onnx.load(path_in)), path_out)


def int8_static(
    path_in: Path, path_out: Path, batches: Iterable[dict[str, np.ndarray]], per_channel: bool = True
) -> None:
    """INT8 with scales of the inputs fixed beforehand, from example batches (*calibration*).

    Args:
        batches: inputs of the model by name; the more like real use, the better the scales.
        per_channel: one scale per output of a matrix, instead of one per matrix.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
            return next(self.left, None)

    with models.quiet():  # it would advise preparing the graph, which is done already
        quantize_static(
            str(path_in),
            str(path_out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
