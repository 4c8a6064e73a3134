"""The dispatcher of this kit: time limits, retries, hedges, escalation, circuit breakers.

Not here: a clock, a network, threads. A driver brings them, see `kit.policy.Dispatcher`. Nor does a
dispatcher choose: whom to ask, and in which order, is what the policy's `Route` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from kit.policy.breaker import BreakerState, CircuitBreaker
from kit.policy.dispatch import Action, Answer, Answered, Event, Failed, GiveUp, SendTo, Sent, WaitUntil
from kit.policy.settings import DispatchSettings
from kit.policy.words import Request, Route, Status, Target

SAVED_RETRIES = 10.0
"""How many unused retries a retry budget keeps for bad times (Finagle's reserve)."""


@dataclass(slots=True)
class _Attempt:
    index: int  # of its target along the route
    breaker: CircuitBreaker
    probe: bool  # it tests a half-open breaker
    due_s: float
    live: bool = True  # False once its time is up


@dataclass(slots=True)
class _Job:
    """One request under way. Between two events it is always busy."""

    request: Request
    targets: tuple[Target, ...]
    escalate_below: float | None
    deadline_s: float
    asked: int = 0  # targets[:asked] were asked, or skipped because of an open breaker
    attempts: int = 0
    open: dict[int, _Attempt] = field(default_factory=dict)  # sent and not yet reported, oldest first
    hedge_s: float = inf
    retry_s: float = inf
    retry_index: int = 0
    retried: dict[int, int] = field(default_factory=dict)  # how often, per place on the route
    hopeless: bool = False  # the request itself is at fault
    unsure: int = 0  # the attempt whose unsure answer is kept in case nothing better comes
    unsure_index: int = -1
    status: Status = "failed"  # how the last attempt ended
    reason: str = "every circuit breaker is open"

    def busy(self, beyond: int = -1) -> bool:
        """Whether a target further along the route than ``beyond`` is at work, or soon will be."""
        if self.retry_s < inf and self.retry_index > beyond:
            return True
        return any(attempt.live and attempt.index > beyond for attempt in self.open.values())


class StandardDispatcher:
    """Carries routes out as `DispatchSettings` say; keeps the promises of `kit.policy.Dispatcher`.

    - An attempt fails: ask the same target again after a back-off, then the next fallback at once.
      While another attempt is under way, nothing new is sent.
    - A failure that is not ``retryable`` is the request's own fault: nobody else is asked.
    - An answer is not sure enough: ask the next fallback. If that brings none, the unsure answer is
      given; if it is unsure too, the one furthest along the route (Chen et al., "FrugalGPT", 2023).
    - The deadline passes: give an unsure answer if there is one, otherwise give up.

    Args:
        settings: None for `DispatchSettings()`.
        rng: the chance in back-offs, as a generator or a seed.
    """

    def __init__(self, settings: DispatchSettings | None = None, rng: np.random.Generator | int = 0) -> None:
        self.settings = settings or DispatchSettings()
        self._rng = np.random.default_rng(rng)
        self._jobs: dict[str, _Job] = {}
        self._breakers: dict[Target, CircuitBreaker] = {}
        self._budget = 0.0

    @property
    def open_requests(self) -> int:
        """How many requests have begun and are not over."""
        return len(self._jobs)

    def healthy(self, target: Target, now_s: float) -> bool:
        """Whether ``target``'s circuit breaker would let an attempt through at ``now_s``."""
        return (breaker := self._breakers.get(target)) is None or breaker.allows(now_s)

    def breaker_state(self, target: Target, now_s: float) -> BreakerState:
        """State of the circuit breaker of this tier and model at ``now_s``."""
        return "closed" if (breaker := self._breakers.get(target)) is None else breaker.state(now_s)

    def start(self, request: Request, route: Route, now_s: float) -> Sequence[Action]:
        """Begin a request along ``route`` and return the first actions.

        Raises:
            ValueError: a request of this name is under way.
        """
        if request.id in self._jobs:
            raise ValueError(f"a request called {request.id!r} is under way: each needs a name of its own.")
        self._budget = min(self._budget + (self.settings.retry_budget or 0), SAVED_RETRIES)
        deadline_s = inf if request.deadline_ms is None else now_s + request.deadline_ms / 1000
        job = _Job(request, (route.target, *route.fallbacks), route.escalate_below, deadline_s)
        self._jobs[request.id] = job
        actions = self._ask_next(job, now_s)
        if job.open:
            if deadline_s < inf:
                actions = (*actions, WaitUntil(request.id, deadline_s))
            if route.hedge_after_ms is not None:
                job.hedge_s = now_s + route.hedge_after_ms / 1000
                actions = (*actions, WaitUntil(request.id, job.hedge_s))
        return actions

    def on(self, event: Event) -> Sequence[Action]:
        """Take one event and return what to do now, perhaps nothing. Late events are ignored."""
        job, now_s = self._jobs.get(event.request_id), event.now_s
        if job is None or isinstance(event, Sent):
            return ()
        if now_s > job.deadline_s or (now_s == job.deadline_s and not isinstance(event, Answered)):
            return self._too_late(job, now_s)
        if not isinstance(event, Answered | Failed):
            return self._time_passed(job, now_s)
        attempt = job.open.pop(event.attempt, None)
        if attempt is None:
            return ()
        if isinstance(event, Answered):
            return self._answered(job, attempt, event)
        return self._failed(job, attempt, event) if attempt.live else ()

    def _answered(self, job: _Job, attempt: _Attempt, event: Answered) -> Sequence[Action]:
        if attempt.live:
            attempt.breaker.end(True, event.now_s, attempt.probe)
        least, confidence = job.escalate_below, event.confidence
        if least is None or confidence is None or confidence >= least:
            return self._end(job, Answer(job.request.id, event.attempt))
        if attempt.index >= job.unsure_index:
            job.unsure, job.unsure_index = event.attempt, attempt.index
        if job.busy(beyond=attempt.index):
            return ()
        job.retry_s = inf
        return self._ask_next(job, event.now_s) or self._end(job)

    def _failed(self, job: _Job, attempt: _Attempt, event: Failed) -> Sequence[Action]:
        job.status, job.reason = "failed", event.reason
        attempt.breaker.end(not event.retryable, event.now_s, attempt.probe)
        if not event.retryable:
            job.hopeless, job.asked, job.retry_s = True, len(job.targets), inf
        return self._try_again(job, attempt, event.now_s, event.retry_after_s or 0.0)

    def _time_passed(self, job: _Job, now_s: float) -> Sequence[Action]:
        actions: Sequence[Action] = ()
        over = [attempt for attempt in job.open.values() if attempt.due_s <= now_s]
        for attempt in over:
            attempt.live, attempt.due_s = False, inf
            attempt.breaker.end(False, now_s, attempt.probe)
            job.status = "timed_out"
            job.reason = f"no answer within {self.settings.attempt_timeout_ms:g} ms"
        if job.retry_s <= now_s:
            job.retry_s = inf
            if self.healthy(job.targets[job.retry_index], now_s):
                actions = self._send(job, job.retry_index, now_s)
            elif not job.busy():
                return self._ask_next(job, now_s)
        if over:
            actions = (*actions, *self._try_again(job, over[-1], now_s))
        if job.hedge_s <= now_s:
            actions = (*actions, *self._ask_next(job, now_s))
        return actions

    def _try_again(self, job: _Job, failed: _Attempt, now_s: float, least_s: float = 0.0) -> Sequence[Action]:
        """An attempt failed. If nobody else is at work: the same target after a while, or the next."""
        if job.busy():
            return ()
        k = job.retried.get(failed.index, 0)
        if k < self.settings.retries and not job.hopeless and failed.breaker.allows(now_s):
            longest_s = self.settings.backoff_max_ms / 1000
            limit_s = self.settings.backoff_ms / 1000 * 2**k
            wait_s = max(least_s, self._rng.random() * min(limit_s, longest_s))
            if wait_s <= longest_s and now_s + wait_s < job.deadline_s and self._spend():
                job.retried[failed.index] = k + 1
                job.retry_s, job.retry_index = now_s + wait_s, failed.index
                return (WaitUntil(job.request.id, job.retry_s),)
        return self._ask_next(job, now_s)

    def _spend(self) -> bool:
        """Take one retry from the budget, if it has one."""
        if self.settings.retry_budget is None:
            return True
        enough = self._budget > 1 - 1e-9
        self._budget -= enough
        return enough

    def _ask_next(self, job: _Job, now_s: float) -> Sequence[Action]:
        """Send to the next target that its breaker allows; with nobody left and nobody at work, end."""
        job.hedge_s = inf
        while job.asked < len(job.targets):
            job.asked += 1
            if self.healthy(job.targets[job.asked - 1], now_s):
                return self._send(job, job.asked - 1, now_s)
        return () if job.busy() else self._end(job)

    def _send(self, job: _Job, index: int, now_s: float) -> Sequence[Action]:
        rules, target = self.settings, job.targets[index]
        if (breaker := self._breakers.get(target)) is None:
            breaker = self._breakers[target] = CircuitBreaker(rules)
        due_s = inf if rules.attempt_timeout_ms is None else now_s + rules.attempt_timeout_ms / 1000
        due_s = due_s if due_s < job.deadline_s else inf
        job.attempts += 1
        job.open[job.attempts] = _Attempt(index, breaker, breaker.begin(), due_s)
        send = SendTo(job.request.id, job.attempts, target)
        return (send,) if due_s == inf else (send, WaitUntil(job.request.id, due_s))

    def _too_late(self, job: _Job, now_s: float) -> Sequence[Action]:
        for attempt in job.open.values():
            if attempt.live:  # the oldest had the most time: its breaker learns that it was silent
                attempt.breaker.end(False, now_s, attempt.probe)
                attempt.live = False
                break
        job.status, job.reason = "timed_out", f"no answer within {job.request.deadline_ms:g} ms"
        return self._end(job)

    def _end(self, job: _Job, answer: Answer | None = None) -> Sequence[Action]:
        """Forget the request. The last action: this answer, or the unsure one, or none."""
        del self._jobs[job.request.id]
        for attempt in job.open.values():
            if attempt.live and attempt.probe:  # nobody will see how it ends: the next may probe
                attempt.breaker.end(None, 0.0, True)
        if answer is None and job.unsure:
            answer = Answer(job.request.id, job.unsure)
        return (answer or GiveUp(job.request.id, job.status, job.reason),)
