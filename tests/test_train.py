"""The training loop on small data, and the judges against scikit-learn and hand-checked numbers."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from kit import artifacts, data, measure, train
from kit.data import Example
from kit.models.intent import IntentNet, load_intent, logits
from kit.train import english
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
    value, low, high = measure.accuracy(np.array([True] * 8 + [False] * 2))
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
    assert counts.shape == (2, 3)
    assert counts.sum(1).tolist() == [5, 5]  # what went elsewhere stands in the last column
    assert counts.sum() - np.trace(counts) == wrong
    most = np.argmin(np.diag(counts))
    assert train.title_mixups(counts, names).endswith(f"{names[most]} only {counts[most, most]} of 5")


def test_a_mixup_shows_its_shortest_english_sentence():
    model = IntentNet(**SMALL).eval()
    with torch.no_grad():  # it says the same to everything
        model.head[-1].bias[data.INTENTS.index("Nevermind")] = 99
    said = [example("开灯", "TurnOn", lang="zh"), *LAMPS[:5]]
    (row,) = train.confusions(model, said)
    assert row["shortest example"] == "switch the fan on"
    assert row["times"] == 6


def test_the_lead_is_paired():
    def ours(examples):
        return np.arange(len(examples)) % 2 == 1

    def theirs(examples):  # where both are wrong, nobody is ahead
        return np.arange(len(examples)) % 4 == 3

    for name, (value, low, high) in train.lead(ours, theirs).items():
        kind, lang = name.split(", ")
        n = len(data.load(kind, "test", lang))
        share = np.mean(np.arange(n) % 4 == 1)
        assert value == pytest.approx(100 * share)
        half = 196 * np.sqrt(share * (1 - share) / n)  # a bootstrap of many sentences is nearly normal
        assert (value - low, high - value) == pytest.approx((half, half), rel=0.1)


def test_guesses_are_the_likeliest_intents_of_what_was_typed(model):
    rows = train.guesses(model, "Turn OFF the kitchen lights!")
    assert len(rows) == 3
    assert rows[0]["intent"] == "TurnOff"
    chances = [row["probability (%)"] for row in rows]
    assert chances == sorted(chances, reverse=True)
    assert 50 < chances[0] <= 100


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


# --- what the results say


def shares(templates, people, width=2):
    values = {"templates": templates, "people": people}
    return {f"{k}, {lang}": (v, v - width, v + width) for k, v in values.items() for lang in data.LANGS}


def test_the_control_tells_luck_from_more():
    ahead = {"people, en": (4.0, 1.0, 7.0), "people, zh": (4.9, 0.04, 9.8), "templates, en": (-3, -5, -1)}
    said = train.read_control(shares(97, 30), shares(98, 82), ahead).data
    assert "from 30% to **82%**" in said
    assert "people, en +4.0 points (+1.0 to +7.0: more than luck)" in said
    assert "people, zh +4.9 points (+0.0 to +9.8: may be luck)" in said
    assert "templates, en -3.0 points (-5.0 to -1.0: more than luck)" in said


def test_learning_says_what_a_hundred_sentences_were_worth():
    rows = [{"sentences": n, "people, en": (right, 0, 100)} for n, right in ((0, 20), (100, 40), (300, 60))]
    said = train.read_learning(rows).data
    assert "from 20% to **60%**" in said
    assert "from 0 to 100: +20.0, from 100 to 300: +10.0. Each hundred is worth less" in said
    rows[1]["people, en"] = (21, 0, 100)
    assert "Each hundred" not in train.read_learning(rows).data


def test_calibration_names_the_worst_bin_only_if_it_is_more_than_luck():
    sure, hits = np.full(100, 0.85), np.arange(100) < 60
    assert "says 85%, it is right in 60%, also with" in train.read_calibration(sure, hits).data
    assert "no more than luck" in train.read_calibration(sure, np.arange(100) < 84).data
    few = np.r_[sure, np.full(9, 0.05)], np.r_[np.arange(100) < 60, np.ones(9, bool)]
    assert "says 85%" in train.read_calibration(*few).data  # nine answers are too few to name


def test_two_means_may_agree_where_the_bins_do_not():
    sure, hits = np.r_[np.full(50, 0.4), np.full(50, 0.9)], np.r_[np.arange(50) < 40, np.arange(50) < 25]
    said = train.read_mixture(sure, hits, everything=2.0).data
    assert "on people alone 40.0%" in said
    assert "confidence is 65% and the accuracy 65%" in said
    assert "errors of opposite sign cancel" in said
    assert "cancel" not in train.read_mixture(np.full(50, 0.9), np.arange(50) < 25, everything=2.0).data


def test_each_smaller_size_has_its_price():
    sizes = {509: 20, 2039: 74, 8191: 75, 32749: 77}
    rows = [{"buckets": b, "parameters": b * 10, **shares(0, right)} for b, right in sizes.items()]
    said = train.read_sizes(rows).data
    assert "4 times smaller: +2 points (the intervals overlap); 16 times smaller: +3 points (the" in said
    assert said.endswith("64 times smaller: +57 points.")


def test_sentences_follow_what_was_measured():
    assert "became **TurnOn**. It was TurnOff" in train.read_rival("kill it", "TurnOff", "TurnOn").data
    assert "understands" in train.read_rival("kill it", "TurnOff", "TurnOff").data
    assert "**31% and 31%**" in train.read_collapse(shares(94, 31), shares(97, 30)).data
    assert "look like commands" in train.read_unknown(0.82).data
    assert "score lower" in train.read_unknown(0.99).data
    taken = {limit: {"commands": (c, 0, 100), "talk, unseen topics": (t, 0, 100)} for limit, c, t in
             ((0.5, 99, 36), (0.95, 96, 13))}  # fmt: skip
    said = train.read_scores(taken, 0.990).data
    assert "nearly always" in said
    assert "At 0.5 the device would act on 36% of the talk. At 0.95 it acts on 13%" in said
    assert "often" in train.read_scores(taken, 0.8).data
    worst = [{"it was": "TurnOn", "the model said": "TurnOff", "times": 3}]
    assert "2 of 5 are wrong" in train.read_mixups(worst, np.arange(5) < 3).data


def test_the_chinese_examples_of_the_first_table_are_translated():
    for kind in ("templates", "people", "not_a_command"):
        for e in data.load(kind, "dev", "zh")[5:40:14]:
            assert train.in_english(e.text), e.text
    known = {e.text for k in data.KINDS for s in data.SPLITS for e in data.load(k, s, "zh")}
    assert set(english._MEANING) <= known
    assert train.in_english("turn it off") is None


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
    assert measure.ece(sure, train.correct(model, commands)) < 3
    talk = train.command_score(train.probabilities(model, data.load("not_a_command", "test")))
    assert train.auroc(train.command_score(train.probabilities(model, commands)), talk) > 0.95


def test_punctuation_and_capitals_as_typed_change_little(model):
    people = data.load("people", "test", "en")
    typed = [e.text.capitalize() + "." for e in people]
    same = logits(model, typed).argmax(1) == logits(model, [e.text for e in people]).argmax(1)
    assert same.mean() > 0.97
