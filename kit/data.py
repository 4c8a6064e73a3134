"""Commands, as grammars write them and as people say them, and what is not a command.

Four kinds of speech, in English and Chinese, each split so that the test is honest:

================  =========================================================  =================
kind              from                                                       split by
================  =========================================================  =================
templates         Home Assistant's grammar, filled with real phrases         template
people            ``datasets/people.csv``, written by hand for this project  scenario
not_a_command     ``chatterbot-corpus`` and ``datasets/questions.csv``       topic
held_out          four intents that no model trains on                       (test only)
================  =========================================================  =================

Everything is in the form that the model sees: lower case, no punctuation, on both sides, or
a classifier learns that commands have no capital letters. This module loads no torch.
"""

from __future__ import annotations

import csv
import random
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kit.artifacts import DATASETS

LANGS = ("en", "zh")
LENGTH = 96  # bytes of one sentence; a Chinese character takes three

NOT_A_COMMAND = "NotACommand"

# The classes, in the order of the model's outputs. Names are Home Assistant's, without "Hass".
INTENTS = (
    "CancelAllTimers", "CancelTimer", "ClimateGetTemperature", "ClimateSetTemperature", "DecreaseTimer",
    "FanSetSpeed", "GetCurrentDate", "GetCurrentTime", "GetState", "GetWeather", "IncreaseTimer", "LightSet",
    "ListAddItem", "ListCompleteItem", "ListRemoveItem", "MediaNext", "MediaPause", "MediaPlayerMute",
    "MediaPlayerUnmute", "MediaPrevious", "MediaSearchAndPlay", "MediaUnpause", "Nevermind", "PauseTimer",
    "SetPosition", "SetVolume", "SetVolumeRelative", "ShoppingListAddItem", "ShoppingListCompleteItem",
    "StartTimer", "TimerStatus", "TurnOff", "TurnOn", "UnpauseTimer", "VacuumCleanArea",
    "VacuumReturnToBase", "VacuumStart", NOT_A_COMMAND,
)  # fmt: skip

# Held out entirely: near-misses that a home might hear before its model knows them.
HELD_OUT = ("Broadcast", "ClimateSetFanMode", "LawnMowerDock", "LawnMowerStartMowing")

KINDS = ("templates", "people", "not_a_command", "held_out")
SPLITS = ("train", "dev", "test")

# Topics of chatterbot-corpus that are unfit for a class: greetings between a person and a bot
# overlap with the assistant's own small talk, and some answers are not fit to be read at home.
_SKIPPED_TOPICS = {"botprofile", "humor", "gossip", "emotion", "politics", "psychology"}

# Topics whose sentences are in the test split only, and in the dev split only; the rest trains.
_TEST_TOPICS = {
    "science", "history", "money", "movies",
    "science-why", "film-talk", "creative-request", "relationships",
}  # fmt: skip
_DEV_TOPICS = {"sports", "sports-talk", "literature", "travel"}

