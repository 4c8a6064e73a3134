"""Ask the real models once, and keep what they said: ``python -m kit.route.record`` writes ``answers.csv``.

On commands, the edge model of chapter 03 and the teachers of chapter 04, which only the cloud runs. On open
questions with known answers, SmolLM2. All confidences are calibrated on the dev split, as chapter 01 does,
so that a threshold means the same for everybody; SmolLM2's is the mean probability of its tokens, as it is.
"""

from __future__ import annotations

import csv
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit import artifacts, data
from kit.route.answers import COLUMNS, FILE

KINDS = ("templates", "people", "not_a_command")
MOST_TOKENS = 24
ASKED = "{question} Answer in a few words."
SHOWN = 60
"""Characters of an answer that are kept."""


def judge(question: str, known: str, said: str) -> bool:
    """Is the known answer in what was said, word for word, whatever case, punctuation and articles?

    Strict: another wording, or half of a name, is wrong, and so is a word that the question holds already.
    """

    def words(text: str) -> str:
        return " " + " ".join(w for w in data.normalise(text).split() if w not in ("the", "a", "an")) + " "

    return words(known) in words(said) and words(known) not in words(question)


def questions() -> Iterator[tuple[str, str, str]]:
    """Questions of chatterbot-corpus with known answers: (language, question, answer)."""
    import chatterbot_corpus
    import yaml

    folder = Path(chatterbot_corpus.__file__).parent / "data"
    for lang, name in (("en", "english"), ("zh", "chinese")):
        turns = yaml.safe_load((folder / name / "trivia.yml").read_text("utf-8"))["conversations"]
        yield from {
            q: (lang, q, known) for q, known in ((str(t[0]), str(t[1]).strip()) for t in turns)
        }.values()


def calibrated(p: np.ndarray, true: np.ndarray, dev: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities that fit how often they are right on the dev split.

    Args:
        p: as a model says them, [n, classes]. ``true``: class [n]. ``dev``: which rows, bool [n].

    Returns:
        The same, calibrated, [n, classes]; and the temperature.
    """
    from kit.compress.labels import softmax
    from kit.train import temperature

    z = np.log(np.maximum(p, 1e-12))
    t = temperature(z[dev], true[dev])
    return softmax(z / t), t


def edge_model() -> Callable[[Sequence[str]], np.ndarray]:
    """What asks the edge model: texts -> probabilities [n, classes]."""
    from kit.compress.labels import softmax
    from kit.engine import session

    opened = session(artifacts.get("intent.int8"), threads=1)

    def ask(texts: Sequence[str]) -> np.ndarray:
        x = data.encode(texts)
        parts = (opened.run(None, {"bytes": x[i : i + 256]})[0] for i in range(0, len(x), 256))
        return softmax(np.concatenate(list(parts)))

    return ask


def classified(report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Rows of all sentences of dev and test, answered by the edge model and the teachers."""
    from kit.compress import ask_teacher

    ask_edge = edge_model()
    for lang in data.LANGS:
        found = [(s, e) for s in ("dev", "test") for k in KINDS for e in data.load(k, s, lang)]
        texts, true = [e.text for _, e in found], data.labels([e for _, e in found])
        dev = np.array([split == "dev" for split, _ in found])
        said = {}
        for name, ask in (
            ("edge", ask_edge),
            ("cloud", lambda texts, lang=lang: ask_teacher(texts, lang)),
            ("english", lambda texts: ask_teacher(texts, "en")),
        ):
            said[name], t = calibrated(ask(texts), true, dev)
            hits = said[name].argmax(1) == true
            report(
                f"{lang} {name}: {hits[dev].mean():.1%} on dev, {hits[~dev].mean():.1%} on test, T {t:.2f}"
            )
        for i, (split, e) in enumerate(found):
            row: dict[str, Any] = {"split": split, "lang": lang, "kind": e.kind, "text": e.text}
            row["intent"] = e.label
            for name, p in said.items():
                best = int(p[i].argmax())
                row[f"{name}_said"], row[f"{name}_sure"] = data.INTENTS[best], round(float(p[i, best]), 3)
                row[f"{name}_right"] = int(best == true[i])
            yield row


def written(engine: Any, question: str) -> tuple[str, float]:
    """What SmolLM2 answers, greedily, and the mean probability (geometric) of its tokens."""
    from kit.compress.labels import softmax
    from kit.decode.decoder import EOS
    from kit.engine import chat_ids, tokenizer

    engine.reset()
    logits, tokens, logs = engine.prefill(chat_ids(ASKED.format(question=question))), [], []
    while len(tokens) < MOST_TOKENS:
        p = softmax(logits)
        token = int(p.argmax())
        logs.append(float(np.log(p[token])))
        if token == EOS:
            break
        tokens.append(token)
        logits = engine.step(token)
    return tokenizer().decode(tokens), float(np.exp(np.mean(logs)))


def answered(report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Rows of open questions: the edge model can only say that it is no command; SmolLM2 answers."""
    from kit.engine import Engine

    ask_edge, engine = edge_model(), Engine(artifacts.get("smollm2.int4"))
    asked = list(questions())
    p = ask_edge([data.normalise(q) for _, q, _ in asked])
    right = 0
    for (lang, question, known), edge in zip(asked, p, strict=True):
        said, sure = written(engine, question)
        good = int(judge(question, known, said))
        right += good
        split = "dev" if zlib.crc32(question.encode()) % 3 == 0 else "test"
        cloud = {"said": " ".join(said.split())[:SHOWN], "sure": round(sure, 3), "right": good}
        row: dict[str, Any] = {"split": split, "lang": lang, "kind": "question", "text": question}
        row["intent"] = known
        best = int(edge.argmax())
        row |= {"edge_said": data.INTENTS[best], "edge_sure": round(float(edge[best]), 3), "edge_right": 0}
        yield row | {f"{name}_{key}": v for name in ("cloud", "english") for key, v in cloud.items()}
    report(f"questions: SmolLM2 has {right} of {len(asked)} right")


def times_ms(levels: int = 11, most: int = 300, repeats: int = 3) -> dict[str, list[float]]:
    """Service times of one sentence at a time, as quantiles: the shortest of some repeats of each."""
    from kit.compress import ask_teacher

    ask_edge, found = edge_model(), {}
    texts = [e.text for e in data.load("people", "test", "en")][:most]
    for name, ask in (("edge", ask_edge), ("cloud", lambda texts: ask_teacher(texts, "en"))):
        ask(texts[:2])
        best = []
        for text in texts:
            took = []
            for _ in range(repeats):
                began = time.perf_counter()
                ask([text])
                took.append(1000 * (time.perf_counter() - began))
            best.append(min(took))
        found[name] = [round(float(v), 3) for v in np.quantile(best, np.linspace(0, 1, levels))]
    return found


def record(file: Path = FILE, report: Callable[[str], None] = print) -> None:
    """Write the table."""
    rows = [*classified(report), *answered(report)]
    with file.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    report(f"{file.name}: {len(rows)} rows, {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    record()
    for name, quantiles in times_ms().items():
        print(f"{name}: service_quantiles_ms = {quantiles}")
