"""Who may start, and when: four rules, each a few lines. A rule sees the queue and says how many to take.

"One at a time", "static" and "dynamic" are as old as batch processing. "Continuous" is iteration-level
scheduling (Yu et al., "Orca", OSDI 2022), as vLLM does it (Kwon et al., SOSP 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Queue:
    """What a rule sees.

    Attributes:
        waiting: requests in the queue.
        oldest_s: how long the first of them has waited.
        running: rows in use. ``rows``: all of them.
        closing: nobody else will come.
    """

    waiting: int
    oldest_s: float
    running: int
    rows: int
    closing: bool


@dataclass(frozen=True)
class Rule:
    """A scheduler.

    Attributes:
        name: for tables and figures.
        take: how many of those who wait may start now; more than there is room for is no harm.
        keeps_rows: a row whose answer has ended is calculated on, until all of its batch are done.
        deadline_s: the rule must be asked again when the first has waited so long.
    """

    name: str
    take: Callable[[Queue], int]
    keeps_rows: bool = False
    deadline_s: float = math.inf


def take_one(queue: Queue) -> int:
    """The next one, once nobody runs."""
    return 0 if queue.running else 1


def take_full(queue: Queue) -> int:
    """All rows at once: wait until they can be filled. Nobody starts while somebody runs."""
    if queue.running:
        return 0
    return queue.rows if queue.waiting >= queue.rows or queue.closing else 0


def take_in_time(queue: Queue, deadline_s: float) -> int:
    """All rows at once, but nobody waits longer than the deadline for others to come."""
    if queue.running:
        return 0
    full = queue.waiting >= queue.rows
    return queue.rows if full or queue.oldest_s >= deadline_s - 1e-9 or queue.closing else 0


def take_next(queue: Queue) -> int:
    """The next one as soon as a row is free, whoever runs. One a step: a prompt makes the others wait."""
    return 1 if queue.running < queue.rows else 0


ONE = Rule("one at a time", take_one)
STATIC = Rule("static", take_full, keeps_rows=True)
CONTINUOUS = Rule("continuous", take_next)


def dynamic(deadline_ms: float = 200) -> Rule:
    """Start when all rows can be filled, or when the first has waited ``deadline_ms``.

    Raises:
        ValueError: a negative deadline.
    """
    if not deadline_ms >= 0:
        raise ValueError(f"deadline_ms must be at least 0, got {deadline_ms}.")
    take = partial(take_in_time, deadline_s=deadline_ms / 1000)
    return Rule("dynamic", take, keeps_rows=True, deadline_s=deadline_ms / 1000)


RULES = {rule.name: rule for rule in (ONE, STATIC, dynamic(), CONTINUOUS)}
