"""Stations as events need them: they start work now, and things may change meanwhile: servers, health, heat.

The flow's stations know an end as soon as somebody arrives. Here servers come and go, so nothing is known
before it happens. Who is at a station is called a visit; its station tells it when it is served.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kit.simulate.llm import Engine
from kit.simulate.scenario import Tier
from kit.simulate.stations import HOT
from kit.simulate.world import station

nan = float("nan")
FULL = "HTTP 503: the queue is full"
TOO_LONG = "HTTP 400: the request does not fit the memory"


@dataclass(slots=True, eq=False)
class Visit:
    """One attempt of a request, at one tier. Times in seconds; NaN: not yet.

    Attributes:
        job: whatever the caller keeps for the request. ``number``: of the attempt, from 1 on.
        need: see `kit.simulate.services.needs`, for this request alone.
        down_s: network delay of its answer.
        turn: how many came before it to this tier.
        gone: its station failed; what it still has in the calendar is void.
        end_s: its answer or its failure was seen. ``failed``: why, if it was a failure.
    """

    job: object
    number: int
    tier: int
    sent_s: float
    need: tuple[float, ...]
    down_s: float
    arrive_s: float = nan
    start_s: float = nan
    first_s: float = nan
    last_s: float = nan
    turn: int = 0
    gone: bool = False
    end_s: float = nan
    failed: str = ""


@dataclass(slots=True)
class Hooks:
    """What a station may ask of the calendar: ``at(time, function, *arguments)``, and whom it tells."""

    at: Callable[..., None]
    served: Callable[[Visit, float], None]
    refused: Callable[[Visit, float, str], None]


@dataclass(slots=True, eq=False)
class Servers:
    """A queue in front of some servers, whose number may change. ``up``: it takes requests."""

    tier: Tier
    hooks: Hooks
    servers: int
    up: bool = True
    waiting: deque[Visit] = field(default_factory=deque)
    serving: dict[Visit, None] = field(default_factory=dict)
    busy_s: float = 0.0
    _heat: float = 0.0
    _free_s: float = 0.0

    @property
    def inside(self) -> int:
        """Who waits or is served."""
        return len(self.waiting) + len(self.serving)

    @property
    def working(self) -> int:
        """Servers at work."""
        return len(self.serving)

    def enter(self, visit: Visit, now_s: float) -> None:
        """Somebody arrives."""
        if len(self.serving) < self.servers and not self.waiting:
            self._start(visit, now_s)
        elif self.tier.queue is not None and len(self.waiting) >= self.tier.queue:
            self.hooks.refused(visit, now_s, FULL)
        else:
            self.waiting.append(visit)

    def resize(self, servers: int, now_s: float) -> None:
        """From now on so many. Work that has begun is finished."""
        self.servers = servers
        self._next(now_s)

    def fail(self, now_s: float) -> None:
        """Everybody here is lost."""
        self.up = False
        lost = [*self.serving, *self.waiting]
        for visit in self.serving:
            self.busy_s -= max(visit.last_s - now_s, 0.0)
        self.serving.clear()
        self.waiting.clear()
        for visit in lost:
            visit.gone = True
            self.hooks.refused(visit, now_s, "connection reset")

    def repair(self, now_s: float) -> None:
        """It works again."""
        self.up, self._free_s = True, now_s

    def _start(self, visit: Visit, now_s: float) -> None:
        takes = visit.need[0]
        if self.tier.throttle_after_s:
            tau = self.tier.throttle_after_s
            self._heat *= math.exp((self._free_s - now_s) / tau)
            takes *= self.tier.throttle_factor if self._heat > HOT else 1.0
            self._heat = 1 - (1 - self._heat) * math.exp(-takes / tau)
            self._free_s = now_s + takes
        visit.start_s, visit.first_s, visit.last_s = now_s, now_s + takes, now_s + takes
        self.busy_s += takes
        self.serving[visit] = None
        self.hooks.at(visit.last_s, self._end, visit)

    def _end(self, now_s: float, visit: Visit) -> None:
        if not visit.gone:
            del self.serving[visit]
            self._next(now_s)
            self.hooks.served(visit, now_s)

    def _next(self, now_s: float) -> None:
        while self.waiting and len(self.serving) < self.servers:
            self._start(self.waiting.popleft(), now_s)


class LiveEngine:
    """A language model's engine, woken whenever something may have ended."""

    def __init__(self, tier: Tier, hooks: Hooks) -> None:
        self.tier, self.hooks, self.up = tier, hooks, True
        self._visits: dict[int, Visit] = {}
        self._count = 0
        self._wake = 0
        self._before_s = 0.0
        self._new(0.0)

    def _new(self, now_s: float) -> None:
        made = station(self.tier)
        assert isinstance(made, Engine)
        self._engine = made
        self._engine.now_s = now_s

    @property
    def inside(self) -> int:
        """Who waits or is served."""
        return len(self._visits)

    @property
    def working(self) -> int:
        """1 if it works."""
        return int(bool(self._visits))

    @property
    def busy_s(self) -> float:
        """Seconds of work so far."""
        return self._before_s + self._engine.busy_s

    def enter(self, visit: Visit, now_s: float) -> None:
        """Somebody arrives."""
        self._visits[self._count] = visit
        prompt, output, most = (np.array([int(tokens)]) for tokens in visit.need)
        self._engine.offer(np.array([self._count]), np.array([now_s]), prompt, output, most)
        self._count += 1
        self._look(now_s)

    def fail(self, now_s: float) -> None:
        """Everybody here is lost."""
        self.up, lost = False, list(self._visits.values())
        self._before_s -= max(self._engine.now_s - now_s, 0.0) if lost else 0.0  # it had worked ahead
        self._visits.clear()
        self._wake += 1
        for visit in lost:
            visit.gone = True
            self.hooks.refused(visit, now_s, "connection reset")

    def repair(self, now_s: float) -> None:
        """It starts empty."""
        self.up = True
        self._before_s += self._engine.busy_s
        self._new(now_s)

    def _look(self, now_s: float) -> None:
        done = self._engine.advance(math.nextafter(now_s, math.inf))
        self._wake += 1
        if (next_s := self._engine.next_event_s) < math.inf:
            self.hooks.at(max(next_s, now_s), self._woken, self._wake)
        times = zip(done.row.tolist(), done.start_s, done.first_s, done.last_s, strict=True)
        for row, start_s, first_s, last_s in times:
            visit = self._visits[row]
            visit.start_s, visit.first_s, visit.last_s = float(start_s), float(first_s), float(last_s)
            if math.isnan(start_s):
                del self._visits[row]
                alone = visit.need[0] + visit.need[2] > self._engine.kv_tokens
                self.hooks.refused(visit, now_s, TOO_LONG if alone else FULL)
            else:
                self.hooks.at(max(visit.last_s, now_s), self._served, row, visit)

    def _served(self, now_s: float, row: int, visit: Visit) -> None:
        if not visit.gone:
            del self._visits[row]
            self.hooks.served(visit, now_s)

    def _woken(self, now_s: float, wake: int) -> None:
        if wake == self._wake:
            self._look(now_s)
