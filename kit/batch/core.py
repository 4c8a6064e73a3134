"""A batcher: many conversations share the steps of one engine. No clock, no thread, no I/O.

Whoever drives it says when a request came, asks for the next step, and hands on what comes back: the
notebook in a loop, chapter 08's server from a thread, a simulation with a clock that never ticked.

Not here: several prompts in one call, a cache shared between rows, taking a row away and giving it back.
"""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kit.batch.rules import CONTINUOUS, Queue, Rule
from kit.decode.decoder import EOS, Finish
from kit.decode.sampling import Sampling
from kit.decode.text import TextStream


class QueueFull(RuntimeError):
    """So many requests wait that one more is refused. Try again later."""


class Rows(Protocol):
    """What a batcher needs of an engine; ``kit.engine.Engine`` has it."""

    rows: int
    context: int
    vocab: int
    pasts: np.ndarray  # tokens in each row, int64 [rows]

    def prefill(self, ids: Sequence[int], row: int = 0) -> np.ndarray: ...
    def step_rows(self, tokens: Sequence[int]) -> np.ndarray: ...
    def copy(self, source: int, target: int) -> None: ...
    def reset(self, row: int = 0) -> None: ...


class Text(Protocol):
    """What makes the text of one answer; ``kit.decode.text.TextStream`` is one."""

    stopped: bool

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


