"""Drive a batcher through a stream of requests, in real time or on a clock of its own, and keep records.

The same loop runs both: the real engine on the real clock, and an engine that only says how long it would
take (``predict``) on a clock that it moves itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kit.batch.core import Batcher, Event, Job, Rows
from kit.batch.rules import Rule
from kit.records import Builder, Records

BOOKKEEPING_S = 0.005  # between two steps; a shorter gap is none


class Clock(Protocol):
    """Seconds since the start of a run, and a way to wait."""

    def now_s(self) -> float: ...
    def wait_until(self, time_s: float) -> None: ...


class RealClock:
    """Time as it passes."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def now_s(self) -> float:
        return time.perf_counter() - self._start

    def wait_until(self, time_s: float) -> None:
        if (left := time_s - self.now_s()) > 0:
            time.sleep(left)


class Source(Protocol):
    """Where requests come from."""

    @property
    def next_s(self) -> float: ...  # when the next comes; infinity: nobody before somebody is answered

    def due(self, now_s: float) -> list[tuple[float, Job]]: ...
    def ended(self, id: str, now_s: float) -> None: ...


class Arrivals:
    """An open loop: requests come at their times, whether or not the earlier ones were answered.

    Args:
        times_s: when each comes, rising.
        jobs: as many.
    """

    def __init__(self, times_s: Sequence[float], jobs: Sequence[Job]) -> None:
        self._ahead = list(zip(times_s, jobs, strict=True))[::-1]

    @property
    def next_s(self) -> float:
        return self._ahead[-1][0] if self._ahead else math.inf

    def due(self, now_s: float) -> list[tuple[float, Job]]:
        """Those whose time has come, each with its time."""
        found = []
        while self._ahead and self._ahead[-1][0] <= now_s:
            found.append(self._ahead.pop())
        return found

    def ended(self, id: str, now_s: float) -> None:
        """Nobody waits for an answer before asking again."""


class Clients:
    """A closed loop: so many clients, each asks again as soon as it is answered.

    Args:
        count: clients.
        jobs: all requests, in the order in which they are asked.
    """

    def __init__(self, count: int, jobs: Sequence[Job]) -> None:
        self._ahead = list(jobs)[::-1]
        self._free = [0.0] * count  # since when each client without a request is free

    @property
    def next_s(self) -> float:
        return self._free[0] if self._free and self._ahead else math.inf

    def due(self, now_s: float) -> list[tuple[float, Job]]:
        """A request for each client that is free."""
        found = []
        while self._free and self._ahead:
            found.append((self._free.pop(0), self._ahead.pop()))
        return found

    def ended(self, id: str, now_s: float) -> None:
        """That client is free again."""
        self._free.append(now_s)


@dataclass(frozen=True)
class Span:
    """What a row did for a while: "prompt" (reading one), "talking" (making tokens), "kept" (neither)."""

    row: int
    id: str
    kind: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Run:
    """What happened.

    Attributes:
        records: one row for each request.
        tokens: id -> the tokens of its answer.
        token_s: when each token of anybody was there, rising, [all tokens].
        spans: what each row did, for a picture.
        steps, row_steps, idle_row_steps, moves: as of ``Batcher``.
    """

    records: Records
    tokens: dict[str, tuple[int, ...]]
    token_s: np.ndarray
    spans: list[Span]
    steps: int
    row_steps: int
    idle_row_steps: int
    moves: int

    @property
    def rows_per_step(self) -> float:
        """Rows in a step, on average; those that are only kept do not count."""
        return (self.row_steps - self.idle_row_steps) / max(self.steps, 1)

    def steady_tps(self, clients: int) -> float:
        """Tokens per second while so many clients were all waiting for an answer: until the first of them
        had nothing more to ask. What comes later is a run that empties, not a load."""
        until_s = np.sort(self.records["last_token_s"])[max(len(self.records) - clients, 0)]
        return float((self.token_s <= until_s).sum() / until_s)

    @property
    def waste(self) -> float:
        """Part of all row-steps that made no token for anybody."""
        return self.idle_row_steps / max(self.row_steps, 1)


