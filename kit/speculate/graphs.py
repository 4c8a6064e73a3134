"""The graphs of this chapter: a target that shows its hidden states, a last layer with fewer words, a head.

Each function changes the model it is given, and returns it.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


def _last(model: ModelProto) -> NodeProto:
    """The node of the last layer."""
    return next(node for node in model.graph.node if "logits" in node.output)


def _width(model: ModelProto) -> int:
    """Width of the hidden states: that of a norm's weights."""
    norm = next(n for n in model.graph.node if n.op_type == "SimplifiedLayerNormalization")
    return next(t.dims[0] for t in model.graph.initializer if t.name == norm.input[1])


def with_hidden(model: ModelProto) -> ModelProto:
    """A fused decoder that also returns what its last layer reads: ``hidden``, float32 [batch, tokens,
    hidden_size]."""
    model.graph.node.append(helper.make_node("Identity", [_last(model).input[0]], ["hidden"]))
    shape = ["batch_size", "sequence_length", _width(model)]
    model.graph.output.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape))
    return model


def with_fewer_words(model: ModelProto, words: np.ndarray) -> ModelProto:
    """A float decoder whose last layer keeps the columns of ``words`` only, int64 [words]."""
    last = _last(model)
    w = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == last.input[1])
    last.input[1] = "words.weight"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(w[:, words]), "words.weight"))
    output = next(o for o in model.graph.output if o.name == "logits")
    output.type.tensor_type.shape.dim[2].dim_value = len(words)
    return model


def with_states(model: ModelProto, join: np.ndarray) -> ModelProto:
    """A decoder that reads a state beside each token: ``features``, float32 [batch, tokens, hidden_size].

    Args:
        join: what makes one vector of both, float32 [2 * hidden_size, hidden_size].
    """
    nodes = model.graph.node
    at, words = next(
        (i, n) for i, n in enumerate(nodes) if n.op_type == "Gather" and n.input[1] == "input_ids"
    )
    looked_up = words.output[0]
    for node in nodes:
        for i, name in enumerate(node.input):
            if name == looked_up:
                node.input[i] = "joined"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(join), "join.weight"))
    nodes.insert(at + 1, helper.make_node("Concat", ["features", looked_up], ["both"], axis=-1))
    nodes.insert(at + 2, helper.make_node("MatMul", ["both", "join.weight"], ["joined"]))
    shape = ["batch_size", "sequence_length", join.shape[1]]
    model.graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, shape))
    return model
