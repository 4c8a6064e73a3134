"""The baseline, and how the models are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kit import data, measure
from kit.data import Example
from kit.measure import accuracy
from kit.models.intent import IntentNet
from kit.train.confidence import probabilities


def baseline(examples: Sequence[Example], lang: str) -> Any:
    """TF-IDF of characters (and of words, for English) and a linear SVM, for one language.

    Returns:
        A scikit-learn pipeline: ``.predict(texts)`` gives labels.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    features = [TfidfVectorizer(analyzer="char", ngram_range=(1, 5), sublinear_tf=True, min_df=2)]
    if lang == "en":
        features.append(TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True))
    own = [e for e in examples if e.lang == lang]
    return make_pipeline(make_union(*features), LinearSVC(C=1.0)).fit(
        [e.text for e in own], [e.label for e in own]
    )


def correct(model: IntentNet, examples: Sequence[Example]) -> np.ndarray:
    """Whether each example got its own label: bool [len(examples)]."""
    return probabilities(model, examples).argmax(1) == data.labels(examples)


def baseline_correct(pipelines: Mapping[str, Any], examples: Sequence[Example]) -> np.ndarray:
    """Whether the baseline of its language gives each example its own label: bool [len(examples)]."""
    hits = np.zeros(len(examples), bool)
    for lang, pipeline in pipelines.items():
        own = [i for i, e in enumerate(examples) if e.lang == lang]
        if own:
            said = pipeline.predict([examples[i].text for i in own])
            hits[own] = said == np.array([examples[i].label for i in own])
    return hits


def _by_speech(ask: Callable[[list[Example]], Any]) -> dict[str, Any]:
    """What ``ask`` says of the test sentences of templates and of people, by language."""
    return {
        f"{kind}, {lang}": ask(data.load(kind, "test", lang))
        for kind in ("templates", "people")
        for lang in data.LANGS
    }


def by_speech(hits: Callable[[list[Example]], np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Accuracy on the test sentences of templates and of people, by language: see ``measure.accuracy``.

    Args:
        hits: examples -> whether each was right, such as ``lambda es: correct(model, es)``.
    """
    return _by_speech(lambda examples: accuracy(hits(examples)))


def lead(
    ours: Callable[[list[Example]], np.ndarray], theirs: Callable[[list[Example]], np.ndarray]
) -> dict[str, tuple[float, float, float]]:
    """Points of accuracy by which ours is ahead, by kind of speech: see ``measure.lead``.

    Args:
        ours: examples -> whether each was right, as for ``by_speech``.
        theirs: the same for the model that it is compared with.
    """
    return _by_speech(lambda examples: measure.lead(ours(examples), theirs(examples)))


def guesses(model: IntentNet, text: str, most: int = 3) -> list[dict[str, Any]]:
    """The most likely intents of one sentence, as people type it, each with its probability in percent."""
    said = Example(data.normalise(text), data.NOT_A_COMMAND, "en", "people", "")  # only the text is read
    p = probabilities(model, [said])[0]
    return [{"intent": data.INTENTS[i], "probability (%)": 100 * p[i]} for i in np.argsort(-p)[:most]]


def mixups(model: IntentNet, examples: Sequence[Example], most: int = 12) -> tuple[np.ndarray, list[str]]:
    """How often each of the commonest intents was taken for each of them, and for any other intent.

    Returns:
        Counts [most, most + 1], the last column being all other intents; and the names of the rows.
    """
    was, said = data.labels(examples), probabilities(model, examples).argmax(1)
    common = [i for i, _ in Counter(was.tolist()).most_common(most)]
    counts = np.array([[np.sum((was == a) & (said == b)) for b in common] for a in common])
    other = np.array([np.sum(was == a) for a in common]) - counts.sum(1)
    return np.column_stack([counts, other]), [data.INTENTS[i] for i in common]


def confusions(model: IntentNet, examples: Sequence[Example], most: int = 10) -> list[dict[str, Any]]:
    """The mix-ups that happen most: what it was, what the model said, how often, and the shortest sentence.

    An English sentence comes before a Chinese one.
    """
    said = [data.INTENTS[i] for i in probabilities(model, examples).argmax(1)]
    wrong = [(e, s) for e, s in zip(examples, said, strict=True) if e.label != s]
    rows = []
    for (was, said_), n in Counter((e.label, s) for e, s in wrong).most_common(most):
        found = [e for e, s in wrong if (e.label, s) == (was, said_)]
        text = min(found, key=lambda e: (data.LANGS.index(e.lang), len(e.text))).text
        rows.append({"it was": was, "the model said": said_, "times": n, "shortest example": text})
    return rows
