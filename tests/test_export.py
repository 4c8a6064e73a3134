"""The exported file gives the model's answers and says what it is; our readers agree with the libraries."""

import itertools
import json
import os
import pickle
import re
import zipfile

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from kit import artifacts, data, engine, export, models
from kit.export import breaks, look, picture
from kit.models import intent

TOLERANCE = 1e-4  # of a logit; float32 sums in another order differ by about 1e-6


@pytest.fixture(scope="module")
def intent_pt():
    return intent.load_intent(artifacts.get("intent.pt"))


@pytest.fixture(scope="module")
def intent_onnx():
    return artifacts.get("intent.onnx")


@pytest.fixture(scope="module")
def sentences():
    return data.encode([e.text for kind in data.KINDS for e in data.load(kind, "test")])


# --- the edge model


def test_the_exported_model_gives_the_same_class_on_every_test_sentence(intent_pt, intent_onnx, sentences):
    batches = export.batches(sentences, sizes=(256,), lengths=(data.LENGTH,))
    found = export.parity(export.from_torch(intent_pt), export.from_onnx(intent_onnx), batches)
    assert found.n == len(sentences) > 1000
    assert found.agreement == 1
    assert found.worst <= TOLERANCE


@pytest.mark.parametrize("length", [8, 33, 96])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_parity_at_every_size(intent_pt, intent_onnx, sentences, size, length):
    some = sentences[:: len(sentences) // 60]
    found = export.parity(
        export.from_torch(intent_pt), export.from_onnx(intent_onnx), export.batches(some, (size,), (length,))
    )
    assert found.n == len(some)
    assert found.worst <= TOLERANCE


@pytest.mark.parametrize("name", ["intent.onnx", "minilm.onnx"])
def test_the_file_is_valid_and_old_runtimes_can_read_it(name):
    model = onnx.load(artifacts.get(name))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 9


@pytest.mark.parametrize("name", ["intent.onnx", "minilm.onnx"])
def test_the_file_does_not_tell_where_it_was_made(name):
    raw = artifacts.get(name).read_bytes()
    assert str(artifacts.ROOT).encode() not in raw
    assert b"stack_trace" not in raw


def test_a_runtime_reads_what_the_file_says_about_itself(intent_onnx):
    session = engine.session(intent_onnx)
    told = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(told["labels"])) == data.INTENTS
    assert tuple(json.loads(told["languages"])) == data.LANGS
    assert int(told["length"]) == data.LENGTH
    assert told["licence"] == "Apache-2.0"
    assert told["version"]
    assert told["normalisation"]
    (given_,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given_.name, given_.type, given_.shape) == ("bytes", "tensor(int32)", ["batch", "length"])
    assert (answer.name, answer.shape) == ("logits", ["batch", len(data.INTENTS)])


# --- parity itself must be able to fail


def test_parity_finds_a_wrong_class_and_a_wrong_logit():
    rows = np.arange(12, dtype=np.int32).reshape(4, 3)
    right = rows.astype(np.float32)
    wrong = right.copy()
    wrong[1] = wrong[1, ::-1]  # another class
    wrong[2] += 0.25  # the same class
    found = export.parity(lambda _: right, lambda _: wrong, [rows])
    assert found == export.Parity(4, 2.0, pytest.approx((2 + 0 + 2 + 3 * 0.25) / 12), 0.75)


def test_parity_does_not_pass_a_model_that_answers_nan():
    found = export.parity(lambda x: np.zeros((1, 2)), lambda x: np.full((1, 2), np.nan), [np.zeros(1)])
    assert not found.worst <= TOLERANCE


def test_parity_refuses_to_compare_nothing_or_different_tasks():
    with pytest.raises(ValueError, match="at least one"):
        export.parity(lambda x: x, lambda x: x, [])
    with pytest.raises(ValueError, match="not the same task"):
        export.parity(lambda x: np.zeros((1, 2)), lambda x: np.zeros((1, 3)), [np.zeros(1)])


# --- SmolLM2


def test_smollm2_writes_the_same_text_in_torch_and_in_onnx():
    questions = [e.text for e in data.load("not_a_command", "test", "en")][:20]
    found = export.greedy_agreement(
        models.smollm2_torch(artifacts.get("smollm2.hf")),
        export.smollm2_onnx(artifacts.get("smollm2.plain")),
        [engine.chat_ids(q) for q in questions],
        tokens=4,
    )
    assert len(found) == 20
    for one in found:  # they may part only at a tie that rounding decides
        assert one.same == one.tokens > 0 or one.margin < 0.01


