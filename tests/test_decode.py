"""Decoding against transformers: the same tokens, the same probabilities, the same text."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import artifacts, decode, facts, models
from kit.decode import Decoder, Sampling, TextStream
from kit.engine import Engine, chat_ids, tokenizer
from kit.measure import Timing

NEAR_TIE = 1e-3  # logits this close may swap places between two ways of adding up
NEW = 12  # tokens made for each prompt


@pytest.fixture(scope="module")
def engine():
    return Engine(artifacts.get("smollm2.fp32"), context=160, spin=False)


@pytest.fixture
def decoder(engine):
    return Decoder(engine)


@pytest.fixture(scope="module")
def theirs():
    """What ``transformers.generate`` writes after each of the 50 prompts: tokens and logits."""
    import torch

    model, found = models.smollm2_torch(artifacts.get("smollm2.hf")), []
    for question in decode.requests():
        ids = chat_ids(question)
        out = model.generate(
            torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, output_logits=True,
            return_dict_in_generate=True, pad_token_id=2, attention_mask=torch.ones(1, len(ids)),
        )  # fmt: skip
        logits = torch.cat(out.logits).numpy()  # [tokens, vocab]
        found.append((ids, out.sequences[0, len(ids) :].tolist(), logits))
    return found


def differences(made, theirs):
    """Places where two greedy texts part, with the lead of their best logit over ours."""
    parted = []
    for ours, (ids, expected, logits) in zip(made, theirs, strict=True):
        for i, (a, b) in enumerate(zip(ours, expected, strict=False)):
            if a != b:
                parted.append((tokenizer().decode(ids)[-40:], i, float(logits[i][b] - logits[i][a])))
                break  # after it the texts are different texts
    return parted


def written(how, theirs):
    return [list(how(ids))[: len(expected)] for ids, expected, _ in theirs]


def test_same_text_as_transformers_with_a_cache(decoder, theirs):
    assert len(theirs) == 50
    made = written(lambda ids: decoder.answer(ids, max_tokens=NEW, eos=None).tokens, theirs)
    parted = differences(made, theirs)
    assert all(lead < NEAR_TIE for *_, lead in parted), parted


def test_same_text_as_transformers_without_a_cache(engine, theirs):
    made = written(lambda ids: decode.generate_without_cache(engine, ids, NEW // 2), theirs)
    parted = differences(made, theirs)
    assert all(lead < NEAR_TIE for *_, lead in parted), parted


def test_same_text_as_transformers_in_batches(theirs):
    several, made = Engine(artifacts.get("smollm2.fp32"), context=160, rows=10, spin=False), []
    for start in range(0, 50, 10):
        batch = [ids for ids, *_ in theirs[start : start + 10]]
        tokens = [several.prefill_rows(batch).argmax(-1).tolist()]
        for _ in range(NEW - 1):
            tokens.append(several.step_rows(tokens[-1]).argmax(-1).tolist())
        made += np.array(tokens).T.tolist()
    parted = differences([m[: len(e)] for m, (_, e, _) in zip(made, theirs, strict=True)], theirs)
    assert all(lead < NEAR_TIE for *_, lead in parted), parted


# --- sampling


LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=60).map(
    lambda values: np.array(values, np.float32)
)


@given(
    LOGITS,
    st.floats(0.1, 3),
    st.integers(0, 70),
    st.floats(0.05, 1),
    st.floats(0.5, 2),
    st.lists(st.integers(0, 59), max_size=8),
)
def test_same_probabilities_as_transformers(logits, temperature, top_k, top_p, penalty, used):
    import torch
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    used = [i for i in used if i < len(logits)]
    logits = logits + np.arange(len(logits), dtype=np.float32) * 1e-3  # no ties: there both may choose
    rules = [RepetitionPenaltyLogitsProcessor(penalty)] if used else []
    rules.append(TemperatureLogitsWarper(temperature))
    rules += [TopKLogitsWarper(top_k)] if top_k else []
    rules += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    ids = torch.tensor([used or [0]])
    expected = LogitsProcessorList(rules)(ids, torch.tensor(logits, dtype=torch.float64)[None])
    expected = expected.softmax(-1)[0].numpy()
    sampling = Sampling(temperature, top_k, top_p)
    ours = decode.probabilities(decode.penalise(logits.astype(np.float64), used, penalty), sampling)
    total = np.sort(expected)[::-1].cumsum()
    if top_p < 1 and np.abs(total - top_p).min() < 1e-6:
        return  # the border of the nucleus falls between two roundings
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_drawn_tokens_follow_the_probabilities():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    picker = Sampling(temperature=1, seed=3).picker()
    drawn = np.bincount([picker.pick(logits) for _ in range(20_000)], minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.15, 0.05], atol=0.012)  # over 3 standard errors
    cold = Sampling(temperature=0.5, seed=3).picker()
    drawn = np.bincount([cold.pick(logits) for _ in range(20_000)], minlength=4) / 20_000
    squared = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    np.testing.assert_allclose(drawn, squared / squared.sum(), atol=0.012)


def test_a_seed_repeats_and_greedy_needs_none(decoder):
    ids = chat_ids("Name three fruits.")

    def say(**settings):
        return decoder.answer(ids, max_tokens=12, sampling=Sampling(**settings)).tokens

    assert say(temperature=1.2, seed=7) == say(temperature=1.2, seed=7)
    assert len({say(temperature=1.5, seed=s) for s in range(4)}) > 1
    assert say() == say(temperature=1.2, top_k=1) == say(temperature=5, top_p=1e-9)


def test_the_penalty_counts_prompt_and_answer():
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    assert Sampling(repetition_penalty=1.5).picker([0]).pick(logits) == 1
    picker = Sampling(repetition_penalty=1.5).picker()
    assert [picker.pick(logits), picker.pick(logits)] == [0, 1]
    assert logits[0] == 2  # what it was given stays


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"temperature": -0.1}, ValueError, "at least 0, got -0.1"),
        ({"temperature": "hot"}, TypeError, "must be a number, got 'hot'"),
        ({"temperature": True}, TypeError, "must be a number"),
        ({"temperature": float("nan")}, ValueError, "finite"),
        ({"temperature": float("inf")}, ValueError, "finite"),
        ({"top_k": -1}, ValueError, "at least 0"),
        ({"top_k": 2.5}, TypeError, "whole number"),
        ({"top_p": 0}, ValueError, "above 0"),
        ({"top_p": 1.1}, ValueError, "at most 1"),
        ({"repetition_penalty": 0}, ValueError, "above 0"),
        ({"seed": -1}, ValueError, "from 0"),
        ({"seed": 2**63}, ValueError, "from 0"),
        ({"seed": "x"}, TypeError, "whole number"),
    ],
)
def test_wrong_settings_say_what_is_wrong(wrong, error, says):
    with pytest.raises(error, match=says):
        Sampling(**wrong)


# --- text


TEXTS = ["naïve café", "天空是蓝色的。", "a 🙂 and 👩‍👩‍👧", "x", "  two  spaces\n\nlines", "é" * 5]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_out_whole_and_never_half_a_character(text):
    stream, shown = TextStream(), ""
    for token in tokenizer()(text, add_special_tokens=False).input_ids:
        shown += stream.push(token)
        assert "\ufffd" not in shown
        assert text.startswith(shown)
    assert shown + stream.finish() == text


@settings(deadline=None)
@given(st.lists(st.integers(0, 49151), max_size=12))
def test_any_tokens_give_the_tokenizer_s_text(tokens):
    stream = TextStream()
    text = "".join([stream.push(t) for t in tokens]) + stream.finish()
    ours = tokenizer().decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == ours


@settings(deadline=None)
@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_stop_sequences_cut_where_the_first_one_begins(text, stops):
    stream, shown = TextStream(stops), ""
    stream_text = [tokenizer().convert_tokens_to_ids(c) for c in text]
    for token in stream_text:
        shown += stream.push(token)
        if stream.stopped:
            break
    shown += stream.finish()
    # The answer grows character by character: the stop sequence that is complete first wins.
    ends = [text.find(s) + len(s) for s in stops if s in text]
    if not ends:
        assert shown == text
    else:
        begin = min(text.find(s) for s in stops if s in text[: min(ends)])
        assert shown == text[:begin]
        assert stream.stopped


def test_what_may_become_a_stop_is_held_back(decoder):
    stream = TextStream("the end")
    word = [tokenizer().convert_tokens_to_ids(c) for c in "then"]
    assert [stream.push(t) for t in word] == ["", "", "", "then"]
    full = decoder.answer(chat_ids("Name three fruits."), max_tokens=40).text
    at = full.index("2.")
    cut = decoder.answer(chat_ids("Name three fruits."), max_tokens=40, stop=["\n2.", "nowhere"])
    assert cut.finish == "stop"
    assert cut.text == full[: at - 1]


@pytest.mark.parametrize(
    ("stop", "error"), [(5, TypeError), ([5], TypeError), ("", ValueError), (None, TypeError)]
)
def test_wrong_stops(decoder, stop, error):
    with pytest.raises(error, match="stop must"):
        decoder.stream("Hello", stop=stop)


# --- the loop


def test_pieces_are_the_answer(decoder):
    pieces = list(decoder.stream(chat_ids("What is gravity?"), max_tokens=20))
    assert [p.token is None for p in pieces] == [False] * 20 + [True]
    assert [p.finish for p in pieces] == [""] * 20 + ["length"]
    assert sorted(p.at_ms for p in pieces) == [p.at_ms for p in pieces]
    whole = tokenizer().decode([p.token for p in pieces[:-1]])
    assert "".join(p.text for p in pieces) == whole
    answer = decoder.answer(chat_ids("What is gravity?"), max_tokens=20)
    assert (answer.text, answer.finish, len(answer.tokens)) == (whole, "length", 20)
    assert answer.ttft_ms == answer.at_ms[0] > 0
    assert answer.tokens_per_s == pytest.approx(19_000 / (answer.at_ms[-1] - answer.at_ms[0]))


def test_it_ends_when_the_model_ends(decoder):
    answer = decoder.answer(chat_ids("Name three fruits."), max_tokens=90)
    assert answer.finish == "stop"
    assert 2 not in answer.tokens


def test_cancelled_between_two_tokens(decoder):
    seen = []
    stream = decoder.stream(chat_ids("What is gravity?"), cancelled=lambda: len(seen) >= 3)
    for piece in stream:
        seen.append(piece)
    assert [p.finish for p in seen] == ["", "", "", "cancelled"]
    # and the next prompt is answered as if nothing had been
    after = decoder.answer(chat_ids("Name three fruits."), max_tokens=10).tokens
    decoder.forget()
    assert decoder.answer(chat_ids("Name three fruits."), max_tokens=10).tokens == after


def test_a_full_cache_ends_the_answer(engine):
    small = Decoder(Engine(artifacts.get("smollm2.int4"), context=20, spin=False))
    ids = chat_ids("What is gravity?")[:15]
    answer = small.answer(ids, max_tokens=50, eos=None)
    assert (answer.finish, len(answer.tokens)) == ("length", 6)  # the last token need not be read


@pytest.mark.parametrize(
    ("prompt", "error", "says"),
    [
        ("", ValueError, "the prompt is empty"),
        ([], ValueError, "the prompt is empty"),
        ([1] * 161, ValueError, "161 tokens, and the cache has room for 160"),
        (5, TypeError, "a text or a list of tokens, got int"),
        (["a"], TypeError, "a text or a list of tokens"),
    ],
)
def test_wrong_prompts(decoder, prompt, error, says):
    before = decoder.held
    with pytest.raises(error, match=says):
        decoder.stream(prompt)
    assert decoder.held == before
    with pytest.raises(ValueError, match="max_tokens"):
        decoder.stream("Hello", max_tokens=0)


def test_an_earlier_answer_cannot_go_on(decoder):
    first = decoder.stream(chat_ids("What is gravity?"))
    next(first)
    list(decoder.stream("Hello", max_tokens=2))
    with pytest.raises(RuntimeError, match="one at a time"):
        next(first)


# --- the cache


def test_a_shared_start_is_not_read_again(decoder):
    system = tokenizer()("You are a helpful assistant in a smart home. " * 5).input_ids
    first, second = [*system, 10, 20, 30], [*system, 40, 50]
    decoder.read(first)
    assert decoder.reused == 0
    again = decoder.read(second)
    assert decoder.reused == len(system)
    decoder.forget()
    np.testing.assert_allclose(decoder.read(second), again, atol=1e-3)
    decoder.read(second)
    assert decoder.reused == len(second) - 1  # the last token is read for its logits


def test_a_prompt_after_an_answer_reuses_both(decoder):
    ids = chat_ids("What is gravity?")
    made = decoder.answer(ids, max_tokens=8, eos=None).tokens
    decoder.read([*ids, *made, 5])
    assert decoder.reused == len(ids) + 7  # the last token that was made had not been read
    decoder.engine.reset()  # somebody else uses the engine
    decoder.read(ids)
    assert decoder.reused == 0


def test_kv_bytes_are_those_of_the_engine(engine):
    shape = facts.llms()["smollm2-135m"]
    assert (engine.layers, engine.heads, engine.head_size) == (shape.layers, shape.kv_heads, shape.head_size)
    assert decode.kv_bytes(160, shape.layers, shape.kv_heads, shape.head_size) == engine.cache_bytes
    # Llama 2 at 4096 tokens in FP16: 2 GiB, a figure that is often quoted
    assert decode.kv_bytes(4096, 32, 32, 128, 2) == 2 * 2**30
    with pytest.raises(ValueError, match="need tokens"):
        decode.kv_bytes(-1, 1, 1, 1)


def test_int8_cache_is_a_quarter_and_nearly_as_good(engine):
    texts = (artifacts.DATASETS / "passages.txt").read_text().splitlines()
    calibration, rest = " ".join(texts[:8]), texts[8:14]
    scale = decode.scales(engine, tokenizer()(calibration).input_ids[:150])
    small = Engine(
        decode.int8_cache(onnx.load(artifacts.get("smollm2.fp32")), scale).SerializeToString(),
        context=160, spin=False,
    )  # fmt: skip
    assert small.cache_bytes * 4 == engine.cache_bytes
    losses = {"fp32": [], "int8": []}
    for text in rest:
        ids = tokenizer()(text).input_ids
        for name, e in (("fp32", engine), ("int8", small)):
            e.reset()
            logits = np.concatenate([e.forward(ids[:4]), *(e.forward([t]) for t in ids[4:])])
            p = decode.probabilities
            chosen = [p(row, Sampling(temperature=1))[t] for row, t in zip(logits, ids[1:], strict=False)]
            losses[name].append(-np.log(chosen).mean())
    assert abs(np.mean(losses["int8"]) - np.mean(losses["fp32"])) < 0.05
    with pytest.raises(ValueError, match="no scale for"):
        decode.int8_cache(onnx.load(artifacts.get("smollm2.fp32")), {})


# --- the roofline


def test_weights_are_counted_once():
    numbers, read = decode.weights(artifacts.get("smollm2.fp32"))
    assert numbers == pytest.approx(facts.llms()["smollm2-135m"].parameters, rel=0.002)  # norms are no matrix
    assert read == pytest.approx(4 * numbers, rel=0.01)
    same, fewer = decode.weights(artifacts.get("smollm2.int4"))
    assert same == numbers
    assert 0.1 < fewer / read < 0.2


def test_work():
    one = decode.Work(2e9, 4e9, 0.5)
    assert (one.intensity, one.gops, one.gb_s) == (0.5, 4, 8)
    near = decode.Near(4e9, 2e9, np.array([500.0, 500, 500]), np.array([10.0, 10, 10]))
    assert near.work == one
    assert near.percent == pytest.approx((80, 80, 80))
    assert near.limit == pytest.approx(2.5)
    path = artifacts.get("smollm2.int4")
    assert decode.work_of(path, 128).intensity == pytest.approx(128 * decode.work_of(path).intensity)


def test_a_device_is_bound_by_its_memory():
    nano = decode.on_device(facts.devices()["jetson-orin-nano-8gb"], 7e9, bits=4)
    assert nano.gb == pytest.approx(3.5)
    assert nano.by_memory == pytest.approx(68 / 3.5)
    assert nano.by_tops == pytest.approx(20e12 / 14e9)
    assert nano.fits
    assert nano.share_of_tops < 0.02
    assert not decode.on_device(facts.devices()["jetson-orin-nano-8gb"], 14e9, bits=4).fits
    assert decode.on_device(facts.devices()["raspberry-pi-5-8gb"], 7e9).by_tops is None
    with pytest.raises(ValueError, match="above 0"):
        decode.on_device(facts.devices()["raspberry-pi-5-8gb"], 0)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_kernels_run_in_the_cache(bits):
    assert decode.kernel_gops(bits, seconds=0.05) > 0.5


# --- what the page shows


def took(ms):
    return Timing(np.full(9, ms), np.ones(9))


def near(token_ms, gb_s=40.0, nbytes=80e6):
    return decode.Near(nbytes, 2.7e8, np.full(5, token_ms), np.full(5, gb_s))


def test_the_roof_that_is_lower_is_named():
    found = {"FP32": near(17.0, nbytes=538e6), "INT8": near(6.5), "INT4": near(6.5)}
    kernels = {"FP32": 80.0, "INT8": 60.0, "INT4": 130.0}  # 296, 222, 481 tokens/s; memory 74, 500, 500
    text = decode.read_roof(found, kernels).data
    assert "**FP32** uses 79% of the reading speed. Memory alone would allow 74 tokens/s" in text
    assert "arithmetic alone 296: memory is its roof." in text
    assert "arithmetic alone 222: unpacking and multiplying are its roof." in text
    assert "arithmetic alone 481: the two limits are close, and it reaches neither." in text


def claims(**changed):
    at = np.linspace(20, 800, 100)
    found = {
        "near": {"FP32": near(17.0, nbytes=538e6), "INT4": near(6.5)},
        "prompts": {"FP32": decode.Work(3.4e10, 538e6, 0.2)},
        "reading": {512: took(900.0)},
        "step": {512: took(10.0)},
        "answer": decode.Answer("", "length", 9, 0, tuple(range(100)), at),
        "kernels": {"FP32": 80.0, "INT4": 60.0},
    }
    return decode.claims_table(**found | changed).data


def test_claims_follow_what_was_measured():
    html = claims()
    assert "after 512 tokens 90" in html
    assert "40 times sooner" in html
    assert "FP32 yes, INT4 no" in html  # INT4 is bound by its arithmetic
    assert html.count(">yes<") == 4
    html = claims(near={"FP32": near(170.0, nbytes=538e6), "INT4": near(6.5)}, reading={512: took(11.0)})
    assert "FP32 no, INT4 no" in html  # far from memory's roof
    assert html.count(">no<") == 1  # a cache that hardly helps


def test_int8_cache_is_called_what_it_is():
    puzzled = {"FP32": 90.0, "INT8": 92.0}
    for ms, word in ((8.0, "faster"), (12.0, "slower"), (10.0, "no faster that could be told")):
        steps = {"FP32": {64: took(6.0), 2048: took(10.0)}, "INT8": {2048: took(ms)}}
        text = decode.read_int8_kv(puzzled, steps).data
        assert f": {word}." in text
        assert "90.00 to 92.00" in text


def test_recorded_engines(tmp_path):
    found = decode.engines()
    assert len(found) >= 7
    assert len({len(s.tokens_per_s) for s in found}) == 1  # one run
    assert "onnxruntime-genai" in decode.read_engines(found).data
    (tmp_path / "x.csv").write_text("engine,speed\nus,1\n")
    with pytest.raises(ValueError, match="must have the columns engine, format"):
        decode.engines(tmp_path / "x.csv")


def test_figures_can_be_drawn(decoder):
    answer = decoder.answer(chat_ids("What is gravity?"), max_tokens=12)
    logits = np.random.default_rng(0).normal(0, 3, 49152).astype(np.float32)
    figures = [
        decode.word_bars(logits),
        decode.chances(0.7, 40, 0.9, logits),
        decode.shown_while_waiting(answer),
        decode.growth({16: took(20.0)}, {16: took(6.0)}),
        decode.conversation_mb(79_000_000),
        decode.engine_bars(decode.engines()),
        decode.tricks({"a": near(20.0), "b": near(10.0)}),
        decode.llm_on_device("llama-2-7b", "raspberry-pi-5-8gb", 4, 4096),
    ]
    assert all(f.layout.title.text for f in figures)
    assert "together: 2.00" in figures[-2].layout.title.text
    large = decode.llm_on_device("llama-2-7b", "jetson-orin-nano-8gb", 8, 0)
    assert "does not fit" in large.layout.title.text.replace("<br>", " ")


def test_where_the_time_goes_adds_up():
    spent = decode.by_operator(artifacts.get("smollm2.fast"), steps=4)
    assert set(spent) == {"matrices of the layers", "attention", "norms", "last layer", "the rest"}
    assert all(ms > 0 for ms in spent.values())


def test_large_pages_change_nothing_but_the_pages(engine):
    ids = chat_ids("Name three fruits.")
    engine.reset()
    before = engine.forward(ids)
    assert decode.large_pages() >= 0
    engine.reset()
    np.testing.assert_array_equal(engine.forward(ids), before)


def test_the_fast_file_is_nearly_the_chapter_03_file():
    fast, slow = (Engine(artifacts.get(f"smollm2.{n}"), context=96, spin=False) for n in ("fast", "int4"))
    ids = chat_ids("Why is the sky blue?")
    a, b = fast.forward(ids), slow.forward(ids)
    fewer, more = (decode.weights(artifacts.get(f"smollm2.{n}"))[1] for n in ("fast", "int4"))
    assert fewer < 0.9 * more
    assert np.corrcoef(a[-1], b[-1])[0, 1] > 0.98
    p, q = (decode.probabilities(x[-1], Sampling(temperature=1)) for x in (a, b))
    assert 0 < np.abs(p - q).sum() / 2 < 0.25  # total variation: 4 bits in the last layer are not nothing
