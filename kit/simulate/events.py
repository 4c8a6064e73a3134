"""Event by event: retries, hedges, fallbacks, lessons, and servers that come and go.

A calendar holds what will happen. The policy decides, and the very dispatcher that the live gateway uses
says what to do next: this file only carries its actions out and reports events, as the contract of
`kit.policy.Dispatcher` demands of a driver. Work that nobody waits for any more is done all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from kit.policy import (
    Action,
    Answer,
    Answered,
    Attempt,
    Dispatcher,
    DispatchSettings,
    Failed,
    FleetView,
    GiveUp,
    Outcome,
    Policy,
    PolicyError,
    Request,
    Route,
    SendTo,
    Sent,
    StandardDispatcher,
    StatelessPolicy,
    Target,
    TimePassed,
    WaitUntil,
    decide,
    tell,
)
from kit.simulate.draws import stream
from kit.simulate.fleet import Scaler
from kit.simulate.live import FULL, TOO_LONG, Hooks, Visit
from kit.simulate.results import (
    ANSWERED,
    CACHE,
    ESCALATED,
    FELL_BACK,
    HEDGED,
    NOBODY,
    REJECTED,
    RETRIED,
    STATUS,
    Ledger,
)
from kit.simulate.workload import Requests, requests
from kit.simulate.world import World

nan = float("nan")
AFTER = 2**60
"""Added to an event's number, it comes after all others of the same moment."""


class Chunk:
    """Some requests, and what they meet where, drawn when it is first asked for."""

    def __init__(self, world: World, asked: Requests, number: int) -> None:
        self.world, self.asked, self.number = world, asked, number
        self.at_s, self.kind = asked.at_s.tolist(), asked.kind.tolist()
        self._meets: dict[tuple[int, int], tuple[list, list, list]] = {}
        self._usd: dict[int, np.ndarray] = {}
        rng = stream(world.seed, "confidence", number)
        self._noise = rng.standard_normal(len(asked))
        self._sure: dict[int, list[float] | None] = {}
        self.draws = stream(world.seed, "route", number).random(len(asked))  # as the flow draws

    def meets(self, i: int, k: int, attempt: int) -> tuple[float, float, tuple[float, ...]]:
        """Delays up and down, and the need, of one attempt. All attempts after the first have their own."""
        found = self._meets.get((k, attempt))
        if found is None:
            met = self.world.meets(k, self.asked, self.number, attempt)
            found = (
                met.up_s.tolist(),
                met.down_s.tolist(),
                list(zip(*(c.tolist() for c in met.need), strict=True)),
            )
            self._meets[k, attempt] = found
        up_s, down_s, need = found
        return up_s[i], down_s[i], need[i]

    def usd(self, i: int, k: int) -> float:
        """Price of one call."""
        if k not in self._usd:
            self._usd[k] = self.world.usd(k, self.asked)
        return float(self._usd[k][i])

    def confidence(self, i: int, k: int) -> float:
        """How sure tier ``k`` is: as recorded, or its chance to be right, seen through some noise."""
        if k not in self._sure:
            sure = self.world.sure(k, self.asked)
            self._sure[k] = None if sure is None else sure.tolist()
        if (known := self._sure[k]) is not None:
            return known[i]
        p = float(np.clip(self.world.chance(k, self.asked.difficulty[i]), 1e-6, 1 - 1e-6))
        return 1 / (1 + math.exp(-(math.log(p / (1 - p)) + 0.5 * self._noise[i])))


class Drawn:
    """In place of a generator, for policies without a state: a number that was drawn before."""

    def __init__(self, u: float) -> None:
        self._u = u

    def random(self) -> float:
        """That number."""
        return self._u


class Job:
    """One request under way."""

    __slots__ = ("asked", "chunk", "how", "i", "leaked", "refused", "request", "route", "usd", "visits")

    def __init__(self, chunk: Chunk, i: int) -> None:
        self.chunk, self.i = chunk, i
        self.request: Request | None = None
        self.route: Route | None = None
        self.visits: list[Visit] = []
        self.usd = 0.0
        self.leaked = self.refused = False
        self.how = self.asked = 0


