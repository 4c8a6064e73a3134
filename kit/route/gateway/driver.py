"""The dispatcher of `kit.policy` in real time: its actions become calls, timers and cancellations.

Not here: retries, hedges, time limits, fallbacks, escalation, circuit breakers. The dispatcher decides all of
that, the same that the simulator drives; this file only does as it says, and reports what happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from kit.policy import (
    Action,
    Answer,
    Answered,
    Dispatcher,
    Event,
    Failed,
    GiveUp,
    Request,
    Route,
    SendTo,
    Sent,
    Target,
    TimePassed,
    WaitUntil,
)

log = logging.getLogger("kit.gateway")


class NoAnswer(Exception):
    """An attempt brought no answer; the words of `kit.policy.Failed`.

    Args:
        reason: for people. ``retry_after_s``, ``retryable``: see there.
        status, body: what the other server said to it, for a caller who is at fault.
    """

    def __init__(
        self,
        reason: str,
        retry_after_s: float | None = None,
        retryable: bool = True,
        status: int = 0,
        body: dict | None = None,
    ) -> None:
        super().__init__(reason)
        self.retry_after_s, self.retryable, self.status, self.body = retry_after_s, retryable, status, body


class Closable(Protocol):
    """An answer, perhaps still being read."""

    @property
    def confidence(self) -> float | None: ...

    async def close(self) -> None:
        """Nobody wants it (any more)."""
        ...


R = TypeVar("R", bound=Closable)


@dataclass(slots=True)
class Attempt(Generic[R]):
    """Somebody was asked.

    Attributes:
        number: 1, 2, 3 ... of its request. ``target``: who.
        start_s, end_s: on the driver's clock; ``end_s`` None: not over when the request was.
        how: "answered", or why not; "open" until then.
        reply: the answer. ``error``: what came instead.
    """

    number: int
    target: Target
    start_s: float
    end_s: float | None = None
    how: str = "open"
    reply: R | None = None
    error: NoAnswer | None = None
    task: asyncio.Task | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Carried(Generic[R]):
    """How a request ended: ``answer`` is the attempt whose answer is given; or ``none`` says why not."""

    attempts: Sequence[Attempt[R]]
    answer: Attempt[R] | None = None
    none: GiveUp | None = None


class Driver(Generic[R]):
    """Carries requests out, many at a time, in the event loop that runs.

    Args:
        dispatcher: decides what is done.
        tell: hears of each attempt when it is over.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        tell: Callable[[Request, Attempt[R]], None] = lambda request, attempt: None,
    ) -> None:
        self.dispatcher, self.tell = dispatcher, tell
        self._latest_s = 0.0
        self.open: dict[str, _Carrying[R]] = {}

    def now_s(self, least_s: float = 0.0) -> float:
        """The clock; it never goes backwards, and is at least ``least_s``."""
        self._latest_s = max(self._latest_s, asyncio.get_running_loop().time(), least_s)
        return self._latest_s

    async def carry(
        self,
        request: Request,
        route: Route,
        ask: Callable[[Request, Target], Awaitable[R]],
        attempts: list[Attempt[R]] | None = None,
    ) -> Carried[R]:
        """One request, to its end. If whoever waits is cancelled, open attempts are, too.

        Args:
            request, route: what is asked, and whom.
            ask: does one attempt: (request, target) -> answer. Raises NoAnswer.
            attempts: a list to which they are added as they begin.

        Raises:
            ValueError: a request of this name is under way.
        """
        carrying = _Carrying(self, request, ask, [] if attempts is None else attempts)
        carrying.begin(route)
        try:
            return await carrying.done
        except asyncio.CancelledError:
            carrying.leave()
            raise


