"""The offline queue: requests that may wait are kept until somebody can answer them, the oldest first."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

J = TypeVar("J")
MOST_TRIES = 20


class Full(RuntimeError):
    """No place is left."""


@dataclass
class Ticket(Generic[J]):
    """A request that waits, or what became of it.

    Attributes:
        id: the ticket. ``job``: the request. ``since_s``: from when.
        tries: how often it was sent since.
        status: HTTP status once it is over; 202 until then.
        body, headers: the answer.
    """

    id: str
    job: J
    since_s: float
    tries: int = 0
    status: int = 202
    body: Any = None
    headers: dict[str, str] | None = None


class Waiting(Generic[J]):
    """All tickets; of those that are over, the last ones.

    Args:
        places: requests that may wait.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waits: OrderedDict[str, Ticket[J]] = OrderedDict()
        self._over: OrderedDict[str, Ticket[J]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waits)

    def hold(self, job: J, now_s: float) -> Ticket[J]:
        """Keep a request. Raises Full."""
        if len(self._waits) >= self._places:
            raise Full(f"{len(self._waits)} requests wait already.")
        ticket = Ticket(uuid.uuid4().hex, job, now_s)
        self._waits[ticket.id] = ticket
        return ticket

    def find(self, id: str) -> Ticket[J] | None:
        """A ticket; None: unknown, or forgotten."""
        return self._waits.get(id) or self._over.get(id)

    def waits(self) -> list[Ticket[J]]:
        """Those that wait, the oldest first."""
        return list(self._waits.values())

    def close(self, ticket: Ticket[J], status: int, body: Any, headers: dict[str, str]) -> None:
        """It is over; its answer can be fetched."""
        ticket.status, ticket.body, ticket.headers = status, body, headers
        self._waits.pop(ticket.id, None)
        self._over[ticket.id] = ticket
        while len(self._over) > max(self._places, 1):
            self._over.popitem(last=False)
