"""The training loop on small data, and the judges against scikit-learn and hand-checked numbers."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from kit import artifacts, data, train
from kit.data import Example
from kit.models.intent import IntentNet, load_intent, logits
from kit.train.study import with_people

SMALL = {"buckets": 251, "dim": 8, "hidden": 16}


def example(text, label, kind="templates", lang="en"):
    return Example(text, label, lang, kind, text)


LAMPS = [example(f"switch the {w} on", "TurnOn") for w in ("lamp", "fan", "plug", "heater", "radio")]
LAMPS += [example(f"{w} volume to ten", "SetVolume") for w in ("tv", "radio", "phone", "speaker", "music")]


# --- what it is shown


@given(st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_draw_shows_each_example_equally_often(n):
    drawn = train.draw(LAMPS, n, random.Random(0))
    counts = [drawn.count(e) for e in LAMPS]
    assert len(drawn) == n
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("lang", "text", "talk"), [("en", "stop it", "so he said no"), ("zh", "关灯", "今天真冷啊")]
)
def test_chatter_keeps_the_command_whole(lang, text, talk):
    for seed in range(30):
        said = train.chatter(text, [talk], lang, random.Random(seed))
        assert said.startswith(text) or said.endswith(text)
        rest = said.removeprefix(text).removesuffix(text).strip()
        assert rest
        assert rest in talk


def test_epochs_mix_the_kinds_as_asked():
    examples = [*LAMPS, example("nice day", data.NOT_A_COMMAND, "not_a_command")]
    (texts, classes), *more = train.epochs(
        examples, {"templates": 6, "not_a_command": 4}, 2, random.Random(0)
    )
    assert len(more) == 1
    assert texts.shape == (10, data.LENGTH)
    assert texts.dtype == torch.int32
    assert (classes == data.INTENTS.index(data.NOT_A_COMMAND)).sum() == 4


def test_with_people_takes_as_many_as_asked():
    kinds = [e.kind for e in with_people(100)]
    assert kinds.count("people") == 100
    assert kinds.count("templates") == len(data.load("templates", "train"))


# --- the loop


def test_it_learns_what_it_is_shown_and_repeats_itself():
    seen = []
    mix = {"templates": 100}
    first = train.train(LAMPS, n=8, mix=mix, batch=10, report=lambda e, loss: seen.append(loss), **SMALL)
    again = train.train(LAMPS, n=8, mix=mix, batch=10, **SMALL)
    assert seen[-1] < seen[0] / 2
    assert train.correct(first, LAMPS).all()
    texts = [e.text for e in LAMPS]
    np.testing.assert_allclose(logits(first, texts), logits(again, texts), atol=1e-5)


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="needs examples"):
        train.train([])


# --- judges


def test_accuracy_interval_is_wilsons():
    # 8 of 10: Wilson's 95% interval is 49.0% to 94.3% (Newcombe 1998, method 3)
    value, low, high = train.accuracy(np.array([True] * 8 + [False] * 2))
    assert (value, round(low, 1), round(high, 1)) == (80.0, 49.0, 94.3)


def test_correct_agrees_with_scikit_learn():
    model = train.train(LAMPS, n=2, mix={"templates": 40}, batch=10, **SMALL)
    said = train.probabilities(model, LAMPS).argmax(1)
    assert train.correct(model, LAMPS).mean() == accuracy_score(data.labels(LAMPS), said)


def test_confusions_and_mixups_count_the_same_mistakes():
    torch.manual_seed(0)
    model = IntentNet(**SMALL).eval()
    with torch.no_grad():  # votes at random, so that it says different things
        model.votes.weight.normal_()
    wrong = int((~train.correct(model, LAMPS)).sum())
    assert sum(row["times"] for row in train.confusions(model, LAMPS, most=99)) == wrong
    counts, names = train.mixups(model, LAMPS, most=2)
    assert names == ["SetVolume", "TurnOn"] or names == ["TurnOn", "SetVolume"]
    assert counts.shape == (2, 2)


def test_baseline_reads_its_own_language():
    chinese = [example("打开灯", "TurnOn", lang="zh"), example("打开窗", "TurnOn", lang="zh")]
    chinese += [example("音量大点", "SetVolume", lang="zh"), example("音量调大", "SetVolume", lang="zh")]
    pipelines = {lang: train.baseline(LAMPS + chinese, lang) for lang in data.LANGS}
    assert train.baseline_correct(pipelines, chinese + LAMPS).all()
    mislabelled = [example("打开灯", "SetVolume", lang="zh")]
    assert not train.baseline_correct(pipelines, mislabelled).any()


# --- confidence


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true_temperature):
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, (20_000, 5))
    p = np.exp(z / true_temperature)
    classes = np.array([rng.choice(5, p=row / row.sum()) for row in p])
    assert train.temperature(z, classes) == pytest.approx(true_temperature, rel=0.05)


def test_calibrate_sets_the_temperature_and_changes_no_answer():
    model = train.train(LAMPS, n=2, mix={"templates": 40}, batch=10, **SMALL)
    before = train.probabilities(model, LAMPS)
    found = train.calibrate(model, LAMPS)
    after = train.probabilities(model, LAMPS)
    assert float(model.temperature) == pytest.approx(found)
    assert found != pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(before.argmax(1), after.argmax(1))


def test_auroc_by_hand():
    assert train.auroc(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1.0
    assert train.auroc(np.array([0.9, 0.1]), np.array([0.5])) == 0.5


# --- the artifact


@pytest.fixture(scope="module")
def model():
    return load_intent(artifacts.get("intent.pt"))


@pytest.fixture(scope="module")
def rivals():
    everything = train.everything("train")
    return {lang: train.baseline(everything, lang) for lang in data.LANGS}


def test_it_holds_its_own_against_an_svm_for_each_language(model, rivals):
    ours = train.by_speech(lambda examples: train.correct(model, examples))
    theirs = train.by_speech(lambda examples: train.baseline_correct(rivals, examples))
    for lang in data.LANGS:
        # a point of slack on templates: the last digit of a training differs from machine to machine
        assert ours[f"templates, {lang}"][0] > theirs[f"templates, {lang}"][0] - 1
        assert ours[f"people, {lang}"][0] > theirs[f"people, {lang}"][0]
        assert ours[f"people, {lang}"][0] > 75


def test_its_confidence_can_be_used(model):
    commands = data.load("templates", "test") + data.load("people", "test")
    sure = train.probabilities(model, commands).max(1)
    assert train.ece(sure, train.correct(model, commands)) < 3
    talk = train.command_score(train.probabilities(model, data.load("not_a_command", "test")))
    assert train.auroc(train.command_score(train.probabilities(model, commands)), talk) > 0.95


def test_punctuation_and_capitals_as_typed_change_little(model):
    people = data.load("people", "test", "en")
    typed = [e.text.capitalize() + "." for e in people]
    same = logits(model, typed).argmax(1) == logits(model, [e.text for e in people]).argmax(1)
    assert same.mean() > 0.97
