"""The engine against transformers on the same weights, and against itself, token by token."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from kit import artifacts, models
from kit.engine import ContextFull, Engine, chat_ids, session, tokenizer

PROMPTS = [
    "The capital of France is",
    "Water boils at",
    "To make tea, you need",
    "The kitchen light is",
    "Once upon a time",
    "A dog is an animal that",
    "In winter the days are",
    "Two plus two is",
    "The Sun rises in the",
    "She opened the window because",
    "Bread is made of",
    "My favourite colour is",
    "The first computer",
    "def add(a, b):",
    "Monday, Tuesday,",
    "Please turn off the",
    "The sea is blue because",
    "An apple a day",
]
NEAR_TIE = 1e-3  # logits this close may swap places between two ways of adding up


@pytest.fixture(scope="module")
def engine():
    return Engine(artifacts.get("smollm2.fp32"), context=96)


@pytest.fixture(scope="module")
def prompts():
    questions = ["What is gravity?", "Name three fruits."]
    return [tokenizer()(p).input_ids for p in PROMPTS] + [chat_ids(q) for q in questions]


def test_same_greedy_tokens_as_transformers(engine, prompts):
    import torch

    ours = []  # the engine first, then torch: their threads would get in each other's way
    for ids in prompts:
        engine.reset()
        made = list(engine.generate(ids, 6, eos=None))
        engine.reset()
        ours.append((ids, made, engine.forward(ids + made)[len(ids) - 1 : -1]))
    reference, ties = models.smollm2_torch(artifacts.get("smollm2.hf")), []
    for ids, made, logits in ours:
        # If every token is the reference's choice after the tokens before it, greedy decoding is the same.
        with torch.inference_mode():
            theirs = reference(torch.tensor([ids + made])).logits[0, len(ids) - 1 : -1].numpy()
        np.testing.assert_allclose(logits, theirs, atol=2e-3)
        best = theirs.argmax(-1)
        for i in np.flatnonzero(best != made):
            ties.append((tokenizer().decode(ids), float(theirs[i, best[i]] - theirs[i, made[i]])))
    assert all(margin < NEAR_TIE for _, margin in ties), ties


def in_one_go_by_token_and_in_two_parts(name, ids):
    e = Engine(artifacts.get(name), context=64)
    whole = e.forward(ids)
    e.reset()
    single = np.stack([e.step(t).copy() for t in ids])
    e.reset()
    e.prefill(ids[:3])
    return whole, single, e.forward(ids[3:])


def test_prefill_equals_token_by_token(prompts):
    whole, single, parts = in_one_go_by_token_and_in_two_parts("smollm2.fp32", prompts[0] + prompts[4])
    np.testing.assert_allclose(single, whole, atol=1e-3)
    np.testing.assert_allclose(parts, whole[3:], atol=1e-3)


@pytest.mark.parametrize("name", ["smollm2.int8", "smollm2.int4"])
def test_packed_prefill_is_close_to_token_by_token(name, prompts):
    # Packed weights are multiplied by one routine for one token and by another for many. Both round.
    whole, single, parts = in_one_go_by_token_and_in_two_parts(name, prompts[0] + prompts[4])
    for a, b in [*zip(single, whole, strict=True), *zip(parts, whole[3:], strict=True)]:
        assert np.corrcoef(a, b)[0, 1] > 0.99


def test_reset_forgets(engine, prompts):
    engine.reset()
    first = engine.prefill(prompts[0])
    engine.reset()
    engine.prefill(prompts[1])
    engine.reset()
    np.testing.assert_array_equal(engine.prefill(prompts[0]), first)


def test_past_counts_and_can_be_taken_back(engine, prompts):
    engine.reset()
    engine.prefill(prompts[0])
    assert engine.past == len(prompts[0])
    expected = engine.step(10).copy()
    engine.past -= 1  # undo that token, read another, undo it, read the first again
    engine.step(99)
    engine.past -= 1
    np.testing.assert_array_equal(engine.step(10), expected)


def test_extend_is_forward_with_buffers_that_stay(engine, prompts):
    ids = prompts[0][:40]
    engine.reset()
    expected = engine.forward(ids).copy()
    for size in (1, 3, 7):
        engine.reset()
        got = [engine.extend(ids[i : i + size]).copy() for i in range(0, len(ids), size)]
        np.testing.assert_allclose(np.concatenate(got), expected, atol=2e-3)
    for n in range(1, 40):  # more numbers of tokens than it keeps buffers for
        engine.reset()
        np.testing.assert_allclose(engine.extend(ids[:n]), expected[:n], atol=2e-3)
    engine.past = engine.context - 1
    with pytest.raises(ContextFull):
        engine.extend(ids[:2])
    assert engine.past == engine.context - 1
    assert engine.hidden_size == 0  # the graph does not show its hidden states


def test_shape_comes_from_the_graph(engine):
    assert (engine.layers, engine.heads, engine.head_size, engine.vocab) == (30, 3, 64, 49152)
    assert engine.cache_bytes == 30 * 2 * 3 * 96 * 64 * 4


def test_full_context_is_refused_and_changes_nothing(engine, prompts):
    engine.reset()
    engine.prefill(prompts[0])
    with pytest.raises(ContextFull, match="holds 96 tokens"):
        engine.prefill([1] * 96)
    assert engine.past == len(prompts[0])
    with pytest.raises(ValueError, match="at least one"):
        engine.prefill([])


def test_generate_stops(engine, prompts):
    engine.reset()
    assert len(list(engine.generate(prompts[0], 3, eos=None))) == 3
    engine.reset()
    first = next(engine.generate(prompts[0], 3, eos=None))
    engine.reset()
    assert list(engine.generate(prompts[0], 3, eos=first)) == []


def test_chat_has_one_first_token():
    ids = chat_ids("Hi")
    start = tokenizer().convert_tokens_to_ids("<|im_start|>")
    assert ids[0] == start
    assert ids[1] != start, "the template writes the first token; the tokenizer must not add another"
    assert tokenizer().decode(ids).endswith("<|im_start|>assistant\n")


def test_session_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"artifacts\.get"):
        session(tmp_path / "none.onnx")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    raw = model.SerializeToString()
    assert session(raw, threads=1).run(None, {"x": np.float32([-1])})[0] == 0
    with pytest.raises(ValueError, match="no KV cache"):
        Engine(raw)


@pytest.fixture(scope="module")
def several():
    return Engine(artifacts.get("smollm2.fp32"), context=96, rows=4)


def test_rows_of_different_lengths_go_on_side_by_side(engine, several, prompts):
    expected = []
    for ids in prompts[:4]:
        engine.reset()
        expected.append(list(engine.generate(ids, 8, eos=None)))
    for first in ("each", "together"):
        if first == "each":
            for row in range(4):
                several.reset(row)
            tokens = [int(several.prefill(ids, row).argmax()) for row, ids in enumerate(prompts[:4])]
        else:
            tokens = several.prefill_rows(prompts[:4]).argmax(-1).tolist()
        made = [tokens]
        for _ in range(7):
            made.append(several.step_rows(made[-1]).argmax(-1).tolist())
        assert np.array(made).T.tolist() == expected
        assert several.pasts.tolist() == [len(ids) + 7 for ids in prompts[:4]]


def test_a_row_can_take_over_another_s_conversation(several, prompts):
    several.prefill_rows(prompts[:3])
    whole = several.step_rows([5, 6, 7])[2].copy()
    several.prefill_rows(prompts[:3])
    several.copy(2, 0)
    assert several.pasts[0] == several.pasts[2]
    np.testing.assert_allclose(several.step_rows([7])[0], whole, atol=1e-3)


def test_rows_have_limits(several, prompts):
    several.prefill_rows(prompts[:2])
    kept = several.pasts.copy()
    with pytest.raises(ValueError, match="1 to 4 tokens"):
        several.step_rows([1] * 5)
    with pytest.raises(ValueError, match="1 to 4 prompts"):
        several.prefill_rows([])
    with pytest.raises(ValueError, match="at least one token"):
        several.prefill_rows([[1], []])
    with pytest.raises(ContextFull, match="97 are needed"):
        several.prefill_rows([[1], [1] * 97])
    several.pasts[1] = 96
    with pytest.raises(ContextFull, match="96 kept, 1 new"):
        several.step_rows([1, 1])
    several.pasts[1] = kept[1]
    assert (several.pasts == kept).all()
    with pytest.raises(ValueError, match="at least 1"):
        Engine(artifacts.get("smollm2.int4"), rows=0)
