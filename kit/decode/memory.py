"""The memory of a conversation: how large the KV cache is, and the same in INT8.

ONNX Runtime's GroupQueryAttention reads and writes an INT8 cache itself, with one fixed scale for each
channel, measured beforehand on some text (*calibration*), so that each step reads a quarter of the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kit.engine import Engine

MARGIN = 1.1  # keys of other texts may be a little larger than those that were measured


def kv_bytes(tokens: int, layers: int, heads: int, head_size: int, width: float = 4) -> int:
    """Bytes of the keys and values of ``tokens`` tokens.

    Args:
        tokens: of all conversations together.
        layers: of the model.
        heads: of keys and values; with *grouped* queries fewer than those of the queries.
        head_size: numbers in a key.
        width: bytes of a number: 4 in FP32, 2 in FP16, 1 in INT8.

    Raises:
        ValueError: a negative number of tokens, or another count below 1.
    """
    if tokens < 0 or min(layers, heads, head_size) < 1 or width <= 0:
        raise ValueError(
            f"need tokens >= 0, and layers, heads, head_size and width above 0; got {tokens}, {layers}, "
            f"{heads}, {head_size} and {width}."
        )
    return round(2 * tokens * layers * heads * head_size * width)  # 2: a key and a value


def scales(engine: Engine, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """One scale for each channel of each layer's keys and values, from what a text leaves in the cache.

    Args:
        engine: with an FP32 cache; its row 0 is overwritten.
        ids: tokens of the text.

    Returns:
        Name of the graph's input -> float32 [1, heads, 1, head_size].
    """
    engine.reset()
    engine.prefill(ids)
    found = {}
    for name, values in engine.cached().items():  # [heads, tokens, head_size]
        largest = np.abs(values).max(axis=1, keepdims=True)[None]
        found[name] = (np.maximum(largest, 1e-6) * MARGIN / 127).astype(np.float32)
    return found


def int8_cache(model: onnx.ModelProto, scale: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of a fused decoder whose KV cache holds INT8; ``Engine`` runs it as it runs the original.

    Args:
        model: with GroupQueryAttention and an FP32 cache.
        scale: of each of its ``past_key_values`` inputs; see ``scales``.

    Raises:
        ValueError: a cache without a scale.
    """
    missing = [i.name for i in model.graph.input if i.name.startswith("past") and i.name not in scale]
    if missing:
        raise ValueError(f"no scale for {', '.join(missing)}: measure them with scales(engine, ids).")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.name.startswith(("past_key_values", "present")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    for node in copy.graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        names = [name + ".scale" for name in node.input[3:5]]  # past keys and values
        for name, past in zip(names, node.input[3:5], strict=True):
            copy.graph.initializer.append(numpy_helper.from_array(scale[past], name))
        node.input.extend([""] * (12 - len(node.input)) + names)  # k_scale and v_scale are inputs 12 and 13
        settings = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in settings.items())
    return copy