class Events:
    """One run; `run` gives its ledger.

    Args:
        world: the scenario and the seed.
        policy: who decides.
        dispatcher: None: one that follows the scenario's settings.
    """

    def __init__(self, world: World, policy: Policy, dispatcher: Dispatcher | None = None) -> None:
        self.world, self.policy = world, policy
        d = world.scenario.dispatch
        settings = DispatchSettings(
            attempt_timeout_ms=d.attempt_timeout_ms,
            retries=d.retries,
            backoff_ms=d.backoff_ms,
            backoff_max_ms=max(d.backoff_max_ms, d.backoff_ms),
            retry_budget=d.retry_budget,
            breaker_failures=d.breaker_failures,
            breaker_cooldown_s=d.breaker_cooldown_s,
        )
        self.dispatcher = dispatcher or StandardDispatcher(settings, stream(world.seed, "dispatch"))
        self.now_s, self._number = 0.0, count()
        self._calendar: list[tuple[float, int, Callable, tuple]] = []
        self._jobs: dict[str, Job] = {}
        self._rng = stream(world.seed, "policy")
        self._allowed = world.allowed.tolist()
        self._held = 0  # in the offline queue
        self._open = 0
        self._more = True
        hooks = Hooks(self.at, self._served, self._refused)
        self.scalers = [Scaler(world, k, hooks, self.at) for k in range(len(world.tiers))]
        self._views: list[FleetView] = []
        self._looks = 0
        self._rows: list[tuple] = []
        self._plain = tell_nobody(policy)
        self._stateless = isinstance(policy, StatelessPolicy)
        self._under_way = 0  # attempts, also those that nobody waits for
        self._last_s = 0.0  # end of a request

    # -- the calendar

    def at(self, time_s: float, function: Callable, *arguments: Any) -> None:
        """Call ``function(time, *arguments)`` then."""
        heappush(self._calendar, (time_s, next(self._number), function, arguments))

    def run(self) -> Ledger:
        """Everything, until the last request is over, and the last work."""
        self._chunks = requests(self.world.scenario.workload, self.world.seed)
        self._chunk_number = 0
        self.at(0.0, self._look)
        for scaler in self.scalers:
            scaler.begin()
        self._next_chunk()
        while self._open or self._more or self._under_way:
            self.now_s, _, function, arguments = heappop(self._calendar)
            function(self.now_s, *arguments)
        return self._ledger()

    def _next_chunk(self) -> None:
        asked = next(self._chunks, None)
        self._more = asked is not None
        if asked is None:
            return
        chunk = Chunk(self.world, asked, self._chunk_number)
        self._chunk_number += 1
        self._remembered = self._from_memory(chunk)
        if len(asked):
            self.at(chunk.at_s[0], self._asks, chunk, 0)
        else:
            self._next_chunk()

    def _from_memory(self, chunk: Chunk) -> np.ndarray:
        known = np.array([c.cacheable for c in self.world.classes])
        drawn = stream(self.world.seed, "cache", chunk.number).random(len(chunk.asked))
        return drawn < known[chunk.asked.kind]

    def _look(self, now_s: float) -> None:
        """Take the signals that policies will see."""
        d = self.world.scenario.dispatch
        late = math.ceil(d.signals_delay_s / d.signals_every_s)
        queues = [scaler.inside for scaler in self.scalers]
        healthy = [scaler.up(now_s) for scaler in self.scalers]
        self._views = [*self._views, self.world.view(queues, now_s, healthy)][-late - 1 :]
        self._looks += 1
        self.at(self._looks * d.signals_every_s, self._look)  # as the flow counts: no sum of roundings

    # -- a request comes

    def _asks(self, now_s: float, chunk: Chunk, i: int) -> None:
        self._open += 1
        if self._remembered[i]:
            self._close(
                Job(chunk, i), ANSWERED, now_s + self.world.scenario.dispatch.cache_ms / 1000, None, CACHE
            )
        else:
            self._decide(now_s, Job(chunk, i))
        if i + 1 < len(chunk.at_s):
            self.at(chunk.at_s[i + 1], self._asks, chunk, i + 1)
        else:
            self._next_chunk()

    def _decide(self, now_s: float, job: Job) -> None:
        w, i, d = self.world, job.i, self.world.scenario.dispatch
        kind, at_s = job.chunk.kind[i], job.chunk.at_s[i]
        id = str(int(job.chunk.asked.id[i]))
        deadline_s = at_s + float(w.deadline_s[kind])
        if now_s >= deadline_s:
            return self._close(job, STATUS.index("timed_out"), deadline_s)
        left_ms = None if now_s == at_s else 1e3 * (deadline_s - now_s)
        request = w.request(kind, id, job.chunk.asked, i, left_ms)
        rng: Any = Drawn(job.chunk.draws[i]) if self._stateless else self._rng
        try:
            route = decide(self.policy, request, self._view(), now_s, rng)
        except PolicyError as e:
            raise PolicyError(self.policy, request, now_s, e.fault, w.kinds[kind]) from e.__cause__
        k = w.index[route.target.tier]
        if w.classes[kind].deferrable and self._held < d.offline_queue and w.cut[k].now(now_s):
            self._held += 1
            self.at(w.cut[k].up_again_s(now_s), self._drained, job)
            return None
        job.request, job.route = request, route
        self._jobs[id] = job
        return self._carry_out(job, self.dispatcher.start(request, route, now_s), now_s)

    def _drained(self, now_s: float, job: Job) -> None:
        """The link is back: what waited for it is decided about anew."""
        self._held -= 1
        self._decide(now_s, job)

    def _view(self) -> FleetView:
        return self._views[0]

    # -- the dispatcher's actions

    def _carry_out(self, job: Job, actions: Any, now_s: float) -> None:
        for action in actions:
            self._act(job, action, now_s)

    def _act(self, job: Job, action: Action, now_s: float) -> None:
        match action:
            case SendTo():
                self._send(job, action, now_s)
            case WaitUntil():
                time_s = max(action.time_s, now_s)  # an answer at that very moment comes first
                heappush(self._calendar, (time_s, AFTER + next(self._number), self._time_passed, (job,)))
            case Answer():
                visit = job.visits[action.attempt - 1]
                self._close(job, ANSWERED, now_s, visit, visit.tier)
            case GiveUp():
                refused = action.status == "failed" and job.refused
                self._close(job, REJECTED if refused else STATUS.index(action.status), now_s)

    def _report(self, job: Job, event: Any, now_s: float) -> None:
        if job.request is not None and job.request.id in self._jobs:
            self._carry_out(job, self.dispatcher.on(event), now_s)

    def _time_passed(self, now_s: float, job: Job) -> None:
        assert job.request
        self._report(job, TimePassed(job.request.id, now_s), now_s)

    def _send(self, job: Job, action: SendTo, now_s: float) -> None:
        w, k = self.world, self.world.index[action.target.tier]
        up_s, down_s, need = job.chunk.meets(job.i, k, action.attempt)
        visit = Visit(job, action.attempt, k, now_s, need, down_s)
        job.asked |= 1 << k
        if job.visits:
            job.how |= _why(job, k)
        job.visits.append(visit)
        self._report(job, Sent(action.request_id, action.attempt, now_s), now_s)
        if w.cut[k].now(now_s):
            patience_s = w.scenario.dispatch.connect_timeout_ms / 1000
            self.at(now_s + patience_s, self._failed, visit, "no connection", False)
        else:
            job.leaked |= not self._allowed[job.chunk.kind[job.i]][k]
            visit.turn = self.scalers[k].came
            self.scalers[k].came += 1
            self._under_way += 1
            self.at(now_s + up_s, self._arrive, visit)

    def _arrive(self, now_s: float, visit: Visit) -> None:
        visit.arrive_s = now_s
        self.scalers[visit.tier].enter(visit, now_s)

    def _served(self, visit: Visit, now_s: float) -> None:
        """A station has answered."""
        self._under_way -= 1
        job: Job = visit.job  # type: ignore[assignment]
        job.usd += job.chunk.usd(job.i, visit.tier)
        if self.world.cut[visit.tier].now(now_s):
            patience_s = self.world.scenario.dispatch.connect_timeout_ms / 1000
            self.at(now_s + patience_s, self._failed, visit, "the connection broke", False)
        else:
            self.at(now_s + visit.down_s, self._answered, visit)

    def _refused(self, visit: Visit, now_s: float, reason: str) -> None:
        self._under_way -= 1
        self.at(now_s + visit.down_s, self._failed, visit, reason, reason in (FULL, TOO_LONG))

    def _answered(self, now_s: float, visit: Visit) -> None:
        job: Job = visit.job  # type: ignore[assignment]
        assert job.request
        assert job.route
        visit.end_s = now_s
        sure = None if job.route.escalate_below is None else job.chunk.confidence(job.i, visit.tier)
        self._report(job, Answered(job.request.id, visit.number, now_s, sure), now_s)

    def _failed(self, now_s: float, visit: Visit, reason: str, refused: bool) -> None:
        job: Job = visit.job  # type: ignore[assignment]
        assert job.request
        job.refused, visit.end_s, visit.failed = refused, now_s, reason
        again = reason != TOO_LONG
        later_s = self.world.tiers[visit.tier].retry_after_s if reason == FULL else None
        self._report(job, Failed(job.request.id, visit.number, now_s, reason, later_s, again), now_s)

    # -- a request is over

    def _close(
        self, job: Job, status: int, end_s: float, visit: Visit | None = None, tier: int = NOBODY
    ) -> None:
        g, i, w = job.chunk.asked, job.i, self.world
        at_s = job.chunk.at_s[i]
        self._open -= 1
        self._last_s = max(self._last_s, end_s)
        if job.request is not None:
            self._jobs.pop(job.request.id, None)
        v = visit or Visit(job, 0, NOBODY, nan, (), nan)
        right = tier == CACHE or (visit is not None and bool(w.right(tier, g, i)))
        first_s = end_s if visit is None or self._judged(job, tier) else v.first_s + v.down_s
        weight = 0.0
        if visit:
            weight = float(g.output_tokens[i]) if w.tiers[tier].writes else v.last_s - v.start_s
        sent_s = v.sent_s if visit else (job.visits[0].sent_s if job.visits else nan)
        self._rows.append(
            (
                *(int(g.id[i]), at_s, g.kind[i], g.prompt_tokens[i], g.output_tokens[i], tier, status),
                *(len(job.visits), sent_s, v.arrive_s, v.start_s, v.first_s, v.last_s, first_s, end_s),
                *(right, job.leaked, job, weight, job.how, job.asked),
            )
        )
        if not self._plain and job.request is not None and job.route is not None:
            self._tell(job, status, end_s, visit)

    def _tell(self, job: Job, status: int, end_s: float, visit: Visit | None) -> None:
        """Tell the policy how a request ended."""
        assert job.request
        assert job.route
        outcome = Outcome(
            request=job.request,
            route=job.route,
            status=STATUS[status],  # type: ignore[arg-type]
            answered_by=None if visit is None else self._target(job, visit),
            latency_ms=1e3 * (end_s - job.chunk.at_s[job.i]),
            attempts=len(job.visits),
            confidence=None if visit is None else job.chunk.confidence(job.i, visit.tier),
            cost_usd=job.usd,
            tried=tuple([self._tried(job, one, end_s, status) for one in job.visits]),
            now_s=end_s,
        )
        try:
            tell(self.policy, outcome)
        except Exception as e:
            kind = self.world.kinds[job.chunk.kind[job.i]]
            said = f"observe() raised {type(e).__name__}: {e}"
            raise PolicyError(self.policy, job.request, end_s, said, kind) from e

    def _target(self, job: Job, visit: Visit) -> Target:
        """Whom an attempt asked, as the route calls it."""
        assert job.route
        name = self.world.names[visit.tier]
        return next((t for t in (job.route.target, *job.route.fallbacks) if t.tier == name), Target(name))

    def _tried(self, job: Job, visit: Visit, end_s: float, status: int) -> Attempt:
        """One attempt, as far as it was seen when the request ended."""
        tier, seen = self.world.tiers[visit.tier], visit.end_s <= end_s
        answered = seen and not visit.failed
        late = not seen and STATUS[status] == "timed_out"
        return Attempt(
            target=self._target(job, visit),
            status="answered" if answered else "failed" if seen else "timed_out" if late else "open",
            latency_ms=max(1e3 * ((visit.end_s if seen else end_s) - visit.sent_s), 0.0),
            ttft_ms=1e3 * (visit.first_s + visit.down_s - visit.sent_s) if answered else None,
            output_tokens=int(job.chunk.asked.output_tokens[job.i]) if answered and tier.writes else 0,
            retry_after_s=tier.retry_after_s if seen and visit.failed == FULL else None,
        )

    def _judged(self, job: Job, tier: int) -> bool:
        """Was the whole answer awaited before anybody saw a word of it, because it might be escalated?"""
        assert job.route
        last = (job.route.target, *job.route.fallbacks)[-1]
        return job.route.escalate_below is not None and self.world.index[last.tier] != tier

    def _ledger(self) -> Ledger:
        self._rows.sort(key=lambda row: row[0])
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[] for _ in range(21)]
        columns[17] = [job.usd for job in columns[17]]
        whole, yes = (0, 2, 3, 4, 5, 6, 7, 19, 20), (15, 16)
        arrays = [
            np.array(c, np.int64 if j in whole else bool if j in yes else float)
            for j, c in enumerate(columns)
        ]
        return Ledger(*arrays)

    @property
    def end_s(self) -> float:
        """Time of the last event."""
        return max(self.now_s, self._last_s)


def _why(job: Job, k: int) -> int:
    """Why tier ``k`` is asked now, after somebody else was; see `kit.simulate.results`."""
    before = job.visits[-1]
    if before.failed:
        return RETRIED if before.tier == k else FELL_BACK
    if not math.isnan(before.end_s):
        return ESCALATED
    hedges = job.route is not None and job.route.hedge_after_ms is not None
    return HEDGED if hedges and len(job.visits) == 1 else FELL_BACK


def tell_nobody(policy: Policy) -> bool:
    """Does the policy not want to know how requests end?"""
    return not hasattr(policy, "observe")