# The grammar's free slots, and which list of datasets/phrases.csv fills them.
_NAME_BY_DOMAIN = {
    "light": "name_light", "switch": "name_switch", "fan": "name_fan", "cover": "name_cover",
    "valve": "name_valve", "lock": "name_lock", "scene": "name_scene", "script": "name_script",
    "button": "name_button", "input_button": "name_button", "vacuum": "name_vacuum",
    "media_player": "name_media_player", "climate": "name_climate", "sensor": "name_sensor",
    "binary_sensor": "name_binary_sensor", "todo": "name_todo", "person": "name_person",
    "input_boolean": "name_switch",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One sentence.

    Attributes:
        text: normalised text.
        label: one of ``INTENTS``, or of ``HELD_OUT``.
        lang: ``"en"`` or ``"zh"``.
        kind: one of ``KINDS``.
        group: what the split keeps together: template, scenario or topic.
    """

    text: str
    label: str
    lang: str
    kind: str
    group: str


def normalise(text: str) -> str:
    """Lower case; punctuation and symbols become one space, except inside words ("what's", "20%")."""
    kept = [
        c if c in "'%°" or unicodedata.category(c)[0] not in "PSZC" else " "
        for c in unicodedata.normalize("NFKC", text.replace("’", "'")).lower()
    ]
    return " ".join("".join(kept).split())


def encode(texts: Sequence[str], length: int = LENGTH) -> np.ndarray:
    """UTF-8 bytes of each text, cut or padded with zeros: int32 ``[len(texts), length]``.

    This is all the preparation that the edge model asks of a runtime.
    """
    out = np.zeros((len(texts), length), np.int32)
    for row, text in zip(out, texts, strict=True):
        raw = text.encode()[:length]
        row[: len(raw)] = np.frombuffer(raw, np.uint8)
    return out


def labels(examples: Sequence[Example]) -> np.ndarray:
    """Class index of each example, int64 ``[n]``; ``-1`` for a held-out intent."""
    index = {name: i for i, name in enumerate(INTENTS)}
    return np.array([index.get(e.label, -1) for e in examples], np.int64)


def load(kind: str, split: str, lang: str | None = None, seed: int = 0) -> list[Example]:
    """Return the examples of one kind and split, in a fixed order.

    Args:
        kind: one of ``KINDS``.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        lang: ``"en"``, ``"zh"``, or None for both.
        seed: which sentences are drawn from the grammar and which templates are held back.

    Raises:
        ValueError: unknown kind, split or language.
    """
    for what, value, known in (
        ("kind", kind, KINDS),
        ("split", split, SPLITS),
        ("lang", lang, (*LANGS, None)),
    ):
        if value not in known:
            raise ValueError(f"{what} must be one of {known}, got {value!r}")
    langs = LANGS if lang is None else (lang,)
    return [e for one in langs for e in _all(kind, one, seed).get(split, ())]


@cache
def _all(kind: str, lang: str, seed: int) -> dict[str, tuple[Example, ...]]:
    """Examples of one kind and language by split; a text that trains is never tested."""
    read = {"templates": _templates, "people": _people, "not_a_command": _talk, "held_out": _held_out}[kind]
    found: dict[str, dict[str, Example]] = {s: {} for s in SPLITS}
    for split, example in read(lang, seed):
        if example.text:
            found[split].setdefault(example.text, example)
    for later, earlier in (("dev", "train"), ("test", "train"), ("test", "dev")):
        for text in found[earlier]:
            found[later].pop(text, None)
    return {s: tuple(es.values()) for s, es in found.items()}


def _rows(name: str) -> list[dict[str, str]]:
    with (DATASETS / name).open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


# --- templates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grammar:
    """What the random walk through a template needs to know."""

    lang: str
    lists: dict[str, Any]
    rules: dict[str, Any]
    phrases: dict[str, list[str]]

    def walk(self, node: Any, slots: dict[str, list[str]], rng: random.Random) -> str:
        """One random sentence of a parsed hassil expression."""
        from hassil import expression as ex

        match node:
            case ex.TextChunk():
                return node.original_text
            case ex.Alternative():
                return self.walk(rng.choice(node.items), slots, rng)
            case ex.Permutation():
                order = rng.sample(list(node.items), len(node.items))
                return " ".join(self.walk(i, slots, rng) for i in order)
            case ex.Sequence():
                return "".join(self.walk(i, slots, rng) for i in node.items)
            case ex.RuleReference():
                return self.walk(self.rules[node.rule_name].expression, slots, rng)
            case ex.ListReference():
                return self.fill(node.list_name, slots, rng)
        raise TypeError(f"hassil's grammar has a node that this walk does not know: {node!r}")

    def fill(self, name: str, slots: dict[str, list[str]], rng: random.Random) -> str:
        from hassil.intents import RangeSlotList, TextSlotList

        if name in slots:
            return rng.choice(slots[name])
        values = self.lists.get(name)
        if isinstance(values, TextSlotList):
            return self.walk(rng.choice(values.values).text_in, slots, rng)
        if isinstance(values, RangeSlotList):
            number = rng.randrange(values.start, values.stop + 1, values.step or 1)
            return _spoken(number, self.lang) if rng.random() < 0.5 else str(number)
        return rng.choice(self.phrases[name])


@cache
def _spoken(number: int, lang: str) -> str:
    """A number in words: "twenty-five", "二十五"."""
    from hassil.numbers import get_rbnf_engine

    return get_rbnf_engine(lang).format_number(number).text


@cache
def _grammar(lang: str) -> tuple[_Grammar, Any]:
    from hassil.intents import Intents
    from home_assistant_intents import get_intents

    intents = Intents.from_dict(get_intents({"en": "en", "zh": "zh-CN"}[lang]) or {})
    phrases: dict[str, list[str]] = {}
    for row in _rows("phrases.csv"):
        if row["lang"] == lang:
            phrases.setdefault(row["slot"], []).append(row["text"])
    return _Grammar(lang, intents.slot_lists, intents.expansion_rules, phrases), intents


def _slots(data: Any, phrases: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names that fit a block of templates: a lock's for "lock the …", a lamp's for "dim the …"."""
    domains = (data.requires_context or {}).get("domain") or (data.slots or {}).get("domain") or []
    domains = [domains] if isinstance(domains, str) else domains
    if isinstance(domains, dict):
        domains = domains.get("value", [])
        domains = [domains] if isinstance(domains, str) else domains
    keys = [_NAME_BY_DOMAIN[d] for d in domains if d in _NAME_BY_DOMAIN] or ["name_light", "name_switch"]
    return {"name": [text for key in keys for text in phrases[key]]}


def _split_templates(templates: list[str], seed: int) -> dict[str, str]:
    """Which split each template of one intent belongs to: about 70, 10 and 20 in a hundred."""
    order = sorted(templates, key=lambda t: zlib.crc32(f"{seed}:{t}".encode()))
    n = len(order)
    test = max(1, round(0.2 * n)) if n >= 2 else 0
    dev = max(1, round(0.1 * n)) if n >= 4 else 0
    return {t: "test" if i < test else "dev" if i < test + dev else "train" for i, t in enumerate(order)}


def _templates(lang: str, seed: int, names: tuple[str, ...] = INTENTS) -> Iterator[tuple[str, Example]]:
    """Sentences of the grammar; every intent gets enough of them, however few templates it has."""
    grammar, intents = _grammar(lang)
    for name, intent in intents.intents.items():
        label = name.removeprefix("Hass")
        if label not in names:
            continue
        written = [(data, sentence) for data in intent.data for sentence in data.sentences]
        split_of = _split_templates(sorted({s.text for _, s in written}), seed)
        for data, sentence in written:
            split = split_of[sentence.text]
            each = max(16, 200 // len(written)) if split == "train" else 6
            rng = random.Random(zlib.crc32(f"{seed}:{lang}:{sentence.text}".encode()))
            slots = _slots(data, grammar.phrases)
            for _ in range(each):
                text = normalise(grammar.walk(sentence.expression, slots, rng))
                yield split, Example(text, label, lang, "templates", sentence.text)


# --- people, talk, held out ----------------------------------------------------------------


def _people(lang: str, seed: int) -> Iterator[tuple[str, Example]]:
    """Commands as people say them; the split is written in the file, by scenario."""
    for row in _rows("people.csv"):
        if row["lang"] == lang and row["intent"] in INTENTS:
            yield (
                row["split"],
                Example(normalise(row["text"]), row["intent"], lang, "people", row["scenario"]),
            )


def _talk_split(topic: str, text: str) -> str:
    """By topic. One topic is about the home without asking anything of it: half of it trains."""
    if topic == "home-but-not-command":
        return "train" if zlib.crc32(text.encode()) % 2 else "test"
    return "test" if topic in _TEST_TOPICS else "dev" if topic in _DEV_TOPICS else "train"


def _talk(lang: str, seed: int) -> Iterator[tuple[str, Example]]:
    """Questions and chit-chat: everything said near the device that is not for it."""
    for topic, text in [
        *_corpus(lang),
        *((r["topic"], r["text"]) for r in _rows("questions.csv") if r["lang"] == lang),
    ]:
        yield _talk_split(topic, text), Example(normalise(text), NOT_A_COMMAND, lang, "not_a_command", topic)


def _corpus(lang: str) -> Iterator[tuple[str, str]]:
    """(topic, sentence) of chatterbot-corpus: what the person says, not what the bot answers."""
    import chatterbot_corpus
    import yaml

    folder = Path(chatterbot_corpus.__file__).parent / "data" / {"en": "english", "zh": "chinese"}[lang]
    for file in sorted(folder.glob("*.yml")):
        if file.stem in _SKIPPED_TOPICS:
            continue
        for turns in yaml.safe_load(file.read_text("utf-8"))["conversations"]:
            if isinstance(turns, list):  # one is a line with question and answer run together
                yield file.stem, str(turns[0])


def _held_out(lang: str, seed: int) -> Iterator[tuple[str, Example]]:
    """Intents that nobody trains on: the grammar's sentences and people's. "停止" alone means others too."""
    trained = {e.text for kind in ("templates", "people") for e in _all(kind, lang, seed)["train"]}
    for _, e in _templates(lang, seed, HELD_OUT):
        if e.text not in trained:
            yield "test", Example(e.text, e.label, lang, "held_out", e.group)
    for row in _rows("people.csv"):
        if row["lang"] == lang and row["intent"] in HELD_OUT:
            yield "test", Example(normalise(row["text"]), row["intent"], lang, "held_out", row["scenario"])
