"""The splits are honest, the same everywhere, and in the form that the model sees."""

import csv
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from home_assistant_intents import get_intents
from hypothesis import given
from hypothesis import strategies as st

from kit import data
from kit.artifacts import DATASETS, ROOT

COMMANDS = data.INTENTS[:-1]
KINDS = ("templates", "people", "not_a_command")  # that have every split
PAIRS = list(combinations(data.SPLITS, 2))


def rows(name):
    with (DATASETS / name).open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def texts(kind, split):
    return {e.text for e in data.load(kind, split)}


# --- the classes


@pytest.mark.parametrize(("lang", "code"), [("en", "en"), ("zh", "zh-CN")])
def test_every_intent_of_the_grammar_is_trained_held_out_or_an_answer(lang, code):
    grammar = {name.removeprefix("Hass") for name in get_intents(code)["intents"]}
    assert grammar <= {*COMMANDS, *data.HELD_OUT, "Respond"}
    if lang == "en":
        assert grammar == {*COMMANDS, *data.HELD_OUT, "Respond"}


def test_the_classes():
    assert len(data.INTENTS) == len(set(data.INTENTS)) == 38
    assert data.INTENTS[-1] == data.NOT_A_COMMAND
    assert not set(data.INTENTS) & set(data.HELD_OUT)


def test_labels_are_indices_and_held_out_has_none():
    examples = [*data.load("people", "dev"), *data.load("held_out", "test")]
    index = data.labels(examples)
    assert index.dtype == np.int64
    assert all((i == -1) == (e.label in data.HELD_OUT) for i, e in zip(index, examples, strict=True))
    assert all(data.INTENTS[i] == e.label for i, e in zip(index, examples, strict=True) if i >= 0)


@pytest.mark.parametrize("kind", data.KINDS)
def test_labels_kinds_and_languages_are_what_was_asked_for(kind):
    known = {
        "templates": set(COMMANDS),
        "people": set(COMMANDS),
        "not_a_command": {data.NOT_A_COMMAND},
        "held_out": set(data.HELD_OUT),
    }[kind]
    for split in data.SPLITS:
        for lang in data.LANGS:
            for e in data.load(kind, split, lang):
                assert (e.kind, e.lang) == (kind, lang)
                assert e.label in known


# --- the splits


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_text_is_in_two_splits_whatever_its_kind(one, other):
    assert not set.union(*(texts(k, one) for k in data.KINDS)) & set.union(
        *(texts(k, other) for k in data.KINDS)
    )


@pytest.mark.parametrize("kind", ["templates", "people", "not_a_command"])
def test_no_group_is_in_two_splits(kind):
    splits = defaultdict(set)
    for split in data.SPLITS:
        for e in data.load(kind, split):
            splits[e.lang, e.group].add(split)
    both = {group for (_, group), found in splits.items() if len(found) > 1}
    assert both == ({"home-but-not-command"} if kind == "not_a_command" else set())


def test_a_scenario_has_one_split_in_the_file():
    splits = defaultdict(set)
    for row in rows("people.csv"):
        splits[row["lang"], row["scenario"]].add(row["split"])
    assert {len(s) for s in splits.values()} == {1}
    assert {s for found in splits.values() for s in found} == set(data.SPLITS)


def test_people_are_split_about_60_12_28():
    count = Counter(row["split"] for row in rows("people.csv"))
    share = {split: count[split] / count.total() for split in data.SPLITS}
    assert share == pytest.approx({"train": 0.60, "dev": 0.12, "test": 0.28}, abs=0.01)


@pytest.mark.parametrize("lang", data.LANGS)
def test_every_intent_is_tested_with_people(lang):
    in_file = {row["intent"] for row in rows("people.csv") if row["lang"] == lang} - set(data.HELD_OUT)
    assert set(COMMANDS) - in_file <= {"MediaSearchAndPlay"}  # the Chinese grammar does not have it
    assert {e.label for e in data.load("people", "test", lang)} == in_file


@pytest.mark.parametrize("split", data.SPLITS)
def test_every_intent_is_in_every_split_of_people(split):
    assert {e.label for e in data.load("people", split)} == set(COMMANDS)


@pytest.mark.parametrize("lang", data.LANGS)
def test_every_intent_is_trained_with_templates(lang):
    missing = set(COMMANDS) - {e.label for e in data.load("templates", "train", lang)}
    assert missing == (set() if lang == "en" else {"MediaSearchAndPlay"})


def test_held_out_intents_are_never_trained():
    for kind in KINDS:
        for split in ("train", "dev"):
            assert not {e.label for e in data.load(kind, split)} & set(data.HELD_OUT)
    assert data.load("held_out", "train") == data.load("held_out", "dev") == []
    held = data.load("held_out", "test")
    assert {e.label for e in held} == set(data.HELD_OUT)
    assert {e.lang for e in held} == set(data.LANGS)


