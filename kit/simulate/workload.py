"""Who asks what, when: the requests of a scenario, in chunks, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from kit import arrivals, facts
from kit.simulate import recorded
from kit.simulate.draws import gamma, stream
from kit.simulate.scenario import Class, Workload

CHUNK = 2**17
LEVELS = (5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class Requests:
    """Some requests, in the order in which they come. All arrays are [n].

    Attributes:
        id: number in the run. ``at_s``: when the user asks. ``kind``: index of its class.
        payload_bytes, answer_bytes: up and down.
        prompt_tokens, output_tokens: whole numbers; 0 where a model writes no text.
        max_tokens: no answer is longer.
        difficulty: 0 to 1; hidden from policies.
        luck: uniform; decides whether an answer is right, everywhere alike.
        item: row among the recorded answers of its class, -1 if it has none; hidden from policies.
    """

    id: np.ndarray
    at_s: np.ndarray
    kind: np.ndarray
    payload_bytes: np.ndarray
    answer_bytes: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    max_tokens: np.ndarray
    difficulty: np.ndarray
    luck: np.ndarray
    item: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def part(self, which: np.ndarray) -> Requests:
        """Some of them, by mask or index."""
        return Requests(*(getattr(self, f.name)[which] for f in fields(self)))

    @staticmethod
    def join(a: Requests, b: Requests) -> Requests:
        """Those of ``a``, then those of ``b``."""
        return Requests(*(np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(Requests)))


def requests(workload: Workload, seed: int = 0, size: int = CHUNK) -> Iterator[Requests]:
    """The requests of a workload, ``size`` at a time."""
    first = 0
    for chunk, at_s in enumerate(_times(workload, seed, size)):
        yield _asked(workload, seed, chunk, first, at_s)
        first += len(at_s)


def _times(workload: Workload, seed: int, size: int) -> Iterator[np.ndarray]:
    """When they come, in chunks, up to ``seconds``.

    All but a recorded stream begin as one with rate 1 on a clock of its own, which a rate that changes with
    time then stretches (Çinlar 1975): the time at which so much work was expected to have come.
    """
    if workload.arrivals == "recorded" and (trace := arrivals.trace(workload.trace)) is not None:
        yield from _repeated(trace.times_s, workload, size)
        return
    cv = {"gamma": workload.cv, "recorded": _trace(workload).interarrival_cv}.get(workload.arrivals, 1.0)
    clock = _clock(workload, seed)
    now, chunk, at_s = 0.0, 0, np.zeros(1)
    while at_s[-1] < workload.seconds:
        expected = now + np.cumsum(gamma(stream(seed, "gaps", chunk), size, cv))
        now, chunk = float(expected[-1]), chunk + 1
        at_s = np.interp(expected, *clock) if clock else expected / workload.requests_per_s
        yield at_s[at_s < workload.seconds]


def _repeated(times_s: np.ndarray, workload: Workload, size: int) -> Iterator[np.ndarray]:
    """A recorded stream at another rate, again and again until the time is over."""
    span_s = len(times_s) / workload.requests_per_s
    scaled = times_s * span_s / (times_s[-1] + times_s[-1] / len(times_s))
    rounds = int(np.ceil(workload.seconds / span_s))
    for k in range(rounds):
        at_s = scaled + k * span_s
        at_s = at_s[at_s < workload.seconds]
        yield from (at_s[i : i + size] for i in range(0, len(at_s), size))


def _clock(workload: Workload, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Requests expected by some times, and these times; None for a constant rate."""
    rate, seconds = workload.requests_per_s, workload.seconds
    if workload.arrivals == "daily":
        at_s = np.linspace(0, seconds, max(200, int(200 * seconds / workload.day_s)) + 1)
        turn = 2 * np.pi / workload.day_s
        expected = rate * (at_s - (workload.peak - 1) * np.sin(turn * at_s) / turn)  # lowest at midnight
        return np.append(expected, expected[-1] + 1e12 * rate), np.append(at_s, at_s[-1] + 1e12)
    if workload.arrivals == "on_off":
        rng = stream(seed, "bursts")
        n = int(2 * seconds / (workload.on_s + workload.off_s)) + 100
        on, off = rng.exponential(workload.on_s, n), rng.exponential(workload.off_s, n)
        ends = np.cumsum(np.column_stack([off, on]).ravel())  # silence first
        busy = rate * (workload.on_s + workload.off_s) / workload.on_s
        come = np.cumsum(np.column_stack([np.zeros(n), on * busy]).ravel())
        return np.concatenate([[0.0], come]), np.concatenate([[0.0], ends])
    return None