def test_greedy_agreement_finds_where_two_texts_part():
    class Fake:
        generation_config = type("Config", (), {"eos_token_id": 0})

        def __init__(self, *tokens):
            self.tokens = tokens

        def generate(self, ids, max_new_tokens, **_):
            logits = [torch.zeros(1, 9).index_fill(1, torch.tensor(t), 2.0) for t in self.tokens]
            sequences = torch.cat([ids, torch.tensor([self.tokens])], dim=1)
            return type("Out", (), {"sequences": sequences, "logits": tuple(logits)})

    (parted,) = export.greedy_agreement(Fake(3, 4, 5), Fake(3, 7, 5), [[1, 2]], tokens=3)
    assert parted == export.Greedy(prompt=0, tokens=3, same=1, margin=2.0, worst=2.0)
    (equal,) = export.greedy_agreement(Fake(3, 4), Fake(3, 4), [[1]], tokens=2)
    assert equal == export.Greedy(prompt=0, tokens=2, same=2, margin=None, worst=0.0)


# --- what is in a file


def test_safetensors_are_read_as_the_library_reads_them(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    mine = tmp_path / "mine.safetensors"
    save_file({"a": np.ones((2, 3), np.float16), "b": np.zeros(5, np.int64)}, mine, {"who": "me"})
    for path in (mine, models.minilm_folder() / "model.safetensors"):
        ours = look.read(path)
        with safe_open(path, "np") as theirs:
            assert ours.metadata == theirs.metadata()
            assert {t.name for t in ours.tensors} == set(theirs.keys())
            for t in ours.tensors:
                array = theirs.get_tensor(t.name)
                assert (t.shape, t.bytes) == (array.shape, array.nbytes)


def test_gguf_is_read_as_the_library_reads_it():
    from gguf import GGUFReader

    ours, theirs = look.read(models.smollm2_gguf()), GGUFReader(models.smollm2_gguf())
    assert [(t.name, t.dtype, t.bytes) for t in ours.tensors] == [
        (t.name, t.tensor_type.name, t.n_bytes) for t in theirs.tensors
    ]
    assert [t.shape for t in ours.tensors] == [tuple(t.shape.tolist()) for t in theirs.tensors]
    for key, value in ours.metadata.items():
        assert value == theirs.fields[key].contents(), key


def test_onnx_is_read_as_the_library_reads_it(intent_onnx):
    ours, theirs = look.read(intent_onnx), onnx.load(intent_onnx)
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in theirs.graph.initializer}
    assert {t.name: (t.shape, t.bytes) for t in ours.tensors} == {
        name: (array.shape, array.nbytes) for name, array in arrays.items()
    }
    assert ours.header["inputs"] == "bytes int32 [batch, length]"
    total, listed = ours.header["operators"].split(": ")
    assert int(total) == len(theirs.graph.node) == sum(int(n) for n in re.findall(r"\d+", listed))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_listed_and_never_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bomb.pt", "w") as z:
        z.writestr("bomb/data.pkl", pickle.dumps(Bomb(), protocol))
    rows = {row["name"]: row["value"] for row in export.inside("bomb.pt")}
    assert "mkdir" in rows["loading it would import"]
    assert not (tmp_path / "exploded").exists()
    assert "bomb/data.pkl" in rows


def test_a_real_pt_file_lists_what_torch_needs(tmp_path):
    torch.save({"w": torch.ones(3, 4)}, tmp_path / "w.pt")
    rows = {row["name"]: row["value"] for row in export.inside(tmp_path / "w.pt")}
    assert "torch._utils._rebuild_tensor_v2" in rows["loading it would import"]


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf", ".pt", ".bin"])
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, suffix):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(b"this is no model at all")
    with pytest.raises(ValueError, match="odd"):
        export.inside(path)


def test_rows_of_a_table_have_one_form(intent_onnx):
    rows = export.inside(intent_onnx)
    assert {tuple(row) for row in rows} == {("part", "name", "value")}
    assert {row["part"] for row in rows} == {"header", "metadata", "tensors"}


# --- what breaks an export

SIGNAL = torch.tensor([[3.0, -1.0, 2.0, 7.0], [0.0, 5.0, -4.0, 1.0]])
PLACES = torch.tensor([4, 0, 9], dtype=torch.int32)


@pytest.mark.parametrize(
    ("broken", "mended", "example", "says"),
    [
        (breaks.DataDependent(), breaks.DataDependentMended(), SIGNAL, "data-dependent"),
        (breaks.MedianOverTime(), breaks.MedianOverTimeMended(), SIGNAL, "aten.median"),
        (breaks.LookUp(), breaks.LookUpMended(), PLACES, "breaks ONNX's rules: "),
    ],
    ids=["data-dependent", "no-such-operator", "invalid-file"],
)
def test_what_breaks_says_why_and_what_is_mended_exports(broken, mended, example, says):
    line = breaks.try_export(broken, (example,))
    assert says in line
    assert "\n" not in line
    assert breaks.try_export(mended, (example,)) == "exported"
    for x in (example, example.flip(0)) if example.dtype == torch.int32 else (example, -example):
        assert torch.equal(broken(x), mended(x))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_mended_median_is_the_median(values):
    x = torch.tensor([values], dtype=torch.float32)
    assert torch.equal(breaks.MedianOverTime()(x), breaks.MedianOverTimeMended()(x))


