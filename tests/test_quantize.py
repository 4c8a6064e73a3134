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
from kit.measure import Timing
from kit.quantize import heads

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


@given(st.integers(1, 70), st.integers(1, 5), st.integers(0, 99))
def test_packing_loses_no_code(inputs, outputs, seed):
    w = np.random.default_rng(seed).normal(size=(inputs, outputs)).astype(np.float32)
    made = q.block_nbits(w, 4)
    assert made.packed.nbytes * 2 == made.codes.size
    np.testing.assert_array_equal(q.unpack4(made.packed), made.codes)


def test_odd_sizes_are_padded_and_cut_again():
    w = W[:50, :7]
    got = q.block_nbits(w, 8, 32)
    assert got.codes.shape == (7, 2, 32)
    np.testing.assert_allclose(got.dequantize(), w, atol=got.scale.__abs__().max())


def test_fewer_bits_lose_more():
    lost = [q.relative_error(W, q.block_nbits(W, bits).dequantize()) for bits in (2, 3, 4, 8)]
    assert lost == sorted(lost, reverse=True)
    assert lost[1] / lost[2] == pytest.approx(2, rel=0.2), "one bit halves the error"
    assert q.relative_error(W, W) == 0


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


# -- the workbench, the exam, the words ------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path):
    onnx.save(classifier(), tmp_path / "m.onnx")
    return q.Workbench(tmp_path / "m.onnx")


IDS = {"ids": np.arange(12).reshape(2, 6)}


def test_a_workbench_runs_what_fake_quantize_writes(tmp_path):
    model = classifier()
    onnx.save(model, tmp_path / "m.onnx")
    bench = q.Workbench(tmp_path / "m.onnx")
    plan = bench.round_all(3)
    expected = run(q.fake_quantize(q.tables_int8(model), lambda w: q.rounded(w, 3).dequantize()))
    np.testing.assert_allclose(bench.fit(plan).run(None, IDS)[0], expected, rtol=1e-5, atol=1e-5)
    # and what was tried leaves no trace
    np.testing.assert_allclose(
        bench.fit({}).run(None, IDS)[0], run(q.tables_int8(model)), rtol=1e-5, atol=1e-5
    )


def test_a_workbench_sees_what_the_matrices_see(bench):
    seen = bench.inputs([IDS, IDS])
    w1, w2 = bench.weights.values()
    assert (w1.shape, w2.shape) == ((64, 128), (128, 200)), "both as [inputs, outputs]"
    first, second = seen.values()
    np.testing.assert_allclose(first @ w1 + 1, second, rtol=1e-4, atol=1e-4)
    assert len(first) == 24


def test_a_workbench_counts_bytes_as_the_file_has_them():
    path = artifacts.get("minilm.onnx")
    bench = q.Workbench(path)
    written = q.weights_nbits(onnx.load(path), 4, 32).ByteSize() / 1e6
    assert bench.mb(bench.round_all(4)) == pytest.approx(written, rel=0.005)
    assert bench.mb({}) > bench.mb(bench.round_all(8)) > bench.mb(bench.round_all(4, "per tensor"))


def test_sensitivity_finds_the_matrix_that_matters(bench):
    exact = bench.fit({}).run(None, IDS)[0]
    lost = q.sensitivity(
        bench,
        lambda m: q.relative_error(exact, m.run(None, IDS)[0]),
        lambda w: w if w.shape == (64, 128) else np.zeros_like(w),
    )
    assert lost["block.0.fc"] < 1e-6 < 0.1 < lost["b"]


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_rounded_shares_scales_as_told(bits):
    scales = {s: q.rounded(W, bits, s, 32) for s in ("per tensor", "per channel", "blocks")}
    assert [r.scale.size for r in scales.values()] == [1, 96, 96 * 4]
    lost = [q.relative_error(W, r.dequantize()) for r in scales.values()]
    assert lost == sorted(lost, reverse=True)
    if bits != 5:
        np.testing.assert_array_equal(scales["blocks"].dequantize(), q.block_nbits(W, bits, 32).dequantize())


def test_rounded_refuses_what_it_cannot_do():
    for wrong in ({"bits": 9}, {"bits": 4, "scales": "rows"}, {"bits": 4, "block": 33}):
        with pytest.raises(ValueError, match="2 to 8 bits"):
            q.rounded(W, **wrong)


def test_tables_int8_leaves_matrices_alone():
    small = q.tables_int8(classifier())
    kinds = {t.name: t.data_type for t in small.graph.initializer}
    assert kinds["table.codes"] == TensorProto.INT8
    assert kinds["w1"] == kinds["w2"] == TensorProto.FLOAT
    assert "table" not in kinds


def timing(ms):
    return Timing(np.full(20, float(ms)), np.full(20, 0.05))


def test_speed_is_said_in_the_questions_words():
    words = [q.speed_choice(timing(100), timing(ms)) for ms in (120, 80, 40, 20)]
    assert words == ["slower", "1-2x faster", "2-4x faster", "over 4x faster"]


