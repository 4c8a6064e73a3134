"""How the store makes ``smollm2.fast``: the INT4 file with its last layer in 4 bits, too.

``smollm2.int4`` shares one table between the look-up of words and the last layer, and keeps it in 8 bits.
Looking up reads one row of it, the last layer reads all of it for every token: about a sixth of a step's
time. Here the last layer has codes of its own: 4 bits, rounded with GPTQ (chapter 03), so that little is
lost. The file is larger, and what is read for a token is less.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kit.decode.decoder import Decoder
from kit.decode.prompts import requests
from kit.decode.sampling import Sampling
from kit.engine import Engine, chat_ids, session
from kit.quantize import gptq, matrices

EXAMPLES, TOKENS, BLOCK = 20, 40, 32


def _written(int4: Path) -> list[list[int]]:
    """Conversations to measure on: requests, each with the start of an answer that the model drew itself."""
    decoder, found = Decoder(Engine(int4, context=256, spin=False)), []
    for seed, request in enumerate(requests()[:EXAMPLES]):
        ids = chat_ids(request)
        answer = decoder.answer(ids, max_tokens=TOKENS, sampling=Sampling(temperature=1, seed=seed))
        found.append([*ids, *answer.tokens])
    return found


def build_fast(out: Path, int4: Path, fp32: Path) -> None:
    """The artifact ``smollm2.fast``."""
    exact = onnx.load(fp32)
    last = next(node for node in exact.graph.node if "logits" in node.output)
    assert last.input[1] in matrices(exact), "the last layer is no product with a constant matrix"
    w = next(numpy_helper.to_array(t) for t in exact.graph.initializer if t.name == last.input[1])
    q = gptq(w, _inputs(exact, last.input[0], _written(int4)), 4, BLOCK)  # codes [vocab, blocks, BLOCK]
    model = onnx.load(int4)
    at, node = next((i, n) for i, n in enumerate(model.graph.node) if "logits" in n.output)
    constants = {
        "last.codes": q.packed,
        "last.scale": q.scale[..., 0].reshape(-1).astype(np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    settings = {"K": w.shape[0], "N": w.shape[1], "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
    four = helper.make_node(
        "MatMulNBits", [node.input[0], *constants], ["logits"], domain="com.microsoft", **settings
    )
    model.graph.node.remove(node)
    model.graph.node.insert(at, four)
    onnx.save(model, out)


def _inputs(model: onnx.ModelProto, name: str, texts: list[list[int]]) -> np.ndarray:
    """What the last layer sees while the model reads the texts, float32 [tokens, inputs]."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    opened, found = session(tapped.SerializeToString(), spin=False), []
    empty = {
        i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
        for i in opened.get_inputs()
        if i.name.startswith("past_key_values.")
    }
    for ids in texts:
        tokens = np.array([ids], np.int64)
        feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), **empty}
        found.append(opened.run([name], feed)[0][0])
    return np.concatenate(found)
