"""Sentences without labels, as many as wanted: the teacher says what they mean.

Four changes make a new sentence from an old one: words give way to words that MiniLM places beside them
(*lamp* becomes *bulb*; English only), the end of one sentence follows the start of another, a word is lost,
and chatter stands around it. Some come out as nonsense. That does no harm: the student learns what the
teacher makes of them, and the teacher says when it is unsure.

After Jiao et al. 2020, "TinyBERT", who replace words by neighbours of their vectors before they distil.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np

from kit import data, models
from kit.train import chatter

KINDS = {"people": 0.7, "templates": 0.15, "not_a_command": 0.15}  # what a new sentence starts from
SWAP, CROSS, LOSE, AROUND = 0.25, 0.15, 0.05, 0.15  # chances: of a word, a sentence, a word, a sentence


@cache
def neighbours(most: int = 8, least: float = 0.33) -> dict[str, tuple[str, ...]]:
    """Words of the English training sentences, each with the words that MiniLM places nearest to it.

    Args:
        most: neighbours of a word, at most.
        least: cosine between centred word vectors that counts as near.
    """
    from safetensors.numpy import load_file

    vocabulary = models.minilm_tokenizer().get_vocab()
    table = load_file(models.minilm_folder() / "model.safetensors")["embeddings.word_embeddings.weight"]
    words = sorted(w for w in vocabulary if w.isascii() and w.isalpha() and len(w) > 1)
    vectors = table[[vocabulary[w] for w in words]].astype(np.float32)
    vectors -= vectors.mean(0)  # all of them point the same way a little
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {w: i for i, w in enumerate(words)}
    said = {w for kind in KINDS for e in data.load(kind, "train", "en") for w in e.text.split() if w in place}
    known = sorted(said)
    near = {}
    for start in range(0, len(known), 256):
        part = known[start : start + 256]
        likeness = vectors[[place[w] for w in part]] @ vectors.T  # [part, words]
        top = np.argpartition(-likeness, most)[:, : most + 1]  # with the word itself
        for word, columns, row in zip(part, top, likeness, strict=True):
            best = sorted(columns, key=lambda i: -row[i])
            near[word] = tuple(words[i] for i in best if words[i] != word and row[i] >= least)
    return near


def sentences(n: int, lang: str = "en", seed: int = 0) -> list[str]:
    """``n`` different new sentences, sorted.

    Args:
        n: how many.
        lang: ``"en"`` or ``"zh"``.
        seed: makes them repeatable.

    Raises:
        ValueError: an unknown language.
    """
    if lang not in data.LANGS:
        raise ValueError(f"lang must be one of {data.LANGS}, got {lang!r}.")
    rng, found = random.Random(seed), set[str]()
    near, gap = (neighbours(), " ") if lang == "en" else ({}, "")
    texts = {kind: [e.text for e in data.load(kind, "train", lang)] for kind in KINDS}
    while len(found) < n:
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        words = _words(rng.choice(texts[kind]), lang)
        if rng.random() < CROSS:
            other = _words(rng.choice(texts[rng.choice(("people", "people", "not_a_command"))]), lang)
            words = words[: rng.randint(0, len(words))] + other[rng.randint(0, len(other)) :]
        words = [rng.choice(near[w]) if near.get(w) and rng.random() < SWAP else w for w in words]
        text = gap.join(w for w in words if rng.random() >= LOSE)
        if text and rng.random() < AROUND:
            text = chatter(text, texts["not_a_command"], lang, rng)
        if text and len(text.encode()) <= data.LENGTH:
            found.add(text)
    return sorted(found)


def _words(text: str, lang: str) -> list[str]:
    """What is swapped, cut and lost: words in English, characters in Chinese."""
    return text.split() if lang == "en" else list(text)