def run(engine: Rows, rule: Rule, source: Source, clock: Clock | None = None, model: str = "") -> Run:
    """Answer all that comes from ``source`` and keep records of it.

    Args:
        engine: whose rows are used.
        rule: who may start, and when.
        source: ``Arrivals`` or ``Clients``.
        clock: the real one, if left out.
        model: name for the records.

    Raises:
        RuntimeError: the rule lets requests wait for ever.
    """
    clock = clock or RealClock()
    batcher, book = Batcher(engine, rule, queue=1_000_000, stream=_NoText), _Book(rule.name, model)
    while not batcher.idle or source.next_s < math.inf:
        start = clock.now_s()
        for scheduled_s, job in source.due(start):
            batcher.submit(job, scheduled_s)
            book.asked(job, scheduled_s, start)
        batcher.closing = source.next_s == math.inf
        joined = batcher.join(start)
        read = clock.now_s()
        rows = list(zip(batcher.running, batcher.talking, strict=True))
        book.rows(rows, {e.id for e in joined}, start, read)
        made = batcher.advance()
        end = clock.now_s()
        book.rows(rows, set(), read, end)
        for events, now in ((joined, read), (made, end)):
            book.events(events, now)
            for event in events:
                if event.finish:
                    source.ended(event.id, now)
        if not rows and not joined:
            if (until_s := min(source.next_s, batcher.wake_s)) == math.inf:
                raise RuntimeError(f"rule {rule.name!r} starts nobody, though nobody else will come.")
            clock.wait_until(until_s)
    return book.close(batcher)


class _NoText:
    """In place of a ``TextStream``: tokens are counted here, not read."""

    stopped = False

    def __init__(self, stop: object = ()) -> None:
        pass

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


class _Book:
    """What happened so far."""

    def __init__(self, policy: str, model: str) -> None:
        self._names = {"policy": policy, "model": model, "tier": "edge"}
        self._open: dict[str, dict] = {}
        self._records, self._tokens = Builder(), dict[str, list[int]]()
        self._token_s, self._spans = list[float](), list[Span]()
        self._now: dict[int, Span] = {}  # the span that each row is in

    def asked(self, job: Job, scheduled_s: float, sent_s: float) -> None:
        row = {"id": job.id, "scheduled_s": scheduled_s, "sent_s": sent_s, "tokens_in": len(job.prompt)}
        self._open[job.id], self._tokens[job.id] = row, []

    def events(self, events: Sequence[Event], now_s: float) -> None:
        for event in events:
            row = self._open[event.id]
            row.setdefault("first_token_s", now_s)
            if event.token is not None:
                self._tokens[event.id].append(event.token)
                self._token_s.append(now_s)
            if event.finish:
                made = len(self._tokens[event.id])
                self._records.append(
                    **self._open.pop(event.id), **self._names,
                    last_token_s=now_s, tokens_out=made, outcome="answered",
                )  # fmt: skip

    def rows(self, rows: Sequence[tuple[str, bool]], new: set[str], start_s: float, end_s: float) -> None:
        """Rows in use from ``start_s`` to ``end_s``: their ids, and whether they talk."""
        if end_s <= start_s:
            return
        for row, (id, talks) in enumerate(rows):
            kind = "prompt" if id in new else "talking" if talks else "kept"
            old = self._now.get(row)
            if old and (old.id, old.kind) == (id, kind) and start_s - old.end_s < BOOKKEEPING_S:
                start = old.start_s
            else:
                start = start_s
                if old:
                    self._spans.append(old)
            self._now[row] = Span(row, id, kind, start, end_s)

    def close(self, batcher: Batcher) -> Run:
        tokens = {id: tuple(made) for id, made in self._tokens.items()}
        counts = (batcher.steps, batcher.row_steps, batcher.idle_row_steps, batcher.moves)
        token_s = np.array(self._token_s)
        return Run(self._records.build(), tokens, token_s, [*self._spans, *self._now.values()], *counts)
