"""Chapter 06 behind the words of chapter 07: one answer at a time, several tokens a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from kit import decode, speculate
from kit.batch import Event, Job, QueueFull
from kit.decode.text import TextStream
from kit.engine import Engine
from kit.serve.settings import ModelSettings
from kit.speculate import Adaptive, Draft, Length, Round, Target, open_draft, rounds
from kit.speculate.graphs import with_hidden


@dataclass
class _Running:
    job: Job
    rounds: Iterator[Round]
    stream: TextStream
    made: int = 0


class Speculator:
    """What a writer drives, with a draft.

    Args:
        target, draft: the pair.
        length: guesses in a round.
        queue: requests that may wait.
        seen: hears of every round: guesses, and those that stood.
    """

    def __init__(
        self, target: Target, draft: Draft, length: Length | int, queue: int, seen: Callable[[int, int], None]
    ) -> None:
        self._target, self._draft, self._length, self._queue, self._seen = target, draft, length, queue, seen
        self._waiting: deque[Job] = deque()
        self._now: _Running | None = None

    @property
    def idle(self) -> bool:
        return not self._waiting and self._now is None

    @property
    def running(self) -> tuple[str, ...]:
        now = self._now  # the thread may end it meanwhile
        return (now.job.id,) if now else ()

    def submit(self, job: Job, now_s: float = 0.0) -> None:
        """As of ``Batcher``."""
        if len(self._waiting) >= self._queue:
            raise QueueFull(f"{len(self._waiting)} requests wait already; the queue holds {self._queue}.")
        self._waiting.append(job)

    def cancel(self, id: str) -> Event | None:
        """As of ``Batcher``."""
        if self._now and self._now.job.id == id:
            self._now = None
            return Event(id, None, "", "cancelled")
        for job in self._waiting:
            if job.id == id:
                self._waiting.remove(job)
                return Event(id, None, "", "cancelled")
        return None

    def join(self, now_s: float = 0.0) -> list[Event]:
        """Begin the next answer, if none runs: its first token."""
        if self._now is not None or not self._waiting:
            return []
        job = self._waiting.popleft()
        made = rounds(
            self._target, self._draft, job.prompt, job.max_tokens,
            length=self._length, sampling=job.sampling, eos=job.eos,
        )  # fmt: skip
        self._now = _Running(job, made, TextStream(job.stop))
        return self._step(self._now)

    def advance(self) -> list[Event]:
        """The next round of the answer that runs."""
        return self._step(self._now) if self._now else []

    def _step(self, now: _Running) -> list[Event]:
        brought = next(now.rounds, None)
        if brought is None:
            self._now = None
            return [Event(now.job.id, None, now.stream.finish(), "stop")]
        self._seen(brought.guessed, brought.kept)
        events = []
        for token in brought.tokens:
            now.made += 1
            text = now.stream.push(token)
            if now.stream.stopped:
                self._now = None
                return [*events, Event(now.job.id, token, text, "stop")]
            if now.made == now.job.max_tokens:
                self._now = None
                return [*events, Event(now.job.id, token, text + now.stream.finish(), "length")]
            events.append(Event(now.job.id, token, text))
        return events


def open_speculator(
    settings: ModelSettings, path: Path, seen: Callable[[int, int], None]
) -> tuple[Callable[[], Speculator], int, int, int]:
    """What a writer needs: a ``Speculator`` to make, rows, context and vocabulary."""
    model = onnx.load(path)
    target = Engine(with_hidden(model).SerializeToString(), settings.context)
    draft = open_draft(settings.draft, **({} if settings.draft == "ngram" else {"context": settings.context}))
    requests = decode.requests()[:2]
    costs = speculate.costs(target, draft, requests)

    def make() -> Speculator:
        return Speculator(target, draft, Adaptive(costs), settings.queue + 1, seen)

    return make, 1, settings.context, target.vocab
