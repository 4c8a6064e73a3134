"""Chapter 00 against a stand-in model, sampled networks and closed forms."""

import re
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from kit import artifacts, data, engine, facts, start_here
from kit.lesson import chapters
from kit.start_here import Answer, Spoken, ask


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A model with the interface of the INT8 intent model: it says TurnOff to what begins with "t"."""
    weights = np.zeros((data.LENGTH, len(data.INTENTS)), np.float32)
    weights[0, data.INTENTS.index("TurnOff")] = 1
    bias = np.zeros(len(data.INTENTS), np.float32)
    bias[-1] = ord("t") - 1
    nodes = [
        helper.make_node("Cast", ["bytes"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gemm", ["x", "w", "b"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("bytes", onnx.TensorProto.INT32, ["batch", data.LENGTH])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", len(data.INTENTS)])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "intent.onnx")
    monkeypatch.setattr(artifacts, "get", {"intent.int8": tmp_path / "intent.onnx"}.__getitem__)
    ask._model.cache_clear()
    yield
    ask._model.cache_clear()


def answers(*total_ms):
    return [Answer("TurnOn", 1.0, t, 0.0) for t in total_ms]


RUNS = {
    "device": answers(1, 1, 2, 1),
    "near cloud": answers(8, 9, 10, 25),
    "middle cloud": answers(45, 50, 120, 300),
    "far cloud": answers(205, 206, 210, 240),
}


# --- asking


def test_the_device_answers_without_a_network(stand_in):
    answer = start_here.answer_on_device("Turn off the LIGHTS!")
    assert answer.label == "TurnOff"
    assert answer.confidence == pytest.approx(np.e / (np.e + 1), rel=1e-3)  # logits 116, 115, 0, 0, …
    assert answer.network_ms == 0
    assert 0 < answer.compute_ms == answer.total_ms
    assert start_here.answer_on_device("a question").label == data.NOT_A_COMMAND


@pytest.mark.parametrize("cloud", start_here.CLOUDS)
def test_a_cloud_makes_one_really_wait(stand_in, cloud):
    drawn = start_here.round_trips_ms(cloud, 1, np.random.default_rng(3))[0]
    start = time.perf_counter()
    answer = start_here.answer_via_cloud("turn it off", cloud, np.random.default_rng(3))
    passed_ms = (time.perf_counter() - start) * 1e3
    assert drawn <= answer.network_ms <= passed_ms
    assert answer.total_ms <= passed_ms
    assert answer.label == "TurnOff"


def test_round_trips_are_those_of_the_links():
    drawn = start_here.round_trips_ms("middle cloud", 50_000, np.random.default_rng(0))
    link = facts.networks()["4g_lte_assumed"]
    got = np.percentile(drawn, [25, 50, 75])
    assert got == pytest.approx([link.rtt_p25_ms, link.rtt_p50_ms, link.rtt_p75_ms], rel=0.03)
    far = start_here.round_trips_ms("far cloud", 50_000, np.random.default_rng(0))
    near = start_here.round_trips_ms("near cloud", 50_000, np.random.default_rng(0))
    assert np.mean(far) - np.mean(near) == pytest.approx(facts.networks()["region_eurasia"].rtt_p50_ms)


def test_an_unknown_cloud_says_which_there_are():
    with pytest.raises(ValueError, match="near cloud, middle cloud, far cloud"):
        start_here.round_trips_ms("moon", 1, np.random.default_rng(0))


def test_a_race_asks_everyone_everything_and_waits_together(stand_in):
    texts = ["turn it off", "a lamp", "turn off", "and now"]
    start = time.perf_counter()
    runs = start_here.race(texts, np.random.default_rng(0), at_a_time=4)
    passed_ms = (time.perf_counter() - start) * 1e3
    assert list(runs) == ["device", *start_here.CLOUDS]
    labels = {tuple(a.label for a in one) for one in runs.values()}
    assert labels == {("TurnOff", data.NOT_A_COMMAND, "TurnOff", data.NOT_A_COMMAND)}
    assert passed_ms < sum(start_here.total_ms(one).sum() for one in runs.values())


def test_the_share_within_a_budget():
    assert start_here.within(RUNS["middle cloud"], 100) == 0.5
    assert start_here.within(RUNS["middle cloud"], 120) == 0.75


def test_an_answer_reads_as_one_line():
    assert (
        str(Answer("TurnOn", 0.98, 41.2, 0.52)) == "   42 ms =    41 network +  0.52 computing   TurnOn (98%)"
    )


def test_short_times_keep_two_digits():
    assert [ask.ms(t) for t in (0, 0.257, 5.62, 50.6)] == ["0", "0.26", "5.6", "51"]


def test_the_typical_answer_is_the_one_in_the_middle():
    assert start_here.typical(answers(9, 1, 2, 3, 4)).total_ms == 3


# --- the language model


def test_lines_break_between_words():
    said, column = "", 0
    for piece in ["every", " word", " is", " here", "abouts", " whole"] * 9:
        shown, column = ask._wrapped(piece, column, width=20)
        said += shown
    assert said.replace("\n", " ") == "every word is hereabouts whole" * 9
    assert 20 < max(map(len, said.split("\n"))) < 30  # a word that began in time is not cut


def test_a_streamed_answer_is_timed_token_by_token(monkeypatch, capsys):
    words = {7: "Because", 8: " it", 9: " is.", 10: "\n\n", 11: "More"}

    def generate(ids, n):
        for token in list(words)[:n]:
            time.sleep(0.01)
            yield token

    llm = SimpleNamespace(reset=lambda: None, generate=generate)
    decode = SimpleNamespace(decode=lambda made: "".join(words[t] for t in made))
    monkeypatch.setattr(engine, "tokenizer", lambda: decode)
    monkeypatch.setattr(engine, "chat_ids", lambda question: [1, 2])
    spoken = start_here.ask_llm("why?", llm)
    assert spoken.text == "Because it is." == capsys.readouterr().out
    assert len(spoken.arrived_ms) == 3
    assert spoken.ttft_ms >= 10
    assert spoken.tokens_per_s <= 100
    with pytest.raises(ValueError, match="other words"):
        start_here.ask_llm("why?", llm, tokens=0)


def test_tokens_per_second_do_not_count_the_first():
    assert Spoken("a b c", np.array([500.0, 600.0, 700.0])).tokens_per_s == pytest.approx(10)
    assert np.isnan(Spoken("a", np.array([500.0])).tokens_per_s)


# --- what if


@given(
    round_trip_ms=st.floats(0, 300),
    jitter_ms=st.floats(1, 100),
    device_ms=st.floats(0, 500),
    cloud_ms=st.floats(0, 200),
)
def test_the_shares_are_those_of_a_sample(round_trip_ms, jitter_ms, device_ms, cloud_ms):
    sample = round_trip_ms + cloud_ms + np.random.default_rng(0).exponential(jitter_ms, 20_000)
    got = start_here.what_if(round_trip_ms, jitter_ms, device_ms, cloud_ms)
    assert got.device_first == pytest.approx((sample > device_ms).mean(), abs=0.02)
    assert got.cloud_within == pytest.approx((sample <= 100).mean(), abs=0.02)
    assert got.device_within == (device_ms <= 100)


def test_at_the_break_even_each_is_first_half_of_the_time():
    even = start_here.what_if(0, 20, 80, 5).break_even_ms
    assert start_here.what_if(even, 20, 80, 5).device_first == pytest.approx(0.5)


def test_without_jitter_there_is_no_chance():
    got = start_here.what_if(np.array([10.0, 95.0, 96.0]), 0, 50, 5)
    assert got.device_first.tolist() == [0, 1, 1]
    assert got.cloud_within.tolist() == [1, 1, 0]


def test_jitter_is_the_mean_change_from_one_to_the_next():
    sample = np.random.default_rng(0).exponential(30, 100_000)
    assert np.abs(np.diff(sample)).mean() == pytest.approx(30, rel=0.02)
    for t in (10, 50, 120):
        assert start_here.cloud_by(t, 5.0, 30) == pytest.approx((5 + sample <= t).mean(), abs=0.01)


def test_negative_times_are_refused():
    with pytest.raises(ValueError, match="jitter_ms must be >= 0, got -1"):
        start_here.what_if(10, -1, 5, 5)


# --- showing


def title(fig):
    return fig.layout.title.text.replace("<br>", " ")


def test_titles_say_what_was_found():
    assert "100.0% of the far cloud's 208 ms are network" in title(start_here.where_the_time_goes(RUNS))
    found = title(start_here.response_times(RUNS))
    assert found == "Answered within 100 ms: device 100%, near 100%, middle 50%, far 0%"
    spoken = Spoken("a b c", np.array([500.0, 600.0, 1700.0]))
    assert "after 0.5 s, the last after 1.7 s" in title(start_here.tokens_over_time(spoken))


def test_each_tier_keeps_its_colour():
    shown = {t.name.partition(":")[0]: t.line.color for t in start_here.response_times(RUNS).data if t.name}
    assert shown["device"] == "#009E73"
    assert shown["middle cloud"] == "#0072B2"
    assert len({shown[name] for name in RUNS}) == 4


@pytest.mark.parametrize(
    ("device_ms", "says"), [(60, "break-even: a round trip of 44.6 ms"), (1, "no cloud is near enough")]
)
def test_the_break_even_is_in_the_title(device_ms, says):
    assert says in title(start_here.break_even(40, 15, device_ms, 5))
    assert "cloud 55 ms (median)" in title(start_here.break_even(40, 15, device_ms, 5))


def test_sentences_hold_the_numbers():
    assert "the far cloud 208 times" in start_here.read_race(RUNS).data
    said = start_here.read_hundred(RUNS, ["TurnOn", "TurnOn", "TurnOff", "TurnOff"]).data
    assert "understood 50%" in said
    assert "8 measured 5G runs the factor was from 1.5 to 328" in said


def test_the_two_models_are_compared_by_size_and_wait(tmp_path, monkeypatch):
    for name, size in (("intent.int8", 2_000_000), ("smollm2.int8", 100_000_000)):
        (tmp_path / name).write_bytes(bytes(size))
    monkeypatch.setattr(artifacts, "get", lambda name: tmp_path / name)
    shown = start_here.two_models(Answer("TurnOn", 1, 0, 0.5), Spoken("a b", np.array([300.0, 400.0])))
    assert "50 times as large, and 600 times the wait" in shown.data
    assert "at 10 tokens per second" in shown.data


def test_the_table_names_every_source():
    shown = start_here.clouds_table().data
    assert "ASSUMPTION" in shown
    for link in (link for links in start_here.CLOUDS.values() for link in links):
        assert f"{link}: {facts.networks()[link].source}" in shown


def test_the_map_of_the_course_links_the_chapters_that_exist():
    page = chapters.notebooks().get("00")
    if page is None:
        pytest.skip("chapter 00 has no notebook")
    opening = page.read_text("utf-8").partition("## Predict")[0]
    linked = set(re.findall(r"\]\((\d\d_[a-z_]+\.ipynb)\)", opening))
    assert linked == {p.name for p in chapters.notebooks().values()} - {page.name}