def mark(lost, changed=20, mb=20.0, likeness=0.98):
    return q.Mark(mb, 0.8, (lost, lost - 1, lost + 1), changed, 400, likeness)


def claims(**new):
    given = {
        "saved": {"SmolLM2": 0.74, "MiniLM": 0.75},
        "memory_saved": 0.72,
        "faster": {"SmolLM2": (3.0, 2.8, 3.2), "edge": (0.9, 0.85, 0.95)},
        "lost": {"dynamic": mark(0.4), "static": mark(4.2), "blocks": mark(0.9)},
        "ruined": 2.3,
        "int4": mark(3.7),
        "mended": mark(0.2),
    }
    return q.claims_table(**(given | new)).data


def test_verdicts_follow_from_the_numbers():
    text = claims()
    for said in (
        "2 of 2; in memory too",
        "1 of 2; edge got slower",
        "Holds for dynamic. Not for static. For 1 of 3 it cannot be told. SmolLM2 dynamic is ruined",
        "perplexity times 2.3",
        "a loss, and most of it undone",
    ):
        assert said in text
    text = claims(
        memory_saved=0.4, faster={"a": (2.5, 2.4, 2.6)}, lost={"a": mark(0)}, mended=mark(3.5), ruined=1.1
    )
    for said in ("; less in memory", "1 of 1", "Holds for a<", "a loss, and it stayed"):
        assert said in text
    assert "slower" not in text
    assert "is ruined" not in text
    assert "no loss that can be told" in claims(int4=mark(0.5))
    assert "Holds for none. Not for a" in claims(lost={"a": mark(4)})


def test_losses_are_read_without_minus_zero():
    names = ("INT8 dynamic", "INT8 static, per tensor", "INT8 static, per channel", "INT8 blocks")
    marks = {n: mark(lost, lost * 10) for n, lost in zip(names, (-0.01, 2.5, 2.6, 0.1), strict=True)}
    text = q.read_eight(marks).data
    assert "cannot be told apart" in text
    assert "-0.0" not in claims(lost=marks)
    marks["INT8 static, per tensor"] = mark(9)
    assert "can be told apart" in q.read_eight(marks).data


def cured(spared, gptq, both, coarser):
    """Remedies by answers changed in INT4, and by points lost after GPTQ in INT3."""
    four = {"plain": mark(4, 40), "worst in 8 bits": mark(1, spared, 22), "GPTQ": mark(1, gptq)}
    return {"INT4": four | {"both": mark(0, both, 22)}, "INT3": {"GPTQ": mark(coarser)}}


def test_remedies_are_compared_by_what_they_changed():
    text = q.read_remedies(cured(12, 13, 6, 1.5)).data
    for said in ("help about as much as GPTQ, but cost 2 MB more", "Together they help most", "overlap"):
        assert said in text
    assert "luck" not in text
    text = q.read_remedies(cured(30, 5, 6, 4)).data
    for said in ("help less than GPTQ", "no more than one alone"):
        assert said in text
    assert "overlap" not in text
    assert "help more than GPTQ" in q.read_remedies(cured(5, 30, 5, 4)).data
    assert "luck" in q.read_remedies(cured(5, 30, 5, -0.3)).data
    assert "INT4, worst in 8 bits" in q.remedies_table(cured(5, 30, 5, 4)).data


def test_reading_speed_decides_what_is_said_of_int4():
    mb, memory = {"FP32": 540, "INT8": 140, "INT4": 92}, {"FP32": 886, "INT8": 233, "INT4": 219}
    times = {"FP32": timing(160), "INT8": timing(54), "INT4": timing(51)}
    text = q.read_smollm2(mb, memory, times, tokens=8).data
    assert "FP32 reads 27 GB in a second, INT4 14. So with INT4 reading is no longer all" in text
    text = q.read_smollm2(mb, memory, times | {"INT4": timing(28)}, tokens=8).data
    assert "INT4 26. So reading is the wait with INT4, too" in text


def test_outliers_are_found_up_to_the_widest_gap():
    x = np.ones((3, 50), np.float32)
    x[0, 7], x[0, 9], x[1, 3] = 3000, -1000, 10
    text = q.read_outliers(x).data
    assert "largest 2 of the 50 inputs are at least 100 times" in text
    assert "all of them at the first token" in text
    assert "reach 3,000, so half a step is 7.8" in text  # from -1000 to 3000
    x[2, 9] = 2000
    assert "first token" not in q.read_outliers(x).data


def test_the_edge_sentence_says_which_is_slower():
    assert "**slower**" in q.read_edge({"FP32": timing(1), "INT8 dynamic": timing(1.2)}).data
    assert "is faster" in q.read_edge({"FP32": timing(1), "INT8 dynamic": timing(0.8)}).data
    assert "No difference" in q.read_edge({"FP32": timing(1), "INT8 dynamic": timing(1)}).data


