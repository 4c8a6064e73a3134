"""A language model's engine: rows, KV memory, continuous or static batching; not token by token.

The engine works in **steps**. Before a step, one request that waits may join a free row (as chapter 07's
batcher does): its prompt is read, which makes its first token and lets the others wait. Then one call makes a
token for every row. Between a joining and the next end of an answer nothing changes but the context, which
grows by one token a row, so the time of a step grows by the same amount each time, and the sum over many
steps is a formula. That is the whole trick.

Not here: prompts read in pieces, several prompts in one call, memory in pages, taking a row away.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from kit.simulate.stations import Done, Pending


@dataclass(frozen=True)
class Speed:
    """What an engine's calls cost, in seconds.

    Attributes:
        step_s: a step, whoever is in it (the weights are read once).
        row_s: and for each row. ``context_s``: and for each token that a row looks back on.
        prompt_s: reading a prompt, whatever its length. ``token_s``: and for each of its tokens.
    """

    step_s: float
    row_s: float = 0.0
    context_s: float = 0.0
    prompt_s: float = 0.0
    token_s: float = 0.0


class Engine:
    """One engine with a queue.

    Args:
        speed: what its calls cost.
        rows: conversations at the same time.
        kv_tokens: tokens that fit its memory. A request needs its prompt and the longest answer that it is
            allowed, kept for it from the start; the first in the queue waits until there is room.
        static: rows start together and are kept until the longest answer of the batch is complete.
        queue: places to wait; None: no bound.
    """

    def __init__(
        self,
        speed: Speed,
        rows: int = 8,
        kv_tokens: float = math.inf,
        static: bool = False,
        queue: int | None = None,
    ) -> None:
        self.speed, self.rows, self.kv_tokens, self.static, self.queue = speed, rows, kv_tokens, static, queue
        self.now_s = 0.0  # between two steps
        self.busy_s = 0.0
        self._steps = 0
        # in the queue: row, arrival, prompt, output, reserved
        self._waiting: deque[tuple[int, float, int, int, int]] = deque()
        self._ends: list[tuple[int, int]] = []  # (step after which it is complete, row), a heap
        self._held: dict[int, tuple[int, int]] = {}  # row -> (prompt + output, reserved)
        self._places = 0  # rows in use, with those that are only kept
        self._context = 0  # tokens that all rows look back on
        self._reserved = 0
        self._began: dict[int, tuple[float, float]] = {}  # row -> start, first token
        self._short: list[float] = []  # ends of answers of one token, which need no row
        self._pending = Pending(5)

    def offer(self, row: np.ndarray, arrive_s: np.ndarray, *need: np.ndarray) -> None:
        """``need`` is three arrays: tokens of prompts, of answers, and the most that an answer may have.

        A request that the memory could not hold even alone is refused when it arrives.
        """
        prompt, output, most = need
        self._pending.add(row, arrive_s, prompt, output, prompt + most)

    def inside(self, now_s: float) -> int:
        """See `Station`."""
        return len(self._waiting) + len(self._ends) + sum(end_s > now_s for end_s in self._short)

    def renumber(self, rows: np.ndarray) -> None:
        """See `Station`."""
        self._pending.renumber(rows)
        new = rows.tolist()
        self._waiting = deque((new[row], *rest) for row, *rest in self._waiting)  # type: ignore[misc]
        self._ends = [(step, new[row]) for step, row in self._ends]
        self._held = {new[row]: held for row, held in self._held.items()}
        self._began = {new[row]: began for row, began in self._began.items()}

    @property
    def next_event_s(self) -> float:
        """When to look again if nobody else comes; infinity if nobody is there."""
        if self._waiting or (self._ends and self._ends[0][0] <= self._steps):
            return self.now_s
        return self.now_s + self._time(self._ends[0][0] - self._steps) if self._ends else math.inf

    def advance(self, until_s: float) -> Done:
        """See `Station`. A step that begins before ``until_s`` is done as a whole."""
        arrivals = list(zip(*(c.tolist() for c in self._pending.take(until_s)), strict=True))
        arrivals.reverse()  # the next one at the end
        rows: list[int] = []
        times: list[tuple[float, float, float]] = []
        while True:
            while arrivals and arrivals[-1][1] < self.now_s:  # they came before the step was over
                self._enter(arrivals.pop(), rows, times)
            if self.now_s >= until_s:
                break
            self._leave(rows, times)
            while arrivals and arrivals[-1][1] <= self.now_s:
                self._enter(arrivals.pop(), rows, times)
            if self._waiting or self._places:
                self._join(rows, times)
                if self._ends:
                    self._walk(min(until_s, arrivals[-1][1]) if arrivals else until_s)
            elif arrivals:
                self.now_s = arrivals[-1][1]
            else:
                break
        self._short = [end_s for end_s in self._short if end_s > until_s]
        found = np.array(times).reshape(-1, 3)
        return Done(np.array(rows, np.int64), found[:, 0], found[:, 1], found[:, 2])

    # -- inside

    def _enter(self, request: tuple, rows: list[int], times: list) -> None:
        full = request[4] > self.kv_tokens
        if self.queue is not None:
            free = 0 if self._is_full(request[4]) else self.rows - self._places
            full |= len(self._waiting) >= self.queue + free
        if full:
            rows.append(request[0])
            times.append((np.nan, np.nan, np.nan))
        else:
            self._waiting.append(request)

    def _is_full(self, reserved: int) -> bool:
        return self._places >= self.rows or self._reserved + reserved > self.kv_tokens

    def _join(self, rows: list[int], times: list) -> None:
        """Read the prompt of the next in the queue; with static batching, of as many as there is room for."""
        if self.static and self._places:
            return
        while self._waiting and not self._is_full(self._waiting[0][4]):
            row, _, prompt, output, reserved = self._waiting.popleft()
            start = self.now_s
            took = self.speed.prompt_s + self.speed.token_s * prompt
            self.now_s += took
            self.busy_s += took
            if output <= 1:  # the prompt made its only token
                rows.append(row)
                times.append((start, self.now_s, self.now_s))
                self._short.append(self.now_s)
            else:
                heappush(self._ends, (self._steps + output - 1, row))
                self._held[row] = (prompt + output, reserved)
                self._began[row] = (start, self.now_s)
            if output > 1 or self.static:
                self._places += 1
                self._reserved += reserved
                self._context += prompt + 1
            if not self.static:
                return

    def _time(self, steps: int) -> float:
        """Seconds of so many steps from here."""
        first, half = self._rate()
        return steps * (first + half * (steps - 1))

    def _rate(self) -> tuple[float, float]:
        """Seconds of the next step, and half of what each step takes longer than the one before."""
        s = self.speed
        first = s.step_s + s.row_s * self._places + s.context_s * self._context
        return first, s.context_s * len(self._ends) / 2

    def _walk(self, until_s: float) -> None:
        """Make steps up to the next end of an answer, or to the first boundary at which somebody may join."""
        steps = self._ends[0][0] - self._steps
        first, half = self._rate()
        if not self.static and self._places < self.rows:  # who comes, or is next, might join
            if not self._waiting:
                steps = _steps_to(until_s - self.now_s, steps, first, half)
            elif not self._is_full(self._waiting[0][4]):
                steps = 1
        elif self.queue is not None:  # who comes must be counted at its time
            steps = _steps_to(until_s - self.now_s, steps, first, half)
        took = steps * (first + half * (steps - 1))
        self.now_s += took
        self.busy_s += took
        self._steps += steps
        self._context += steps * len(self._ends)

    def _leave(self, rows: list[int], times: list) -> None:
        """Those whose answer is complete go; their rows too, unless the batch keeps them."""
        while self._ends and self._ends[0][0] <= self._steps:
            row = heappop(self._ends)[1]
            tokens, reserved = self._held.pop(row)
            rows.append(row)
            times.append((*self._began.pop(row), self.now_s))
            if not self.static:
                self._places -= 1
                self._reserved -= reserved
                self._context -= tokens
        if self.static and not self._ends:
            self._places = self._reserved = self._context = 0


def _steps_to(seconds: float, most: int, first: float, half: float) -> int:
    """The fewest steps, at least one and at most ``most``, that take ``seconds`` or more; see `_rate`."""
    if seconds <= first:
        return 1
    if most * (first + half * (most - 1)) <= seconds:
        return most
    b = first - half
    steps = int(seconds / b if half == 0 else (math.sqrt(b * b + 4 * half * seconds) - b) / (2 * half))
    while steps > 1 and (steps - 1) * (first + half * (steps - 2)) >= seconds:  # rounding
        steps -= 1
    while steps * (first + half * (steps - 1)) < seconds:
        steps += 1
    return steps
