"""Rounding by hand against torch and ONNX Runtime; rewritten graphs against the arithmetic they stand for."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kit import artifacts, data
from kit import quantize as q
from kit.engine import Engine, session

RNG = np.random.default_rng(0)
W = RNG.normal(0, 0.1, (128, 96)).astype(np.float32)
# inputs that move together, some much larger than others: where GPTQ and AWQ have something to gain
X = (RNG.normal(size=(512, 16)) @ RNG.normal(size=(16, 128)) * np.exp(RNG.normal(0, 1.5, 128))).astype(
    np.float32
)


def classifier(tied: bool = False) -> onnx.ModelProto:
    """ids -> row of a table -> MatMul, Gemm; or a tiny decoder whose last layer is the turned table."""
    table = RNG.normal(0, 1, (200, 64)).astype(np.float32)
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 200])]
    make = helper.make_node
    if tied:
        constants = {"head": np.ascontiguousarray(table.T)}
        nodes = [make("Transpose", ["head"], ["table"], perm=[1, 0]), make("Gather", ["table", "ids"], ["h"])]
        nodes.append(make("MatMul", ["h", "head"], ["y"]))
    else:
        constants = {"table": table, "w1": RNG.normal(0, 0.1, (64, 128)).astype(np.float32)}
        constants |= {"w2": RNG.normal(0, 0.1, (200, 128)).astype(np.float32), "flat": np.array([-1, 128])}
        constants |= {
            "b": RNG.normal(0, 1, 200).astype(np.float32),
            "block.0.fc.bias": np.ones(128, np.float32),
        }
        nodes = [make("Gather", ["table", "ids"], ["h"]), make("MatMul", ["h", "w1"], ["m"])]
        nodes += [make("Add", ["m", "block.0.fc.bias"], ["a"]), make("Reshape", ["a", "flat"], ["r"])]
        nodes.append(make("Gemm", ["r", "w2", "b"], ["y"], transB=1))
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 200])]
    initializers = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {"labels": "on, off"})
    return model


def run(model: onnx.ModelProto, ids=None) -> np.ndarray:
    ids = np.arange(12).reshape(2, 6) if ids is None else ids
    return session(model.SerializeToString(), threads=1).run(None, {"ids": ids})[0]


# -- by hand ---------------------------------------------------------------------------------------------


def test_five_weights_on_paper():
    w = np.float32([[-1.0], [0.0], [0.55]])
    got = q.affine_int8(w)
    step = 1.55 / 255
    assert got.scale.item() == pytest.approx(step)
    assert got.zero.item() == round(1 / step) - 128
    assert got.codes[1] == got.zero, "0 must stay exactly 0"
    np.testing.assert_allclose(got.dequantize(), w, atol=step / 2 + 1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_affine_int8_is_torchs(axis):
    import torch

    got = q.affine_int8(W, axis)
    t = torch.from_numpy(W)
    scale, zero = torch.from_numpy(got.scale.ravel()), torch.from_numpy(got.zero.ravel().astype(np.int64))
    if axis is None:
        theirs = torch.fake_quantize_per_tensor_affine(t, scale.item(), int(zero.item()), -128, 127)
    else:
        theirs = torch.fake_quantize_per_channel_affine(t, scale, zero.int(), axis, -128, 127)
    np.testing.assert_allclose(got.dequantize(), theirs.numpy(), atol=1e-6)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 1e3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rounding_errs_by_half_a_step_at_most(rows, columns, size, seed):
    w = np.random.default_rng(seed).normal(0, size, (rows, columns)).astype(np.float32)
    for got in (q.affine_int8(w), q.affine_int8(w, 1), q.symmetric_int8(w, 0)):
        # the zero point is rounded too, so at the ends an affine code may be cut by half a step more
        assert (np.abs(got.dequantize() - w) <= got.scale * 1.01).all()


def test_finer_scales_are_more_exact():
    w = W * np.logspace(0, 3, 96, dtype=np.float32)
    errors = [
        q.relative_error(w / w.max(0), x.dequantize() / w.max(0))
        for x in (q.affine_int8(w), q.affine_int8(w, 1))
    ]
    assert errors[1] < errors[0] / 5


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_what_onnx_runtime_makes(bits):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 96])],
        [numpy_helper.from_array(W, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    theirs = MatMulNBitsQuantizer(model, bits=bits, block_size=32, is_symmetric=True)
    theirs.process()
    x = X[:20]
    expected = session(theirs.model.model.SerializeToString(), threads=1).run(None, {"x": x})[0]
    ours = x @ q.block_nbits(W, bits, 32).dequantize()
    np.testing.assert_allclose(ours, expected, atol=np.abs(ours).max() * 2e-3)


def test_packed_size():
    got = q.block_nbits(W, 3, 32)
    assert got.nbytes == 128 * 96 * 3 / 8 + 128 * 96 / 32 * 4
    assert q.affine_int8(W, 1).nbytes == 128 * 96 + 96 * (4 + 1)


def test_odd_sizes_are_padded_and_cut_again():
    w = W[:50, :7]
    got = q.block_nbits(w, 8, 32)
    assert got.codes.shape == (7, 2, 32)
    np.testing.assert_allclose(got.dequantize(), w, atol=got.scale.__abs__().max())


def test_fewer_bits_lose_more():
    noise = [q.sqnr_db(W, q.block_nbits(W, bits).dequantize()) for bits in (2, 3, 4, 8)]
    assert noise == sorted(noise)
    assert noise[2] - noise[1] == pytest.approx(6, abs=1.5), "one bit is about 6 dB"
    assert q.sqnr_db(W, W) == float("inf")


def test_gptq_and_awq_beat_plain_rounding_on_real_inputs():
    plain = q.block_nbits(W, 3).dequantize()
    smart = q.gptq(W, X, 3).dequantize()
    s = q.awq_scale(W, X, 3)
    scaled = q.block_nbits(W * s[:, None], 3).dequantize() / s[:, None]
    lost = [q.relative_error(X @ W, X @ w) for w in (plain, smart, scaled)]
    assert lost[1] < lost[0] * 0.7
    assert lost[2] < lost[0]
    assert q.relative_error(W, smart) >= q.relative_error(W, plain), "it moves weights on purpose"


def test_gptq_without_correlation_is_plain_rounding():
    x = np.eye(128, dtype=np.float32)
    np.testing.assert_array_equal(q.gptq(W, x, 4).codes, q.block_nbits(W, 4).codes)


def test_what_cannot_be_rounded_is_refused():
    with pytest.raises(ValueError, match="2, 3, 4 or 8"):
        q.block_nbits(W, 5)
    with pytest.raises(ValueError, match="fake_quantize"):
        q.weights_nbits(classifier(), 3)
    with pytest.raises(ValueError, match="multiple"):
        q.gptq(W[:50], X[:, :50], 4)


# -- graphs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (q.weights_int8_dynamic, 0.03),
        (lambda m: q.weights_nbits(m, 8), 0.03),
        (lambda m: q.weights_nbits(m, 4), 0.15),
    ],
    ids=["int8 dynamic", "8 bits", "4 bits"],
)
def test_rewritten_graphs_answer_alike(tied, make, tolerance):
    model = classifier(tied)
    before = model.SerializeToString()
    small = make(model)
    onnx.checker.check_model(small)
    assert q.relative_error(run(model), run(small)) < tolerance
    assert model.SerializeToString() == before, "the model given must not change"
    assert small.metadata_props == model.metadata_props
    # nothing float is left but scales and biases
    large = [
        t.name for t in small.graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 500
    ]
    assert all(name.endswith(".scale") or name in ("w2", "b") for name in large)


@pytest.mark.parametrize("make", [q.weights_int8_dynamic, lambda m: q.weights_nbits(m, 8)])
def test_a_tied_table_is_stored_once(make):
    codes = [t for t in make(classifier(tied=True)).graph.initializer if np.prod(t.dims) >= 200 * 64]
    assert len(codes) == 1


def test_dynamic_table_rows_are_exactly_the_rounded_rows():
    model = classifier()
    del model.graph.node[1:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    table = numpy_helper.to_array(model.graph.initializer[0])
    expected = q.symmetric_int8(table, 0).dequantize()[np.arange(12).reshape(2, 6)]
    np.testing.assert_allclose(run(q.weights_int8_dynamic(model)), expected, rtol=1e-6)


def test_fake_quantize_is_exact_and_can_choose():
    model = classifier()
    assert q.matrices(model) == {"w1": "block.0.fc", "w2": "b"}
    np.testing.assert_array_equal(run(q.fake_quantize(model, lambda w: w)), run(model))
    zeroed = q.fake_quantize(model, np.zeros_like, {"w2"})
    bias = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "b")
    np.testing.assert_array_equal(run(zeroed), np.tile(bias, (12, 1)))
    assert (
        q.relative_error(run(model), run(q.fake_quantize(model, lambda w: q.block_nbits(w, 3).dequantize())))
        < 0.4
    )


def test_bf16_is_torchs():
    import torch

    np.testing.assert_array_equal(q.bf16(W), torch.from_numpy(W).bfloat16().float().numpy())


def test_fp16_is_half_the_size_and_close():
    model = classifier()
    half = q.to_fp16(model)
    assert half.ByteSize() < model.ByteSize() * 0.55
    assert q.relative_error(run(model), run(half)) < 0.005


@pytest.mark.parametrize("per_channel", [False, True])
def test_static_int8(tmp_path, per_channel):
    onnx.save(classifier(), tmp_path / "a.onnx")
    batches = [{"ids": RNG.integers(0, 200, (2, 6))} for _ in range(8)]
    q.int8_static(tmp_path / "a.onnx", tmp_path / "b.onnx", batches, per_channel)
    small = onnx.load(tmp_path / "b.onnx")
    assert q.relative_error(run(onnx.load(tmp_path / "a.onnx")), run(small)) < 0.05
    ids = [t for t in small.graph.initializer if t.name.startswith("w1") and t.name.endswith("scale")]
    assert np.prod(ids[0].dims or [1]) == (128 if per_channel else 1)


def test_sensitivity_finds_the_matrix_that_matters(tmp_path):
    model = classifier()
    onnx.save(model, tmp_path / "m.onnx")
    exact = run(model)
    ids = np.arange(12).reshape(2, 6)
    lost = q.sensitivity(
        tmp_path / "m.onnx",
        lambda s: q.relative_error(exact, s.run(None, {"ids": ids})[0]),
        lambda w: w if w.shape == (64, 128) else np.zeros_like(w),
    )
    assert lost["block.0.fc"] < 1e-6 < 0.1 < lost["b"]


# -- the kit's models ------------------------------------------------------------------------------------


def test_minilm_embeddings_survive():
    texts = q.passages()
    exact = q.embed(session(artifacts.get("minilm.onnx")), texts)
    small = q.embed(session(artifacts.get("minilm.int8")), texts)
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, atol=1e-5)
    assert (exact * small).sum(1).min() > 0.98
    assert artifacts.get("minilm.int8").stat().st_size < artifacts.get("minilm.onnx").stat().st_size * 0.27


def test_embed_keeps_the_order():
    s, texts = (
        session(artifacts.get("minilm.onnx")),
        ["a long sentence about the weather today", "light", "tea please"],
    )
    alone = np.concatenate([q.embed(s, [t]) for t in texts])
    np.testing.assert_allclose(q.embed(s, texts, batch=2), alone, atol=1e-5)


def test_intent_model_survives():
    sentences = [e.text for lang in data.LANGS for e in data.load("people", "test", lang)][:400]
    x = {"bytes": data.encode(sentences)}
    exact, small = (session(artifacts.get(n)).run(None, x)[0] for n in ("intent.onnx", "intent.int8"))
    assert (exact.argmax(1) == small.argmax(1)).mean() > 0.97
    assert artifacts.get("intent.int8").stat().st_size <= 4e6


def test_perplexity_of_8_bits_is_that_of_32():
    texts = q.passages()[:8]
    values = {n: q.perplexity(Engine(artifacts.get(f"smollm2.{n}")), texts) for n in ("fp32", "int8", "int4")}
    assert values["int8"] == pytest.approx(values["fp32"], rel=0.03)
    assert 0.9 < values["int4"] / values["fp32"] < 1.4


def test_perplexity_is_transformers_loss():
    import torch

    from kit import models
    from kit.engine import tokenizer

    text = q.passages()[0]
    ids = torch.tensor([tokenizer()(text).input_ids])
    with torch.inference_mode():
        loss = models.smollm2_torch(artifacts.get("smollm2.hf"))(ids, labels=ids).loss
    assert q.perplexity(Engine(artifacts.get("smollm2.fp32")), [text]) == pytest.approx(
        float(loss.exp()), rel=1e-3
    )


def test_smollm2_is_about_a_quarter_and_a_fifth():
    size = {n: artifacts.get(f"smollm2.{n}").stat().st_size for n in ("fp32", "int8", "int4")}
    assert size["int8"] < size["fp32"] * 0.28
    assert size["int4"] < size["fp32"] * 0.20


def test_probe_reads_what_is_there():
    x = RNG.normal(size=(200, 8))
    y = (x[:, 0] > 0).astype(int)
    assert q.probe(x[:150], y[:150], x[150:], y[150:]) > 0.9
