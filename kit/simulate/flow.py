"""Requests flow one way: asked, routed, sent, queued, served, answered. No request comes back, so no events.

This is the fast way to run a scenario in which nothing that happens later changes what was decided:
policies that give one target, links that fail, queues that refuse. `kit.simulate.events` runs everything
else, and both
give the same ledger where both can run.

A policy sees the fleet as it was when signals were taken last. Between two signals nothing that it sees
changes, so all requests of that **window** are routed first, and then all stations work up to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np

from kit.policy import FleetView, Hedged, LearningPolicy, Policy, PrivacyFirst, StatelessPolicy
from kit.policy.guard import PATIENCE_S
from kit.simulate.draws import stream
from kit.simulate.results import ANSWERED, CACHE, FAILED, NOBODY, REJECTED, TIMED_OUT, Ledger
from kit.simulate.workload import Requests, requests
from kit.simulate.world import Meets, World


class NeedsEvents(Exception):
    """Something may come back: a retry, a hedge, a fallback, a lesson.

    Or a policy raised, or returned nonsense, or is slow: event by event, the request is found.
    """


@contextmanager
def usable(n: int) -> Iterator[None]:
    """What a policy says inside, about ``n`` requests, must be of use.

    Raises:
        NeedsEvents: it is not, or it took too long.
    """
    began = perf_counter()
    try:
        yield
    except Exception as e:
        raise NeedsEvents from e
    if perf_counter() - began > PATIENCE_S + n / 1000:
        raise NeedsEvents


def possible(world: World, policy: Policy) -> bool:
    """Can this scenario be run as a flow? (A policy that names fallbacks is found out when it does.)"""
    d = world.scenario.dispatch
    back = d.retries or d.attempt_timeout_ms or d.breaker_failures or d.offline_queue
    changes = any(t.autoscale or t.mtbf_s or t.spot for t in world.tiers) or any(
        len(down.begin_s) for down in world.tier_down
    )
    while isinstance(policy, PrivacyFirst | Hedged):  # these hand on what they are told, and learn nothing
        policy = policy.policy
    return not (back or changes or isinstance(policy, LearningPolicy))


class Flow:
    """One run. `parts` gives its ledger piece by piece, so that memory does not grow with the run.

    Args:
        world: the scenario and the seed.
        policy: who decides. Must give routes without fallbacks.

    Attributes:
        came: requests that were sent to each tier, up to now; its stations take them in turn.
        end_s: time of the last event, up to now.
    """

    def __init__(self, world: World, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.stations = [world.stations(k) for k in range(len(world.tiers))]
        self.came = [0] * len(world.tiers)
        self.end_s = 0.0
        self._now_s = -np.inf  # the stations have worked up to then
        self._rng = stream(world.seed, "policy")
        self._queues: dict[int, list[int]] = {}  # number of the window -> queues when it began
        self._view: tuple[float, FleetView] | None = None  # of the window that was routed last

    @property
    def busy_s(self) -> list[float]:
        """Server-seconds of work at each tier, up to now."""
        return [sum(one.busy_s for one in stations) for stations in self.stations]

    def parts(self) -> Iterator[Ledger]:
        """The ledger: each request once, when its end is known."""
        w = self.world
        chunks = requests(w.scenario.workload, w.seed)
        chunk, number = next(chunks, None), 0
        open_rows: _Rows | None = None
        while chunk is not None:
            following = next(chunks, None)
            until = np.inf if following is None else (following.at_s[0] if len(following) else np.inf)
            rows = _Rows.new(chunk)
            if open_rows is not None:
                rows = self._carry(open_rows, rows)
            fresh = len(rows) - len(chunk)  # these are new, from here on
            self._run(rows, fresh, number, chunk, until)
            decided = rows.decided
            if decided.any():
                yield self._settle(rows if decided.all() else rows.part(decided))
            open_rows = rows
            chunk, number = following, number + 1

    # -- one chunk

    def _run(self, rows: _Rows, fresh: int, number: int, asked: Requests, until_s: float) -> None:
        meets: dict[int, Meets] = {}
        cached = self._remembered(asked, number)
        rows.tier[fresh:][cached] = CACHE
        rows.decided[fresh:][cached] = True
        if isinstance(self.policy, StatelessPolicy):
            tier = self._drawn(asked, number)
            self._send(rows, fresh, tier, ~cached, asked, number, meets)
            self._advance(rows, until_s)
            return
        every = self.world.scenario.dispatch.signals_every_s
        at = asked.at_s
        low = 0
        while low < len(at):
            window = int(at[low] // every)
            end_s = (window + 1) * every
            high = max(int(np.searchsorted(at, end_s, side="left")), low + 1)  # whatever rounding does
            view = self._look(window, rows)
            piece = slice(low, high)
            tier = self._decided(asked, piece, cached, view)
            self._send(rows, fresh + low, tier, ~cached[piece], asked, number, meets, piece)
            self._advance(rows, min(end_s, until_s))
            low = high
        if until_s == np.inf:  # else the next chunk goes on from here: it looks at the queues first
            self._advance(rows, until_s)

    def _remembered(self, asked: Requests, number: int) -> np.ndarray:
        """Which requests are answered at the door, from memory."""
        known = np.array([c.cacheable for c in self.world.classes])
        if not known.any():
            return np.zeros(len(asked), bool)
        return stream(self.world.seed, "cache", number).random(len(asked)) < known[asked.kind]

    def _drawn(self, asked: Requests, number: int) -> np.ndarray:
        """Tiers of all requests at once, from the probabilities that the policy declares."""
        w = self.world
        view = w.view([0] * len(w.tiers), -np.inf)
        u = stream(w.seed, "route", number).random(len(asked))
        tier = np.zeros(len(asked), np.int64)
        for kind in range(len(w.classes)):
            with usable(1):
                routes, p = zip(*self.policy.choices(w.request(kind), view), strict=True)  # type: ignore[attr-defined]
                targets = np.array([w.index[route.target.tier] for route in routes])
            if any(route.fallbacks for route in routes):
                raise NeedsEvents
            which = asked.kind == kind if len(w.classes) > 1 else slice(None)
            least = np.cumsum(p)[:-1]  # few, so a look at each is quicker than a search
            drawn = sum((u[which] >= one for one in least), np.zeros(1, np.int64))
            tier[which] = targets[drawn]
        return tier

    def _decided(self, asked: Requests, piece: slice, cached: np.ndarray, view: FleetView) -> np.ndarray:
        """Tiers of some requests: the policy is asked about each that is not remembered."""
        route, rng, index = self.policy.route, self._rng, self.world.index
        which = np.arange(piece.start, piece.stop)[~cached[piece]]
        seen = zip(self.world.seen(asked, which), asked.at_s[which].tolist(), strict=True)
        tier = np.full(piece.stop - piece.start, CACHE)
        with usable(len(which)):
            routes = [route(request, view, now_s, rng) for request, now_s in seen]
            final = [one.target.tier for one in routes if not one.fallbacks]
            if len(final) < len(routes):
                raise NeedsEvents
            tier[which - piece.start] = list(map(index.__getitem__, final))
        return tier

    def _look(self, window: int, rows: _Rows) -> FleetView:
        """What the policy sees in this window: queues as they were some windows ago."""
        if self._view is None or self._view[0] != window:
            d = self.world.scenario.dispatch
            late = int(np.ceil(d.signals_delay_s / d.signals_every_s))
            for w in range(max(0, window - late), window + 1):
                if w not in self._queues:
                    now_s = w * d.signals_every_s
                    self._advance(rows, now_s)
                    self._queues[w] = [sum(s.inside(now_s) for s in stations) for stations in self.stations]
            seen = max(0, window - late)
            self._queues = {w: q for w, q in self._queues.items() if w >= seen}
            self._view = window, self.world.view(self._queues[seen], seen * d.signals_every_s)
        return self._view[1]

    def _send(
        self,
        rows: _Rows,
        first: int,
        tier: np.ndarray,
        which: np.ndarray,
        asked: Requests,
        number: int,
        meets: dict[int, Meets],
        piece: slice = slice(None),
    ) -> None:
        """Put requests on their way: row ``first`` of the table is the first of ``piece``."""
        w = self.world
        for k in range(len(w.tiers)):
            i = np.flatnonzero(which & (tier == k))  # in the piece
            if not len(i):
                continue
            if k not in meets:
                meets[k] = w.meets(k, asked, number)
            m = meets[k]
            source = i + (piece.start or 0)  # in the chunk
            row = i + first
            at_s = asked.at_s[source]
            arrive_s = at_s + m.up_s[source]
            rows.tier[row], rows.arrive_s[row], rows.down_s[row] = k, arrive_s, m.down_s[source]
            cut = w.cut[k]
            if len(cut.begin_s):
                lost = cut.at(at_s)
                rows.decided[row[lost]] = True
                rows.cut[row[lost]] = True
                row, source, arrive_s = row[~lost], source[~lost], arrive_s[~lost]
            stations = self.stations[k]
            turn = (self.came[k] + np.arange(len(row))) % len(stations)
            self.came[k] += len(row)
            need = [column[source] for column in m.need]
            for s, one in enumerate(stations):
                mine = slice(None) if len(stations) == 1 else turn == s
                one.offer(row[mine], arrive_s[mine], *(column[mine] for column in need))

    def _advance(self, rows: _Rows, until_s: float) -> None:
        if until_s <= self._now_s:
            return
        self._now_s = until_s
        for stations in self.stations:
            for one in stations:
                done = one.advance(until_s)
                if len(done.row):
                    rows.start_s[done.row] = done.start_s
                    rows.done_first_s[done.row] = done.first_s
                    rows.done_last_s[done.row] = done.last_s
                    rows.decided[done.row] = True

    def _carry(self, old: _Rows, new: _Rows) -> _Rows:
        """Rows that are still open come first in the next table, and stations are told."""
        still = ~old.decided
        if not still.any():
            return new
        number = np.full(len(old), -1)
        number[still] = np.arange(still.sum())
        for stations in self.stations:
            for one in stations:
                one.renumber(number)
        return _Rows.join(old.part(still), new)

    def _settle(self, rows: _Rows) -> Ledger:
        """The ledger of requests whose end is known."""
        return settle(self.world, rows, self)


class _Rows:
    """A table of requests on their way."""

    FIELDS = ("tier", "arrive_s", "start_s", "done_first_s", "done_last_s", "down_s", "decided", "cut")

    def __init__(self, asked: Requests, *columns: np.ndarray) -> None:
        self.asked = asked
        self.tier, self.arrive_s, self.start_s, self.done_first_s, self.done_last_s = columns[:5]
        self.down_s, self.decided, self.cut = columns[5:]

    @staticmethod
    def new(asked: Requests) -> _Rows:
        n = len(asked)
        times = [np.full(n, np.nan) for _ in range(5)]
        return _Rows(asked, np.full(n, NOBODY), *times, np.zeros(n, bool), np.zeros(n, bool))

    def __len__(self) -> int:
        return len(self.tier)

    def part(self, which: np.ndarray) -> _Rows:
        return _Rows(self.asked.part(which), *(getattr(self, name)[which] for name in self.FIELDS))

    @staticmethod
    def join(a: _Rows, b: _Rows) -> _Rows:
        columns = (np.concatenate([getattr(a, name), getattr(b, name)]) for name in _Rows.FIELDS)
        return _Rows(Requests.join(a.asked, b.asked), *columns)


def settle(world: World, rows: _Rows, run: Flow) -> Ledger:
    """Who was answered, when, how well, and what it cost."""
    asked, n, d = rows.asked, len(rows), world.scenario.dispatch
    at, tier = asked.at_s, rows.tier
    there, cached = tier >= 0, tier == CACHE
    first, last = rows.done_first_s + rows.down_s, rows.done_last_s + rows.down_s
    if cached.any():
        first, last = (np.where(cached, at + d.cache_ms / 1000, t) for t in (first, last))
    status, end = np.full(n, ANSWERED), last
    worked = ~np.isnan(rows.start_s)
    refused = there & ~rows.cut & ~worked
    if refused.any():
        status[refused], end = REJECTED, np.where(refused, rows.arrive_s + rows.down_s, end)
    failed = rows.cut.copy()
    for k, cut in enumerate(world.cut):
        if len(cut.begin_s):
            failed |= (tier == k) & worked & cut.at(rows.done_last_s)
    if failed.any():
        noticed = np.fmax(at, np.nan_to_num(rows.done_last_s)) + d.connect_timeout_ms / 1000
        status[failed], end = FAILED, np.where(failed, noticed, end)
    if np.isfinite(world.deadline_s).any():
        deadline = at + world.deadline_s[asked.kind]
        late = (end > deadline) | ((end == deadline) & (status != ANSWERED))
        status[late], end = TIMED_OUT, np.where(late, deadline, end)
    right, usd, weight = np.zeros(n, bool), np.zeros(n), np.zeros(n)
    leaked = np.zeros(n, bool)
    for k in np.unique(tier[there]).tolist():
        i = np.flatnonzero(tier == k)
        right[i] = world.right(k, asked, i)
        if not world.is_free(k):
            usd[i] = np.where(worked[i], world.usd(k, asked.part(i)), 0.0)
        if not world.allowed[:, k].all():
            leaked[i] = ~world.allowed[asked.kind[i], k] & ~rows.cut[i]
        llm = world.tiers[k].writes
        weight[i] = asked.output_tokens[i] if llm else np.nan_to_num(rows.done_last_s[i] - rows.start_s[i])
    right |= cached
    work_ends = rows.done_last_s[worked]
    run.end_s = max(run.end_s, float(end.max(initial=0.0)), float(work_ends.max(initial=0.0)))
    answered = status == ANSWERED
    everybody = bool(answered.all())

    def known(times: np.ndarray, otherwise: np.ndarray | float = np.nan) -> np.ndarray:
        return times if everybody else np.where(answered, times, otherwise)

    return Ledger(
        id=asked.id,
        at_s=at,
        kind=asked.kind,
        prompt_tokens=asked.prompt_tokens,
        output_tokens=asked.output_tokens,
        tier=known(tier, NOBODY),
        status=status,
        attempts=there.astype(np.int64),
        sent_s=np.where(there, at, np.nan),
        arrive_s=known(rows.arrive_s),
        start_s=known(rows.start_s),
        done_first_s=known(rows.done_first_s),
        done_last_s=known(rows.done_last_s),
        first_s=known(first, end),
        last_s=known(last, end),
        right=right & answered,
        leaked=leaked,
        usd=usd,
        weight=known(weight, 0.0),
        how=np.zeros(n, np.int64),
        asked=there.astype(np.int64) << np.maximum(tier, 0),
    )