class _Carrying(Generic[R]):
    """One request under way."""

    def __init__(
        self,
        driver: Driver[R],
        request: Request,
        ask: Callable[[Request, Target], Awaitable[R]],
        attempts: list[Attempt[R]],
    ) -> None:
        self.driver, self.request, self.ask, self.attempts = driver, request, ask, attempts
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Carried[R]] = self.loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._todo: deque[Action] = deque()
        self._doing = self._over = self._left = False

    def begin(self, route: Route) -> None:
        actions = self.driver.dispatcher.start(self.request, route, self.driver.now_s())
        self.driver.open[self.request.id] = self
        self._do(actions)

    def leave(self) -> None:
        """Nobody waits any more: what is open is cancelled, and nothing more is sent.

        The dispatcher hears of it as of a request that is hopeless, so that it forgets it.
        """
        self._left = True
        for attempt in self.attempts:
            if attempt.how == "open":
                self._failed(attempt, NoAnswer("the caller hung up", retryable=False))

    def _report(self, event: Event) -> None:
        if not self._over:
            self._do(self.driver.dispatcher.on(event))

    def _do(self, actions: Sequence[Action]) -> None:
        """In the order in which they come, also when one of them leads to more."""
        self._todo.extend(actions)
        if self._doing:
            return
        self._doing = True
        while self._todo:
            self._act(self._todo.popleft())
        self._doing = False

    def _act(self, action: Action) -> None:
        match action:
            case SendTo():
                self._send(action)
            case WaitUntil():
                self._timers.append(self.loop.call_at(action.time_s, self._time_passed, action.time_s))
            case Answer():
                attempt = self.attempts[action.attempt - 1]
                self._end(Carried(self.attempts, answer=attempt), attempt)
            case GiveUp():
                self._end(Carried(self.attempts, none=action))

    def _time_passed(self, time_s: float) -> None:
        self._report(TimePassed(self.request.id, self.driver.now_s(time_s)))

    def _send(self, action: SendTo) -> None:
        now_s = self.driver.now_s()
        attempt: Attempt[R] = Attempt(action.attempt, action.target, now_s)
        self.attempts.append(attempt)
        if self._left:
            self._failed(attempt, NoAnswer("the caller hung up", retryable=False))
            return
        attempt.task = self.loop.create_task(self._attempt(attempt))
        self._report(Sent(self.request.id, attempt.number, now_s))

    async def _attempt(self, attempt: Attempt[R]) -> None:
        try:
            reply = await self.ask(self.request, attempt.target)
        except NoAnswer as e:
            self._failed(attempt, e)
        except Exception as e:
            log.exception("request %s, attempt %d", self.request.id, attempt.number)
            self._failed(attempt, NoAnswer(f"{type(e).__name__} in the gateway"))
        else:
            attempt.reply, attempt.how, attempt.end_s = reply, "answered", self.driver.now_s()
            self.driver.tell(self.request, attempt)
            self._report(Answered(self.request.id, attempt.number, attempt.end_s, reply.confidence))

    def _failed(self, attempt: Attempt[R], e: NoAnswer) -> None:
        if attempt.how != "open":
            return
        attempt.error, attempt.how, attempt.end_s = e, str(e), self.driver.now_s()
        self._stop(attempt)
        self.driver.tell(self.request, attempt)
        self._report(
            Failed(self.request.id, attempt.number, attempt.end_s, str(e), e.retry_after_s, e.retryable)
        )

    def _stop(self, attempt: Attempt[R]) -> None:
        if attempt.task is not None and attempt.task is not asyncio.current_task():
            attempt.task.cancel()

    def _end(self, carried: Carried[R], answer: Attempt[R] | None = None) -> None:
        """The request is over: only the attempt whose answer is given goes on."""
        self._over = True
        del self.driver.open[self.request.id]
        for timer in self._timers:
            timer.cancel()
        for attempt in self.attempts:
            if attempt is answer:
                continue
            if attempt.how == "open":
                self._stop(attempt)
                self.driver.tell(self.request, attempt)
            elif attempt.reply is not None:
                self._close(attempt.reply)
        if self.done.cancelled():
            if answer is not None and answer.reply is not None:
                self._close(answer.reply)
        else:
            self.done.set_result(carried)

    def _close(self, reply: R) -> None:
        task = self.loop.create_task(reply.close())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)


_CLOSING: set[asyncio.Task] = set()  # the loop itself holds tasks only weakly
