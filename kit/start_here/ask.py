"""Asking: the device, a cloud at the end of a network, a language model. The waiting is real.

The delay itself is simulated: it is drawn from the round trips in ``datasets/networks.csv``. A queue in
the cloud, a lost packet and a bill are later chapters' subjects.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kit import artifacts, data, engine, facts

CLOUDS: dict[str, tuple[str, ...]] = {
    "near cloud": ("fibre_assumed",),
    "middle cloud": ("4g_lte_assumed",),
    "far cloud": ("fibre_assumed", "region_eurasia"),
}
"""Each cloud's links: ids of ``kit.facts.networks()``, whose round trips add up."""


def ms(time_ms: float) -> str:
    """A time as people read it, in milliseconds: whole ones, tenths below ten, hundredths below one."""
    digits = 0 if time_ms >= 10 or time_ms == 0 else 1 if time_ms >= 1 else 2
    return f"{time_ms:.{digits}f}"


@dataclass(frozen=True)
class Answer:
    """What came back for one command, and when.

    Attributes:
        label: one of ``kit.data.INTENTS``.
        confidence: probability that the model gives to ``label``, from 0 to 1.
        network_ms: time spent waiting for the network; 0 on the device.
        compute_ms: time from text to label.
    """

    label: str
    confidence: float
    network_ms: float
    compute_ms: float

    @property
    def total_ms(self) -> float:
        """What the person waits for."""
        return self.network_ms + self.compute_ms

    def __str__(self) -> str:
        total, network, compute = (f"{ms(t):>5}" for t in (self.total_ms, self.network_ms, self.compute_ms))
        return f"{total} ms = {network} network + {compute} computing   {self.label} ({self.confidence:.0%})"


@cache
def _model() -> Any:
    """The INT8 intent model, opened once and run once, so that the first reader's answer is not slower."""
    model = engine.session(artifacts.get("intent.int8"), threads=1)
    model.run(["logits"], {"bytes": data.encode(["warm up"])})
    return model


def answer_on_device(text: str) -> Answer:
    """Ask the model on this machine: from text to label, without any network."""
    model = _model()
    start = time.perf_counter()
    (logits,) = model.run(["logits"], {"bytes": data.encode([data.normalise(text)])})  # [1, intents]
    shares = np.exp(logits[0] - logits[0].max())
    best = int(shares.argmax())
    compute_ms = (time.perf_counter() - start) * 1e3
    return Answer(data.INTENTS[best], float(shares[best] / shares.sum()), 0.0, compute_ms)


def typical(answers: Sequence[Answer]) -> Answer:
    """The answer in the middle, by time: of twenty calls a first, slow one does not count."""
    return sorted(answers, key=lambda answer: answer.total_ms)[len(answers) // 2]


def round_trips_ms(cloud: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``n`` round trips in ms to one of ``CLOUDS``: the sum over its links, shape [n].

    Raises:
        ValueError: no such cloud.
    """
    if cloud not in CLOUDS:
        raise ValueError(f"no cloud is called {cloud!r}: choose one of {', '.join(CLOUDS)}.")
    return np.sum([facts.networks()[link].sample(n, rng) for link in CLOUDS[cloud]], axis=0)


def _wait(ms: float) -> float:
    """Wait at least ``ms``; returns how long it really was, in ms."""
    start = time.perf_counter()
    time.sleep(ms / 1e3)
    return (time.perf_counter() - start) * 1e3


def _there_and_back(text: str, rtt_ms: float) -> Answer:
    """Wait half a round trip, compute, wait the other half."""
    there = _wait(rtt_ms / 2)
    answer = answer_on_device(text)
    return Answer(answer.label, answer.confidence, there + _wait(rtt_ms / 2), answer.compute_ms)


def answer_via_cloud(text: str, cloud: str, rng: np.random.Generator) -> Answer:
    """Ask the same model at the other end of a network: a drawn round trip, really waited for.

    Raises:
        ValueError: no such cloud.
    """
    return _there_and_back(text, float(round_trips_ms(cloud, 1, rng)[0]))


def race(texts: Sequence[str], rng: np.random.Generator, at_a_time: int = 1) -> dict[str, list[Answer]]:
    """Ask the device and every cloud all of ``texts``.

    Args:
        texts: the commands.
        rng: draws the round trips.
        at_a_time: commands on their way to a cloud at the same time. They wait together, so that a
            hundred do not take a hundred times as long.

    Returns:
        ``"device"`` and each of ``CLOUDS`` -> one answer per text, in the order of ``texts``.
    """
    runs = {"device": [answer_on_device(text) for text in texts]}
    with ThreadPoolExecutor(at_a_time) as people:
        for cloud in CLOUDS:
            runs[cloud] = list(people.map(_there_and_back, texts, round_trips_ms(cloud, len(texts), rng)))
    return runs


def total_ms(answers: Sequence[Answer]) -> np.ndarray:
    """Response times in ms, shape [n]."""
    return np.array([a.total_ms for a in answers])


def within(answers: Sequence[Answer], budget_ms: float) -> float:
    """Share of the answers, from 0 to 1, that took at most ``budget_ms``."""
    return float((total_ms(answers) <= budget_ms).mean())


@dataclass(frozen=True)
class Spoken:
    """A streamed answer: its text, and when each token arrived, in ms after the question, shape [n]."""

    text: str
    arrived_ms: np.ndarray

    @property
    def ttft_ms(self) -> float:
        """Time to first token."""
        return float(self.arrived_ms[0])

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token; NaN if there was only one."""
        after = self.arrived_ms[-1] - self.arrived_ms[0]
        return (len(self.arrived_ms) - 1) / after * 1e3 if after > 0 else float("nan")


def _wrapped(piece: str, column: int, width: int = 90) -> tuple[str, int]:
    """``piece`` of a text, with its space a line break if it would pass ``width``; and the new column."""
    if piece.startswith(" ") and column + len(piece) > width:
        piece = "\n" + piece[1:]
    return piece, len(piece.rpartition("\n")[2]) + (0 if "\n" in piece else column)


def ask_llm(question: str, llm: engine.Engine, tokens: int = 100) -> Spoken:
    """Ask a language model, and print the first paragraph of its answer as it comes.

    Args:
        question: as a person asks it.
        llm: SmolLM2, opened. What it was asked before is forgotten.
        tokens: most tokens of the answer.

    Raises:
        ValueError: the model ended its answer before the first token.
    """
    ids = engine.chat_ids(question)
    llm.reset()
    made, shown, arrived, column = [], "", [], 0
    start = time.perf_counter()
    for token in llm.generate(ids, tokens):
        made.append(token)
        text = engine.tokenizer().decode(made)
        if "\n\n" in text:
            break
        arrived.append((time.perf_counter() - start) * 1e3)
        piece, column = _wrapped(text[len(shown) :], column)
        print(piece, end="", flush=True)
        shown = text
    if not arrived:
        raise ValueError(f"the model had nothing to say to {question!r}: ask in other words.")
    return Spoken(shown, np.array(arrived))