def test_figures_can_be_drawn():
    marks = {"FP32": mark(0, 0, 90), "INT8 blocks": mark(1, 9, 23), "INT4 GPTQ": mark(4, 40, 18)}
    marks["INT8 dynamic"] = mark(1, 12, 23.5)
    figures = [
        q.number_line(np.array([-0.82, -0.11, 0, 0.37, 1.4]), 3),
        q.by_channel(W[:, :4] * np.float32([1, 1, 1, 20])),
        q.bits_curve({("blocks", b): mark(8 - b) for b in (2, 3, 4, 8)}, 0.8),
        q.layer_bars({f"bert.encoder.layer.{n}.output.dense": n + 1 for n in range(6)}),
        q.by_hand_bars({"plain": 0.2, "GPTQ": 0.1}, "bert.encoder.layer.4.intermediate.dense", 3),
        q.remedies({"INT4": {"plain": mark(4), "GPTQ": mark(1, likeness=0.99)}}),
        q.outliers({"a": np.float32([[3000, 1, 2, -2]]), "b": np.float32([[3, 1, 2, -2]])}),
        q.minilm_front(marks),
        q.smollm2_front({"FP32": 540, "INT8": 140}, {"FP32": timing(80), "INT8": timing(30)}, 8),
    ]
    titles = [f.layout.title.text.replace("<br>", " ") for f in figures]
    assert "50% less in INT4" in titles[5]
    assert "-0.82 and 1.4 lose most" in titles[0]
    assert figures[0].data[1].textposition[1:3] == ("top left", "top right"), "labels must not touch"
    assert "One scale rounds 3 of a's 4 inputs to 0, and none of b's 4" in titles[6]
    assert "worth choosing are INT4 GPTQ, INT8 blocks (" in titles[7]
    symbols = {t.name: t.marker.symbol for t in figures[7].data if t.name in marks}
    assert [s.endswith("-open") for s in symbols.values()] == [False, False, True], "filled is the front"
    assert "INT8 writes fastest" in titles[8]
    even = q.smollm2_front({"INT8": 140, "INT4": 92}, {"INT8": timing(30), "INT4": timing(30)}, 8)
    assert "told apart" in even.layout.title.text.replace("<br>", " ")


def test_the_what_if_figure_is_right_and_quick():
    fig = q.bits_and_blocks(4, "blocks", 32, "layer 5 query")
    assert "4 bits, blocks of 32: 83 KB, 7.1 times smaller" in fig.layout.title.text.replace("<br>", " ")
    chosen = fig.data[-1]
    assert chosen.x[0] == pytest.approx(384 * 384 * 4.5 / 8 / 1000)
    assert f"{chosen.y[0]:.1f}% error" in fig.layout.title.text.replace("<br>", " ")
    assert 5 < chosen.y[0] < 15


def test_sixteen_bits_say_what_does_not_fit():
    text = q.sixteen_bits([0.1, 100_000, 1e-8]).data
    assert text.count("too large") == text.count("too small") == 1
    assert "no room for 100000 and 1e-08" in text


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


def test_outliers_are_in_the_kits_smollm2():
    model = onnx.load(artifacts.get("smollm2.fp32"))
    outputs = len(model.graph.output)
    seen = q.inputs_of(model, "model.layers.11.mlp.down_proj.MatMul", q.passages()[0])
    assert len(model.graph.output) == outputs, "the model given must not change"
    peaks = np.sort(np.abs(seen).max(0))
    assert seen.shape[1] == 1536
    assert peaks[-1] > 100 * peaks[-3]


def test_smollm2_is_about_a_quarter_and_a_fifth():
    size = {n: artifacts.get(f"smollm2.{n}").stat().st_size for n in ("fp32", "int8", "int4")}
    assert size["int8"] < size["fp32"] * 0.28
    assert size["int4"] < size["fp32"] * 0.20


def test_heads_agree_with_the_regressions_they_were_fitted_as(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "HEADS", 2)
    monkeypatch.setattr(heads, "lessons", lambda: heads_lessons)
    rng = np.random.default_rng(5)
    names = rng.choice(["TurnOn", "TurnOff", "GetWeather"], 90)
    heads_lessons = [data.Example(str(i), name, "en", "people", "") for i, name in enumerate(names)]
    x = rng.normal(size=(90, 384)).astype(np.float32) + 0.3 * data.labels(heads_lessons)[:, None]
    monkeypatch.setattr(heads, "session", lambda path: None)
    monkeypatch.setattr(heads, "embed", lambda minilm, texts: x)
    heads.build_minilm_heads(tmp_path / "heads.npz", tmp_path)
    said = heads.verdicts(tmp_path / "heads.npz", x)
    part = np.random.default_rng(0).permutation(90)[:72]
    theirs = heads.head(x[part], data.labels(heads_lessons)[part]).predict(x)
    np.testing.assert_array_equal(said[0], theirs)
    assert set(said.ravel()) <= set(data.labels(heads_lessons)), "an intent that was never seen is never said"


def test_the_exact_model_loses_nothing_in_its_own_exam():
    exam = q.exam()
    mark = exam.mark_file(artifacts.get("minilm.onnx"))
    assert mark.lost == (0, 0, 0)
    assert mark.changed == 0
    assert mark.likeness == pytest.approx(1, abs=1e-4)
    assert mark.accuracy > 0.75
    assert not set(exam.texts) & set(exam.learned)