# Topics of the two sources, and of the test and dev sets, that are about the same thing.
SUBJECTS = (
    {"science", "science-why"},
    {"history"},
    {"money"},
    {"movies", "film-talk"},
    {"sports", "sports-talk"},
    {"food", "cooking-advice"},
    {"health", "health-worry"},
    {"ai", "computers", "coding", "tech_support"},
    {"conversations", "greetings", "talking-to-someone-else"},
)


def topics():
    """Splits of each topic."""
    found = defaultdict(set)
    for split in data.SPLITS:
        for e in data.load("not_a_command", split):
            found[e.group].add(split)
    return found


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: min(s))
def test_a_subject_does_not_straddle_the_splits(subject):
    found = topics()
    assert subject <= set(found)
    assert len(set.union(*(found[t] for t in subject))) == 1


def test_every_topic_that_the_split_names_exists():
    assert set(topics()) >= data._TEST_TOPICS | data._DEV_TOPICS


def test_skipped_topics_are_not_loaded():
    assert not data._SKIPPED_TOPICS & set(topics())


@pytest.mark.parametrize("kind", ["people", "not_a_command"])
@pytest.mark.parametrize("lang", data.LANGS)
def test_few_test_sentences_have_a_near_copy_in_training(kind, lang):
    """Near: the cosine of their character n-grams is above 0.7."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    train = [e.text for e in data.load(kind, "train", lang)]
    test = [e.text for e in data.load(kind, "test", lang)]
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(2, 4)).fit(train + test)
    nearest = (vectors.transform(test) @ vectors.transform(train).T).max(axis=1).toarray()
    assert np.mean(nearest > 0.7) < 0.01


# --- how much there is


@pytest.mark.parametrize(("kind", "lang", "least"), [
    ("people", "en", 1200), ("people", "zh", 600), ("not_a_command", "en", 300), ("not_a_command", "zh", 300),
])  # fmt: skip
def test_there_is_enough(kind, lang, least):
    assert sum(len(data.load(kind, split, lang)) for split in data.SPLITS) >= least


def test_people_write_in_their_language():
    chinese = re.compile(r"[\u4e00-\u9fff]")
    for name in ("people.csv", "questions.csv", "phrases.csv"):
        for row in rows(name):
            assert row["text"] == row["text"].strip() != ""
            if row["lang"] == "en":
                assert not chinese.search(row["text"]), row
    zh = [bool(chinese.search(row["text"])) for row in rows("people.csv") if row["lang"] == "zh"]
    assert np.mean(zh) == 1


def test_almost_every_sentence_fits_the_length():
    examples = [e for kind in data.KINDS for split in data.SPLITS for e in data.load(kind, split)]
    assert np.mean([len(e.text.encode()) > data.LENGTH for e in examples]) < 0.005


# --- the form


def test_normalise_by_example():
    assert data.normalise("  Turn OFF the light!  ") == "turn off the light"
    assert data.normalise("What’s the time?") == data.normalise("what's the time") == "what's the time"
    assert data.normalise("set it to 20%, please") == "set it to 20% please"
    assert (
        data.normalise("把客厅的灯关掉,谢谢。")
        == data.normalise("把客厅的灯关掉,谢谢.")
        == "把客厅的灯关掉 谢谢"
    )
    assert data.normalise("ＴＵＲＮ　ＯＮ") == "turn on"  # full width, as Chinese keyboards write it
    assert data.normalise("?!…") == ""


# U+0130, a capital i with a dot, becomes two characters that later marks can reorder.
writing = st.text(st.characters(exclude_characters="\u0130", exclude_categories=["Cs"]))


@given(writing)
def test_normalise_twice_is_normalise_once(text):
    assert data.normalise(data.normalise(text)) == data.normalise(text)


@given(writing)
def test_normalised_text_is_lower_case_with_single_spaces(text):
    out = data.normalise(text)
    assert out == out.lower()
    assert out == " ".join(out.split())
    assert not set(out) & set('.,!?;:"()[]{}-–—。,!?、「」\n\t\x00')


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
def test_normalise_keeps_chinese(text):
    assert data.normalise(text) == text


@given(writing)
def test_capitals_and_a_full_stop_make_no_difference(text):
    plain = data.normalise(text)
    assert data.normalise(f"{plain}.") == data.normalise(f"« {plain} »") == plain


def test_everything_loaded_is_normalised():
    for kind in data.KINDS:
        for split in data.SPLITS:
            for e in data.load(kind, split):
                assert e.text
                assert e.text == data.normalise(e.text)


@given(st.lists(writing.map(lambda t: t.replace("\0", "")), max_size=4))
def test_encode_is_the_bytes_of_utf8(some):
    longest = max((len(t.encode()) for t in some), default=0)
    out = data.encode(some, longest + 3)
    assert out.dtype == np.int32
    assert out.shape == (len(some), longest + 3)
    assert [bytes(row[row > 0].astype(np.uint8)).decode() for row in out] == some


def test_encode_cuts_what_is_longer():
    out = data.encode(["开灯" * 40, "on"])
    assert out.shape == (2, data.LENGTH)
    assert bytes(out[0].astype(np.uint8)) == ("开灯" * 40).encode()[: data.LENGTH]
    assert out[1].tolist() == [111, 110] + [0] * (data.LENGTH - 2)


def test_encode_cuts_inside_a_character_too():
    assert data.encode(["灯灯"], 4).tolist() == [list("灯灯".encode()[:4])]


# --- the same everywhere

PRINT = """
import hashlib
from kit import data
everything = [e for k in data.KINDS for s in data.SPLITS for e in data.load(k, s, seed={seed})]
print(hashlib.sha256(repr(everything).encode()).hexdigest())
"""


def prints(hash_seed, seed=0):
    command = [sys.executable, "-c", PRINT.format(seed=seed)]
    env = {"PYTHONHASHSEED": str(hash_seed), "PYTHONUTF8": "1", "PATH": ""}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_a_fresh_process_loads_the_same_whatever_its_hash_seed():
    assert prints(1) == prints(2)


def test_another_seed_holds_back_other_templates():
    def groups(seed):
        return {e.group for e in data.load("templates", "test", "zh", seed)}

    assert groups(0) != groups(1)
    assert len(groups(0)) == pytest.approx(len(groups(1)), abs=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("template", "train"), "kind must be one of .*'templates'.*got 'template'"),
        (("people", "valid"), "split must be one of .*'dev'.*got 'valid'"),
        (("people", "train", "de"), "lang must be one of .*'zh'.*got 'de'"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


# --- the data cards


def own(name, lang):
    """Rows of one of our files in one language."""
    return [row for row in rows(name) if row["lang"] == lang]


def different(found, column):
    return len({row[column] for row in found})


def counted(card, lang):
    """What the table of a card must say in the column of one language, by the name of the row."""
    match card:
        case "people":
            found = own("people.csv", lang)
            return Counter(row["split"] for row in found) | {
                "sentences": len(found),
                "scenarios": different(found, "scenario"),
                "intents": different(found, "intent"),
            }
        case "questions":
            found = own("questions.csv", lang)
            return Counter(data._talk_split(row["topic"], row["text"]) for row in found) | {
                "sentences": len(found),
                "topics": different(found, "topic"),
            }
        case "phrases":
            found = own("phrases.csv", lang)
            return {"phrases": len(found), "slots": different(found, "slot")}
        case "grammar":
            intents = data._grammar(lang)[1].intents.values()
            return {s: len(data.load("templates", s, lang)) for s in data.SPLITS} | {
                "intents": len(intents),
                "templates": sum(len({s.text for d in i.data for s in d.sentences}) for i in intents),
                "held out": len(data.load("held_out", "test", lang)),
            }
        case "chatterbot":
            corpus = list(data._corpus(lang))
            return {
                "topics used": len({topic for topic, _ in corpus}),
                "sentences used": len({data.normalise(text) for _, text in corpus}),
            }


@pytest.mark.parametrize("card", ["people", "questions", "phrases", "grammar", "chatterbot"])
def test_the_counts_in_the_cards_are_true(card):
    text = (DATASETS / f"{card}.md").read_text("utf-8")
    table = re.findall(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \|$", text, re.M)
    for lang, column in (("en", 1), ("zh", 2)):
        assert {row[0]: int(row[column]) for row in table} == counted(card, lang)
    for heading in ("Licence", "Source", "Split", "Limits", "Add a"):
        assert f"**{heading}" in text


def test_every_data_file_has_a_card():
    cards = {p.stem for p in DATASETS.glob("*.md")}
    facts = (DATASETS / "facts.md").read_text("utf-8")
    tables = [*DATASETS.glob("*.csv"), *DATASETS.glob("*.txt")]
    assert [p.name for p in tables if p.stem not in cards and p.name not in facts] == []


def test_the_card_of_the_passages_counts_them():
    lines = (DATASETS / "passages.txt").read_text("utf-8").splitlines()
    assert f"| sentences | {len(lines)} |" in (DATASETS / "passages.md").read_text("utf-8")
