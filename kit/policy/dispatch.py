"""Carrying a route out: events go in, actions come out. The contract; `StandardDispatcher` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kit.policy.words import Request, Route, Status, Target


@dataclass(frozen=True, slots=True)
class Sent:
    """Event: attempt ``attempt`` has left."""

    request_id: str
    attempt: int
    now_s: float


@dataclass(frozen=True, slots=True)
class Answered:
    """Event: attempt ``attempt`` came back with a whole answer, this sure of itself (None: unknown)."""

    request_id: str
    attempt: int
    now_s: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Event: attempt ``attempt`` will bring no answer.

    Attributes:
        reason: for people, such as "HTTP 503".
        retry_after_s: the target asks to be left alone for so long (Retry-After, RFC 9110); None: it
            did not say.
        retryable: False if the request itself is at fault (HTTP 400), so that asking again, here or
            elsewhere, would be no better.
    """

    request_id: str
    attempt: int
    now_s: float
    reason: str
    retry_after_s: float | None = None
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Event: a time that the dispatcher asked for has come."""

    request_id: str
    now_s: float


@dataclass(frozen=True, slots=True)
class SendTo:
    """Action: ask ``target``, and call that attempt ``attempt`` (1, 2, 3, ... for each request)."""

    request_id: str
    attempt: int
    target: Target


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Action: send `TimePassed` at ``time_s``, or as soon as possible afterwards."""

    request_id: str
    time_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Action: give the caller the answer of attempt ``attempt``. The request is over."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Action: tell the caller that there is no answer, and why. The request is over."""

    request_id: str
    status: Status
    reason: str


Event = Sent | Answered | Failed | TimePassed
Action = SendTo | WaitUntil | Answer | GiveUp


class Dispatcher(Protocol):
    """Carries routes out: a state machine without I/O, without a clock and without threads.

    One dispatcher serves many requests, so that a circuit breaker can learn from all of them.

    What the **dispatcher** promises:

    - It does nothing by itself: it moves only inside `start` and `on`, and knows the time only from
      ``now_s``.
    - Each request gets one `Answer` or one `GiveUp`, once. After that, its events return ``()``.
    - Until then, it always has an open attempt or an open wait: a request is never forgotten.
    - Attempts of a request are numbered 1, 2, 3, ... in the order of their `SendTo`.

    What the **driver** (simulator or gateway) promises:

    - It carries out actions in the order in which they come, and never lets time go backwards.
    - For each `SendTo` it reports one `Sent`, and then one `Answered` or one `Failed`. If nobody can
      be reached, `Failed` may come without `Sent`.
    - For each `WaitUntil` it sends one `TimePassed`, not before its time. Waits cannot be taken back;
      a dispatcher ignores those that it no longer needs.
    - Once a request is over it may cancel its open attempts and waits, and need not report them.
    """

    def start(self, request: Request, route: Route, now_s: float) -> Sequence[Action]:
        """Begin a request along ``route`` and return the first actions."""
        ...

    def on(self, event: Event) -> Sequence[Action]:
        """Take one event and return what to do now, perhaps nothing. Late events are ignored."""
        ...