# --- what a runtime makes of it


def test_optimisation_fuses_operators_and_changes_no_answer():
    path = artifacts.get("minilm.onnx")
    ops = {level: export.optimise(path, level) for level in export.LEVELS}
    written = onnx.load(path).graph.node
    assert ops["disabled"].total() == len(written)
    assert ops["disabled"]["SkipLayerNormalization"] == 0
    assert ops["extended"]["SkipLayerNormalization"] >= 6  # at least one for each of the six layers
    assert ops["extended"].total() < ops["basic"].total()
    feeds = {"input_ids": np.arange(2000, 2012).reshape(2, 6), "attention_mask": np.ones((2, 6), np.int64)}
    answers = [export.at_level(path, level).run(None, feeds)[0] for level in ("disabled", "all")]
    np.testing.assert_allclose(*answers, atol=1e-5)


@pytest.mark.parametrize(
    ("gain", "choice", "says"),
    [
        ((0.9, 0.8, 1.07), "no difference that we can see", "No gain"),
        ((0.8, 0.7, 0.9), "slower", "slower"),
        ((1.3, 1.2, 1.4), "up to 2 times faster", "1.30 times as fast"),
        ((2.6, 2.2, 2.8), "over 2 times faster", "2.60 times as fast"),
    ],
)
def test_fusing_is_read_as_it_was_measured(gain, choice, says):
    assert export.fused(gain) == choice
    assert says in export.read_fusing(gain).data


def test_a_look_up_that_breaks_the_rules_is_refused_by_the_runtime_too(tmp_path):
    """The page says: ``full_check`` finds it, the plain check does not, and it would not run."""
    with models.quiet():
        program = torch.onnx.export(breaks.LookUp().eval(), (PLACES,), dynamo=True, verbose=False)
    onnx.checker.check_model(program.model_proto)
    onnx.save(program.model_proto, tmp_path / "odd.onnx")
    with pytest.raises(Exception, match="int32"):
        engine.session(tmp_path / "odd.onnx")


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match="extended"):
        export.optimise("any.onnx", "turbo")


# --- the picture


def folded(path):
    """What ``draw`` lays out: rows, boxes and places."""
    boxes = picture._fold(picture._boxes(path))
    picture._unroll(boxes)
    picture._join(boxes)
    rows = picture._rows(boxes)
    return rows, boxes, picture._places(rows, boxes)


def check_layout(path):
    rows, boxes, x = folded(path)
    graph = onnx.load(path).graph
    drawn = sum(len(box.ops) * box.times for box in boxes.values())
    assert drawn == len(graph.node) + len(graph.input) + len(graph.output)
    row = {me: r for r, members in enumerate(rows) for me in members}
    assert set(row) == set(boxes)
    for me, box in boxes.items():
        assert all(row[other] == row[me] + 1 for other in box.after)  # every line leads one row down
    for members in rows:
        for a, b in itertools.pairwise(members):
            assert x[a] + boxes[a].half < x[b] - boxes[b].half  # no box lies over another


def test_every_operator_of_the_edge_model_is_in_the_picture(intent_onnx):
    check_layout(intent_onnx)
    fig = export.draw(intent_onnx, "The edge model")
    shapes, (left, right) = fig.layout.shapes, fig.layout.xaxis.range
    assert left <= min(s.x0 for s in shapes)
    assert max(s.x1 for s in shapes) <= right
    assert fig.layout.width == 700
    texts = [a.text for a in fig.layout.annotations]
    assert "bytes" in texts
    assert "logits" in texts


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_graph_can_be_drawn(tmp_path_factory, data):
    """Random graphs: every operator reads one or two of the values before it."""
    size = data.draw(st.integers(1, 14))
    nodes = []
    for i in range(size):
        reads = data.draw(st.lists(st.integers(0, i), min_size=1, max_size=2, unique=True))
        op = data.draw(st.sampled_from(["Neg", "Abs"] if len(reads) == 1 else ["Add", "Mul"]))
        nodes.append(helper.make_node(op, [f"v{r}" for r in reads], [f"v{i + 1}"]))
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])  # noqa: E731
    graph = helper.make_graph(nodes, "random", [value("v0")], [value(f"v{size}")])
    path = tmp_path_factory.mktemp("graph") / "random.onnx"
    onnx.save(helper.make_model(graph), path)
    check_layout(path)
    export.draw(path, "A graph")