def _trace(workload: Workload) -> facts.Workload:
    return facts.workloads()[workload.trace]


def _asked(workload: Workload, seed: int, chunk: int, first: int, at_s: np.ndarray) -> Requests:
    """What the requests of one chunk are."""
    n, classes = len(at_s), list(workload.classes.values())
    kind = np.zeros(n, np.int64)
    if len(classes) > 1:
        shares = np.cumsum([c.share for c in classes])
        kind = np.searchsorted(shares / shares[-1], stream(seed, "kinds", chunk).random(n), side="right")

    def each(values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Of each request [n], from the value of each class."""
        return np.asarray(values)[kind] if len(classes) > 1 else np.repeat(values, n)

    id = np.arange(first, first + n)
    prompt, output = _lengths(workload, classes, kind, seed, chunk, id)
    most = each([c.max_tokens or 4 * c.output_tokens for c in classes])
    if _as_recorded(workload):
        most = np.maximum(most, output)
    mean = np.clip([c.difficulty for c in classes], 1e-3, 1 - 1e-3)
    return Requests(
        id=id,
        at_s=at_s,
        kind=kind,
        payload_bytes=each([c.payload_bytes for c in classes]),
        answer_bytes=each([c.answer_bytes for c in classes]),
        prompt_tokens=prompt,
        output_tokens=np.minimum(output, most).astype(np.int64),
        max_tokens=np.ceil(most).astype(np.int64),
        difficulty=stream(seed, "difficulty", chunk).random(n) ** each((1 - mean) / mean),  # mean is ``mean``
        luck=stream(seed, "luck", chunk).random(n),
        item=_items(classes, kind, seed, chunk),
    )


def _items(classes: list[Class], kind: np.ndarray, seed: int, chunk: int) -> np.ndarray:
    """Rows of recorded answers, drawn evenly, int [n]."""
    if all(c.answers is None for c in classes):
        return np.full(len(kind), -1)
    rows = [-1 if (found := recorded.of(c)) is None else len(found) for c in classes]
    drawn = stream(seed, "items", chunk).random(len(kind))
    return np.floor(drawn * np.array(rows)[kind]).astype(np.int64)


def _lengths(
    workload: Workload, classes: list[Class], kind: np.ndarray, seed: int, chunk: int, id: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of prompts and answers, int [n]. Classes without text have none, whatever a trace says."""
    n, rng = len(kind), stream(seed, "tokens", chunk)
    if not any(c.prompt_tokens or c.output_tokens for c in classes):
        return np.zeros(n, np.int64), np.zeros(n, np.int64)
    asks = np.array([c.prompt_tokens for c in classes])[kind]
    says = np.array([c.output_tokens for c in classes])[kind]
    if _as_recorded(workload):
        trace = arrivals.trace(workload.trace)
        if trace is not None:
            prompt = trace.prompt_tokens[id % len(trace.times_s)].astype(float)
            output = trace.output_tokens[id % len(trace.times_s)].astype(float)
        else:
            prompt, output = (_marginal(workload, what, rng.random(n)) for what in ("prompt", "output"))
        prompt, output = np.where(asks > 0, prompt, 0), np.where(says > 0, output, 0)
    elif not (asks.any() or says.any()):
        prompt = output = np.zeros(n)
    else:
        normal = rng.standard_normal((2, n))
        sigma = np.sqrt(np.log1p(np.array([c.tokens_cv for c in classes])[kind] ** 2))
        prompt, output = asks * np.exp(sigma * normal[0]), says * np.exp(sigma * normal[1])
    prompt = np.where(asks > 0, np.maximum(prompt, 1), 0)
    output = np.where(says > 0, np.maximum(output, 1), 0)
    return np.round(prompt).astype(np.int64), np.round(output).astype(np.int64)


def _as_recorded(workload: Workload) -> bool:
    """Are prompts and answers as long as in the trace?"""
    return "recorded" in (workload.arrivals, workload.lengths)


def _marginal(workload: Workload, what: str, u: np.ndarray) -> np.ndarray:
    """Lengths whose quantiles are those of a recorded trace, straight lines in between."""
    known = [getattr(_trace(workload), f"{what}_p{level}") for level in LEVELS]
    return np.interp(100 * u, (0, *LEVELS), (known[0] / 2, *known))