@dataclass(frozen=True)
class Job:
    """One request.

    Attributes:
        id: its name; no two requests that are open may share one.
        prompt: tokens; ``kit.engine.chat_ids(question)`` for a question.
        max_tokens: most tokens to make.
        sampling: how each one is chosen.
        stop: texts that end the answer; they are not part of it.
        eos: the token that ends an answer; None: none does.
    """

    id: str
    prompt: Sequence[int]
    max_tokens: int = 100
    sampling: Sampling = field(default_factory=Sampling)
    stop: str | Sequence[str] = ()
    eos: int | None = EOS


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one request in a step.

    Attributes:
        id: of the request.
        token: that was made; None if it ended without one.
        text: can be shown at once; empty while a character or a stop sequence is open.
        finish: why it ended: "stop" (the model ended it, or a stop sequence), "length" (enough tokens),
            "cancelled"; "" while it goes on. After an event with a reason there is none for this id.
    """

    id: str
    token: int | None
    text: str
    finish: Finish = ""


@dataclass
class _Open:
    """A request that waits or has a row. ``ended``: its answer is complete, but its row is still kept."""

    job: Job
    since_s: float
    pick: Callable[[np.ndarray], int]
    stream: Text
    last: int = 0
    made: int = 0
    ended: bool = False


class Batcher:
    """Requests wait in a queue, join the engine's rows as a rule says, and make one token each per step.

    Rows in use are always 0, 1, ..., n - 1. When one becomes free, the last of them moves into its place.

    Args:
        engine: its rows belong to the batcher.
        rule: who may start, and when; see ``rules``.
        queue: requests that may wait; one more is refused.
        stream: makes the text of one answer, given its stop sequences.

    Attributes:
        closing: set it when nobody else will come, so that no rule waits for company.
        steps: calls of ``step_rows`` so far.
        row_steps: rows in all of them together. ``idle_row_steps``: of these, rows whose answer had ended.
        moves: rows that were moved into a free place.
    """

    def __init__(
        self,
        engine: Rows,
        rule: Rule = CONTINUOUS,
        queue: int = 256,
        stream: Callable[[str | Sequence[str]], Text] = TextStream,
    ) -> None:
        if queue < 1:
            raise ValueError(f"queue must be at least 1, got {queue}: a request waits before it starts.")
        self.engine, self.rule, self.queue, self._stream = engine, rule, queue, stream
        self._waiting: deque[_Open] = deque()
        self._rows: list[_Open] = []
        self.closing = False
        self.steps = self.row_steps = self.idle_row_steps = self.moves = 0

    # -- who is there

    @property
    def waiting(self) -> tuple[str, ...]:
        """Ids in the queue, the oldest first."""
        return tuple(r.job.id for r in self._waiting)

    @property
    def running(self) -> tuple[str, ...]:
        """Ids by row, from row 0 on, with those whose row is only kept."""
        return tuple(r.job.id for r in self._rows)

    @property
    def talking(self) -> tuple[bool, ...]:
        """For each of ``running``: does it still make tokens?"""
        return tuple(not r.ended for r in self._rows)

    @property
    def idle(self) -> bool:
        """Nobody waits and nobody runs."""
        return not self._waiting and not self._rows

    @property
    def wake_s(self) -> float:
        """When the rule wants to be asked again though nothing has happened; infinity if never."""
        return self._waiting[0].since_s + self.rule.deadline_s if self._waiting else float("inf")

    # -- what can be done

    def submit(self, job: Job, now_s: float = 0.0) -> None:
        """Put a request at the end of the queue.

        Args:
            job: the request.
            now_s: time, for rules that look at how long somebody waited.

        Raises:
            QueueFull: too many wait.
            ValueError: empty prompt, unknown tokens, more tokens than the context holds, an id that is
                already open, an empty stop sequence.
            TypeError: ``max_tokens`` is not a whole number, or ``stop`` is not text.
        """
        self._check(job)
        if len(self._waiting) >= self.queue:
            raise QueueFull(f"{len(self._waiting)} requests wait already; the queue holds {self.queue}.")
        pick = job.sampling.picker(job.prompt).pick
        self._waiting.append(_Open(job, now_s, pick, self._stream(job.stop)))

    def cancel(self, id: str) -> Event | None:
        """End a request now. Its row is free at once, unless the rule keeps rows.

        Returns:
            Its last event; None if it is not open (it may just have ended).
        """
        for request in self._waiting:
            if request.job.id == id:
                self._waiting.remove(request)
                return Event(id, None, "", "cancelled")
        for request in self._rows:
            if request.job.id == id and not request.ended:
                request.ended = True
                self._clear()
                return Event(id, None, request.stream.finish(), "cancelled")
        return None

    def step(self, now_s: float = 0.0) -> list[Event]:
        """Let in whom the rule lets in, and make one token for everybody who runs."""
        return self.join(now_s) + self.advance()

    def join(self, now_s: float = 0.0) -> list[Event]:
        """The first half of a step: read the prompts of those who may start. Each makes its first token.

        An error of the engine passes through; the request is then still waiting, and can be cancelled.
        """
        events = []
        for _ in range(min(self.rule.take(self._view(now_s)), self._free(), len(self._waiting))):
            request, row = self._waiting[0], len(self._rows)
            self.engine.reset(row)
            logits = self.engine.prefill(request.job.prompt, row)  # [vocab]
            self._rows.append(self._waiting.popleft())
            events.append(self._token(request, logits))
        self._clear()
        return events

    def advance(self) -> list[Event]:
        """The second half of a step: one call of the engine, one token for each row that still talks."""
        if not self._rows:
            return []
        logits = self.engine.step_rows([r.last for r in self._rows])  # [n, vocab]
        self.steps += 1
        self.row_steps += len(self._rows)
        events = []
        for row, request in enumerate(self._rows):
            if request.ended:  # calculated and thrown away; the row must not grow
                self.engine.pasts[row] -= 1
                self.idle_row_steps += 1
            else:
                events.append(self._token(request, logits[row]))
        self._clear()
        return events

    # -- inside

    def _view(self, now_s: float) -> Queue:
        waited_s = now_s - self._waiting[0].since_s if self._waiting else 0.0
        return Queue(len(self._waiting), waited_s, len(self._rows), self.engine.rows, self.closing)

    def _free(self) -> int:
        return self.engine.rows - len(self._rows)

    def _token(self, request: _Open, logits: np.ndarray) -> Event:
        """Choose a token, and see whether it was the last."""
        token = request.pick(logits)
        if token == request.job.eos:
            request.ended = True
            return Event(request.job.id, None, request.stream.finish(), "stop")
        text = request.stream.push(token)
        request.last, request.made = token, request.made + 1
        finish: Finish = ""
        if request.stream.stopped:
            finish = "stop"
        elif request.made == request.job.max_tokens:
            finish, text = "length", text + request.stream.finish()
        request.ended = finish != ""
        return Event(request.job.id, token, text, finish)

    def _clear(self) -> None:
        """Free the rows of those who have ended: each at once, or all together if the rule keeps them."""
        if self.rule.keeps_rows and not all(r.ended for r in self._rows):
            return
        for row in range(len(self._rows) - 1, -1, -1):
            if self._rows[row].ended:
                last = self._rows.pop()
                if row < len(self._rows):
                    self.engine.copy(len(self._rows), row)
                    self._rows[row] = last
                    self.moves += 1
                self.engine.reset(len(self._rows))

    def _check(self, job: Job) -> None:
        """Raise if the job cannot be done: later it would spoil the step of all the others."""
        if job.id in self.waiting or any(r.job.id == job.id and not r.ended for r in self._rows):
            raise ValueError(f"a request with the id {job.id!r} is open already: give each its own.")
        if len(job.prompt) == 0:
            raise ValueError("the prompt is empty: the model needs at least one token to go on from.")
        if min(job.prompt) < 0 or max(job.prompt) >= self.engine.vocab:
            raise ValueError(f"tokens of a prompt are from 0 to {self.engine.vocab - 1}.")
        if isinstance(job.max_tokens, bool) or not isinstance(job.max_tokens, numbers.Integral):
            raise TypeError(f"max_tokens must be a whole number, got {job.max_tokens!r}.")
        if job.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {job.max_tokens}.")
        if (total := len(job.prompt) + job.max_tokens) > self.engine.context:
            raise ValueError(
                f"a row holds {self.engine.context} tokens, and this request may need {total}: "
                f"{len(job.prompt)} of the prompt and {job.max_tokens} new. Shorten it, or ask for fewer."
            )
