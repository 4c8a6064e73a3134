"""Stations: a queue and the servers behind it, solved for many requests at once.

A station is told who arrives when (`offer`), and asked what it has decided by some time (`advance`). Requests
are rows of the caller's table; a station knows their number only. For a first-come, first-served queue no
events are needed: who arrives in order starts when the server that is free first is free, or at once
(Kiefer and Wolfowitz, 1955). With one server even that is two sums and a maximum (Lindley, 1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Protocol

import numpy as np

HOT = 1 - np.exp(-1)
"""A device that has been busy for its time constant, from cold, is this warm: then it slows down."""


@dataclass(frozen=True)
class Done:
    """What a station has decided, in any order. A refused request has NaN everywhere.

    Attributes:
        row: of the caller's table, int [n].
        start_s: when work on it began. ``first_s``, ``last_s``: its first and last token; for a classifier
            both are the end.
    """

    row: np.ndarray
    start_s: np.ndarray
    first_s: np.ndarray
    last_s: np.ndarray


class Station(Protocol):
    """What the flow needs of a queue with servers. ``busy_s``: server-seconds of work, up to now."""

    busy_s: float

    def offer(self, row: np.ndarray, arrive_s: np.ndarray, *need: np.ndarray) -> None:
        """Requests are on their way: when they arrive, and what they need."""
        ...

    def advance(self, until_s: float) -> Done:
        """Work on, up to a time (that time itself is later's). Nobody may be offered for earlier then."""
        ...

    def inside(self, now_s: float) -> int:
        """Who waits or is served at the time that was last advanced to."""
        ...

    def renumber(self, rows: np.ndarray) -> None:
        """The caller's table has changed: row i is now ``rows[i]``."""
        ...


class Pending:
    """Requests that are on their way, in columns: row, arrival, and what they need."""

    def __init__(self, columns: int) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._columns = columns

    def add(self, *columns: np.ndarray) -> None:
        """More of them. The second column is the time of arrival."""
        if len(columns[0]):
            self._parts.append(columns)

    def take(self, until_s: float) -> tuple[np.ndarray, ...]:
        """Those that have arrived before ``until_s``, in the order of arrival; they are removed."""
        if not self._parts:
            empty = np.zeros(0)
            return (np.zeros(0, np.int64), *[empty] * (self._columns - 1))
        columns = self._parts[0]
        if len(self._parts) > 1:
            columns = tuple(np.concatenate(c) for c in zip(*self._parts, strict=True))
        arrive = columns[1]
        if until_s < np.inf and (later := arrive >= until_s).any():
            self._parts = [tuple(c[later] for c in columns)]
            columns = tuple(c[~later] for c in columns)
        else:
            self._parts = []
        arrive = columns[1]
        if (arrive[1:] >= arrive[:-1]).all():
            return columns
        order = np.argsort(arrive, kind="stable")
        return tuple(c[order] for c in columns)

    def renumber(self, rows: np.ndarray) -> None:
        """Row i is now ``rows[i]``."""
        self._parts = [(rows[p[0]], *p[1:]) for p in self._parts]


class Fifo:
    """Servers in front of one queue, first come, first served.

    Args:
        servers: that work at the same time.
        queue: places to wait; who finds none is refused. None: no bound.
        throttle: (seconds, factor): the only server slows down when hot; see `HOT`.

    Raises:
        ValueError: heat with more than one server, of which each would have its own.
    """

    def __init__(
        self, servers: int = 1, queue: int | None = None, throttle: tuple[float, float] | None = None
    ) -> None:
        if throttle and servers > 1:
            raise ValueError(f"a station that gets hot has one server, got {servers}: use more stations.")
        self.servers, self.queue, self.throttle = servers, queue, throttle
        self._free = [0.0] * servers  # when each is free, a heap
        self._leaves: list[float] = []  # of those inside, a heap; only where a queue has a bound
        self._ends = np.zeros(0)
        self._heat = 0.0
        self.busy_s = 0.0
        self._pending = Pending(3)

    def offer(self, row: np.ndarray, arrive_s: np.ndarray, *need: np.ndarray) -> None:
        """``need`` is one array: seconds of service."""
        self._pending.add(row, arrive_s, need[0])

    def advance(self, until_s: float) -> Done:
        """See `Station`."""
        row, arrive, need = self._pending.take(until_s)
        if not len(row):
            nothing = np.zeros(0)
            return Done(row, nothing, nothing, nothing)
        if self.throttle:
            start, need = self._heated(arrive, need)
        elif self.queue is not None:
            start = self._bounded(arrive, need)
        elif self.servers == 1:
            start = self._alone(arrive, need)
        else:
            start = self._together(arrive, need)
        end = start + need
        took = end - start
        self.busy_s += float(took.sum() if self.queue is None else np.nansum(took))  # NaN: was refused
        inside = np.concatenate([self._ends, end])
        self._ends = inside[inside > until_s]
        return Done(row, start, end, end)

    def inside(self, now_s: float) -> int:
        """See `Station`. Those on their way are not inside."""
        return int((self._ends > now_s).sum())

    def renumber(self, rows: np.ndarray) -> None:
        """See `Station`."""
        self._pending.renumber(rows)

    def _alone(self, arrive: np.ndarray, need: np.ndarray) -> np.ndarray:
        """end[i] = max(end[i - 1], arrive[i]) + need[i], for all i at once."""
        before = np.cumsum(need) - need  # work that came earlier, [n]
        idle = arrive - before
        latest = np.maximum(np.maximum.accumulate(idle), self._free[0])
        start = arrive + (latest - idle)  # exactly ``arrive`` for who does not wait
        self._free[0] = float(start[-1] + need[-1])
        return start

    def _together(self, arrive: np.ndarray, need: np.ndarray) -> np.ndarray:
        """The server that is free first takes the next: it is busy from then, or from the arrival, on."""
        free, take = self._free, heapreplace
        pairs = zip(arrive.tolist(), need.tolist(), strict=True)
        was_free = [take(free, (f if (f := free[0]) > at else at) + takes) for at, takes in pairs]
        return np.maximum(arrive, was_free)

    def _bounded(self, arrive: np.ndarray, need: np.ndarray) -> np.ndarray:
        free, leaves, starts = self._free, self._leaves, []
        room = self.servers + (self.queue or 0)
        for at, takes in zip(arrive.tolist(), need.tolist(), strict=True):
            while leaves and leaves[0] <= at:
                heappop(leaves)
            if len(leaves) >= room:
                starts.append(np.nan)
                continue
            start = max(free[0], at)
            starts.append(start)
            heapreplace(free, start + takes)
            heappush(leaves, start + takes)
        return np.array(starts)

    def _heated(self, arrive: np.ndarray, need: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Warmth goes towards 1 while busy and towards 0 while idle, with one time constant."""
        assert self.throttle
        tau, factor = self.throttle
        free, heat, leaves = self._free[0], self._heat, self._leaves
        room = np.inf if self.queue is None else 1 + self.queue
        starts, takes = [], []
        for at, takes_cold in zip(arrive.tolist(), need.tolist(), strict=True):
            while leaves and leaves[0] <= at:
                heappop(leaves)
            if len(leaves) >= room:
                starts.append(np.nan)
                takes.append(takes_cold)
                continue
            start = max(free, at)
            heat *= np.exp((free - start) / tau)
            took = takes_cold * factor if heat > HOT else takes_cold
            heat = 1 - (1 - heat) * np.exp(-took / tau)
            free = start + took
            starts.append(start)
            takes.append(took)
            heappush(leaves, free)
        self._free[0], self._heat = free, heat
        return np.array(starts), np.array(takes)
