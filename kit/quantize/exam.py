"""The same exam for every variant of a model: what did rounding cost, and how sure is that?

MiniLM's exam: English commands as people say them. Linear heads were fitted once, on the embeddings of the
exact model (see ``heads``); the variants keep them, as a device does that swaps one file for a smaller one.
A few wrong answers more or less depend on which head it was, so ten of them answer. MiniLM and the edge
model were trained in full precision, so their losses are real.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from kit import artifacts, data, measure
from kit.engine import Engine, chat_ids, session, tokenizer
from kit.measure import Timing
from kit.quantize.graphs import matrices
from kit.quantize.heads import lessons, verdicts
from kit.quantize.quality import embed, minilm_inputs

SENTENCES = 300  # of the test
PROMPT = "What is gravity?"


@dataclass(frozen=True)
class Mark:
    """How one variant did.

    Attributes:
        mb: size of its file in MB.
        accuracy: part of the sentences that it got right, 0 to 1 (with several heads, their mean).
        lost: points of accuracy (0 to 100) lost against FP32, with its 95% interval; negative if it won.
        changed: sentences that it answers otherwise than FP32 (the heads' mean).
        sentences: of the test.
        likeness: mean cosine between its embeddings and those of FP32; 1 is the same. NaN if unknown.
    """

    mb: float
    accuracy: float
    lost: tuple[float, float, float]
    changed: float
    sentences: int
    likeness: float = float("nan")


class Exam:
    """MiniLM's exam.

    Attributes:
        learned: texts that the heads were fitted on, people's first.
        texts, answers: the test, and its classes [n].
        exact: embeddings of the test by the exact model, [n, 384].
    """

    def __init__(self, test: Sequence[data.Example]) -> None:
        self.learned = [e.text for e in lessons()]
        self.texts, self.answers = [e.text for e in test], data.labels(test)
        self.exact = embed(session(artifacts.get("minilm.onnx")), self.texts)
        self._heads = artifacts.get("minilm.heads")
        self._said = verdicts(self._heads, self.exact)

    def mark(self, model: Any, mb: float) -> Mark:
        """Let a variant sit the exam.

        Args:
            model: a session, or a ``Workbench``'s model.
            mb: size of its file.
        """
        x = embed(model, self.texts)
        said = verdicts(self._heads, x)  # [heads, n]
        right, before = (one == self.answers for one in (said, self._said))
        return Mark(
            mb=mb,
            accuracy=float(right.mean()),
            lost=measure.lead(before.mean(0), right.mean(0)),
            changed=float((said != self._said).sum(1).mean()),
            sentences=len(self.texts),
            likeness=self._likeness(x, self.exact),
        )

    def mark_file(self, path: Path) -> Mark:
        """Let a file sit the exam."""
        return self.mark(session(path), measure.size_mb(path))

    def drift(self, model: Any, every: int = 12) -> float:
        """How far the embeddings of a part of the test moved: 1 minus the cosine. Quick, and finer than
        accuracy.

        Args:
            model: as in ``mark``.
            every: take each ``every``-th sentence.
        """
        return 1 - self._likeness(embed(model, self.texts[::every]), self.exact[::every])

    @staticmethod
    def _likeness(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum(1).mean())  # both have length 1


@cache
def exam() -> Exam:
    """The exam on 300 English commands as people say them."""
    return Exam(random.Random(0).sample(data.load("people", "test", "en"), SENTENCES))


def one_by_one(texts: Iterable[str]) -> list[dict[str, np.ndarray]]:
    """MiniLM's inputs for each text alone, without padding: for calibration."""
    return [minilm_inputs([text]) for text in texts]


@cache
def _edge_test(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and classes of the test sentences of one kind, in both languages."""
    examples = data.load(kind, "test")
    return data.encode([e.text for e in examples]), data.labels(examples)


def _edge_answers(model: Any, kind: str) -> np.ndarray:
    x, _ = _edge_test(kind)
    rows = [model.run(None, {"bytes": x[i : i + 256]})[0].argmax(1) for i in range(0, len(x), 256)]
    return np.concatenate(rows)


def edge_marks(files: Mapping[str, Path], kind: str = "people") -> dict[str, Mark]:
    """The edge model's exam, in both languages; the first file is what the others are held against.

    Args:
        files: name -> ONNX file.
        kind: ``"people"`` or ``"templates"``.
    """
    said = {name: _edge_answers(session(path), kind) for name, path in files.items()}
    first, (_, truth) = next(iter(said.values())), _edge_test(kind)
    return {
        name: Mark(
            mb=measure.size_mb(files[name]),
            accuracy=float((answers == truth).mean()),
            lost=measure.lead(first == truth, answers == truth),
            changed=int((answers != first).sum()),
            sentences=len(first),
        )
        for name, answers in said.items()
    }


def latencies(files: Mapping[str, Path], feed: dict[str, np.ndarray], rounds: int) -> dict[str, Timing]:
    """Time of one run of each file, timed in turn, by sessions that do not spin.

    Args:
        files: name -> ONNX file.
        feed: inputs by name, the same for all.
        rounds: runs of each.
    """
    opened = {name: session(path, spin=False) for name, path in files.items()}
    return measure.compare({name: lambda s=s: s.run(None, feed) for name, s in opened.items()}, rounds, 5)


def decoding(engines: Mapping[str, Engine], tokens: int = 8, rounds: int = 8) -> dict[str, Timing]:
    """Time in which each engine makes ``tokens`` tokens after the same prompt, timed in turn.

    Args:
        engines: name -> engine, opened with ``spin=False``: threads that spin would slow down the others.
        tokens: made in one round.
        rounds: of each engine.
    """
    ids = chat_ids(PROMPT)

    def work(engine: Engine, first: int) -> None:
        engine.past, token = len(ids), first
        for _ in range(tokens):
            token = int(engine.step(token).argmax())

    for engine in engines.values():
        engine.reset()
    first = {name: int(engine.prefill(ids).argmax()) for name, engine in engines.items()}
    return measure.compare(
        {name: lambda n=name: work(engines[n], first[n]) for name in engines}, rounds, warmup=1
    )


def speed_choice(before: Timing, after: Timing) -> str:
    """How much faster, in the words of the chapter's question."""
    times = measure.ratio(before, after)[0]
    edges = {"slower": 1, "1-2x faster": 2, "2-4x faster": 4}
    return next((word for word, edge in edges.items() if times < edge), "over 4x faster")


def inputs_of(model: onnx.ModelProto, label: str, text: str) -> np.ndarray:
    """What one matrix of SmolLM2 is multiplied with while it reads ``text``: [tokens, inputs].

    Args:
        model: ``smollm2.fp32``, loaded.
        label: of the matrix, as in ``matrices``.
        text: read with an empty cache.
    """
    name = next(name for name, known in matrices(model).items() if known == label)
    tap = next(node.input[0] for node in model.graph.node if name in node.input)
    given = [i.name for i in model.graph.input]
    cut = onnx.utils.Extractor(model).extract_model(given, [tap])  # the layers up to that matrix
    opened = session(cut.SerializeToString())
    ids = np.array([tokenizer()(text).input_ids], np.int64)
    feed: dict[str, np.ndarray] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for i in opened.get_inputs():
        if i.name.startswith("past_key_values."):
            feed[i.name] = np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
    return opened.run([tap], feed)[0][0]


_OPEN = """
import sys
from kit import engine, measure
kept = []
print(measure.peak_memory(lambda: kept.append(engine.Engine(sys.argv[1]))))
"""


def opened_mb(path: Path) -> float:
    """Memory that a new process needs at its peak to open SmolLM2, in MB: weights, cache and all."""
    out = subprocess.run(
        [sys.executable, "-c", _OPEN, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=artifacts.ROOT,
    )
    return float(out.stdout)
