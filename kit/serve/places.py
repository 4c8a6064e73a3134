"""Places at one model: so many answers at a time, and a queue with an end for those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.batch import QueueFull

MEMORY = 0.9  # share of the mean time of an answer that is left after each new one


class Places:
    """Who may come in, and when it makes sense to ask again.

    Args:
        rows: answers at a time. ``queue``: those that may wait besides.

    Attributes:
        open: answers that run or wait.
    """

    def __init__(self, rows: int, queue: int) -> None:
        self.rows, self.queue, self.open = rows, queue, 0
        self._mean_s = 1.0  # of an answer, from start to end

    @property
    def running(self) -> int:
        """Answers that have a row."""
        return min(self.open, self.rows)

    @property
    def waiting(self) -> int:
        """Answers without one."""
        return max(self.open - self.running, 0)

    def retry_after_s(self) -> float:
        """When it makes sense to ask again: the queue moves on by a row's share of an answer."""
        return max(1.0, self._mean_s * (self.waiting + 1) / self.rows)

    def need(self, places: int) -> None:
        """Raises QueueFull if so many more do not find a place."""
        if self.open + places > self.rows + self.queue:
            raise QueueFull(f"{self.open} answers are open, and {self.rows + self.queue} is the most.")

    def took(self, seconds: float) -> None:
        """An answer is complete; so long it took."""
        self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * seconds


class Turns(Places):
    """Places at another server: what it is asked at a time is bounded here, and so is who waits for it."""

    def __init__(self, rows: int, queue: int) -> None:
        super().__init__(rows, queue)
        self._free = asyncio.Semaphore(rows)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """A row inside the block; callers get one in the order in which they came.

        Raises:
            QueueFull: too many wait already.
        """
        self.need(1)
        self.open += 1
        try:
            async with self._free:
                start = time.perf_counter()
                yield
                self.took(time.perf_counter() - start)
        finally:
            self.open -= 1
