"""How a tier's stations come and go: autoscaling, failures, spot capacity, and whose turn it is."""

from __future__ import annotations

import math
from collections.abc import Callable

from kit.simulate.draws import stream
from kit.simulate.live import Hooks, LiveEngine, Servers, Visit
from kit.simulate.world import World


class Scaler:
    """One tier's stations, and what happens to them.

    A tier of servers grows by servers of one station, a tier of engines by engines.

    Args:
        world, k: which tier. ``hooks``: see `kit.simulate.live`.
        at: puts a function into the calendar.
    """

    def __init__(self, world: World, k: int, hooks: Hooks, at: Callable[..., None]) -> None:
        self.world, self.k, self.tier, self.at = world, k, world.tiers[k], at
        self.came = 0  # visits so far, counted when they are sent
        self._down = world.tier_down[k]
        self._rng = stream(world.seed, f"failures {world.names[k]}")
        self.scale = self.tier.autoscale
        self.hooks = (
            Hooks(hooks.at, self._leaves(hooks.served), self._leaves(hooks.refused)) if self.scale else hooks
        )
        first = self._size if self.scale is None else max(self.scale.least, min(self._size, self.scale.most))
        self.stations: list[Servers | LiveEngine] = []
        if self.tier.writes:
            self.stations = [self._made() for _ in range(first if self.scale else self.tier.stations)]
        else:
            self.stations = [Servers(self.tier, self.hooks, 0) for _ in range(self.tier.stations)]
        self._now = 0.0
        self.wanted = self.works = first  # servers or engines that are paid for; that work
        self.away = 0  # taken by the owner of spot capacity
        self.there_s, self.peak = 0.0, first
        self._since, self._load_s = 0.0, 0.0
        self._inside, self._working = 0, 0  # since then
        self._starts: list[list[float]] = []  # [when, how many], of servers that start
        self._broken: set[Servers | LiveEngine] = set()
        self._wishes: list[tuple[float, int]] = []
        self._waiting: list[Visit] = []  # where there is no server at all
        self._apply(0.0)

    @property
    def _size(self) -> int:
        return self.tier.stations if self.tier.writes else self.tier.servers * self.tier.stations

    def _made(self) -> LiveEngine:
        return LiveEngine(self.tier, self.hooks)

    def begin(self) -> None:
        """Put into the calendar what happens by itself."""
        for begin, end in zip(self._down.begin_s, self._down.end_s, strict=True):
            self.at(float(begin), self._fail_all)
            self.at(float(end), self._repair_all)
        if self.tier.mtbf_s:
            for one in self.stations:
                self.at(self._rng.exponential(self.tier.mtbf_s), self._fail, one)
        if self.tier.spot:
            self.at(self._rng.exponential(self.tier.spot_every_s), self._taken)
        if self.scale:
            self.at(self.scale.every_s, self._look)

    # -- who comes

    @property
    def inside(self) -> int:
        """Who waits or is served in this tier."""
        return len(self._waiting) + sum(one.inside for one in self.stations)

    def up(self, now_s: float) -> bool:
        """Does its health check succeed?"""
        return any(one.up for one in self.stations) or not self.stations

    def enter(self, visit: Visit, now_s: float) -> None:
        """Somebody arrives: the stations that are up take turns."""
        self._count(now_s)
        self._let_in(visit, now_s)
        self._changed()

    def _let_in(self, visit: Visit, now_s: float) -> None:
        ready = self._ready()
        if not ready:
            if self.works == 0 and self.scale and not self._down.now(now_s):
                self._waiting.append(visit)  # a cold start
                if self.wanted == 0:
                    self._want(1, now_s)
                return
            self.hooks.refused(visit, now_s, "connection refused")
            return
        ready[visit.turn % len(ready)].enter(visit, now_s)

    def _leaves(self, tell: Callable[..., None]) -> Callable[..., None]:
        """``tell`` who leaves, and keep the books."""

        def left(visit: Visit, now_s: float, *more: str) -> None:
            self._count(now_s)
            self._changed()
            tell(visit, now_s, *more)

        return left

    def _ready(self) -> list[Servers | LiveEngine]:
        if not self.tier.writes:
            return [one for one in self.stations if one.up and isinstance(one, Servers) and one.servers]
        return [one for one in self.stations[: max(self.works - self.away, 0)] if one.up]

    # -- servers come and go

    def _count(self, now_s: float) -> None:
        """Keep the books up to now."""
        span = now_s - self._now
        self.there_s += span * max(self.wanted, self._working)
        self._load_s += span * self._inside / (self.tier.rows if self.tier.writes else 1)
        self._now = now_s

    def _changed(self) -> None:
        if self.scale:
            self._inside, self._working = self.inside, sum(one.working for one in self.stations)

    def _apply(self, now_s: float) -> None:
        """Give the stations the servers that work."""
        if self.tier.writes:
            while len(self.stations) < self.works:
                self.stations.append(self._made())
                self.stations[-1].up = not self._down.now(now_s)
                if self.tier.mtbf_s and now_s > 0:
                    self.at(now_s + self._rng.exponential(self.tier.mtbf_s), self._fail, self.stations[-1])
        else:
            servers = max(self.works - self.away, 0)
            for j, one in enumerate(self.stations):
                assert isinstance(one, Servers)
                one.resize(servers // len(self.stations) + (j < servers % len(self.stations)), now_s)
                if not one.servers:  # who waits there waits elsewhere
                    self._waiting += one.waiting
                    one.waiting.clear()
        if self._waiting and (ready := self._ready()):
            waiting, self._waiting = self._waiting, []
            for j, visit in enumerate(waiting):
                ready[j % len(ready)].enter(visit, now_s)
        self._changed()

    def _look(self, now_s: float) -> None:
        """Kubernetes' formula; see `Autoscale`."""
        s = self.scale
        assert s
        self._count(now_s)
        load = self._load_s / (now_s - self._since) if now_s > self._since else 0.0
        self._since, self._load_s = now_s, 0.0
        current = max(self.wanted, 1)
        ratio = load / current / s.target
        wish = current if abs(ratio - 1) <= s.tolerance else math.ceil(current * ratio - 1e-9)
        wish = min(max(wish, s.least), s.most)
        self._wishes = [(t, w) for t, w in self._wishes if t > now_s - s.down_window_s] + [(now_s, wish)]
        if wish > self.wanted:
            self._want(wish, now_s)
        elif (most := max(w for _, w in self._wishes)) < self.wanted:
            self._want(most, now_s)
        self.at(now_s + s.every_s, self._look)

    def _want(self, servers: int, now_s: float) -> None:
        """More servers work after their start; fewer at once."""
        self._count(now_s)
        more = servers - self.wanted
        self.wanted, self.peak = servers, max(self.peak, servers)
        if more > 0:
            assert self.scale
            self._starts.append([now_s + self.scale.start_s, more])
            self.at(now_s + self.scale.start_s, self._started)
        else:
            self.works = min(self.works, servers)
            while (
                self._starts and self.works + sum(n for _, n in self._starts) > servers
            ):  # the youngest first
                self._starts[-1][1] -= 1
                self._starts = [start for start in self._starts if start[1]]
            self._apply(now_s)

    def _started(self, now_s: float) -> None:
        self.works += int(sum(n for when_s, n in self._starts if when_s <= now_s))
        self._starts = [start for start in self._starts if start[0] > now_s]
        self._apply(now_s)

    # -- things fail

    def _fail_all(self, now_s: float) -> None:
        for one in self.stations:
            if one.up:
                one.fail(now_s)

    def _repair_all(self, now_s: float) -> None:
        for one in self.stations:
            if one not in self._broken:
                one.repair(now_s)
        self._apply(now_s)

    def _fail(self, now_s: float, one: Servers | LiveEngine) -> None:
        self._broken.add(one)
        if one.up:
            one.fail(now_s)
        self.at(now_s + self._rng.exponential(self.tier.mttr_s), self._repair, one)

    def _repair(self, now_s: float, one: Servers | LiveEngine) -> None:
        self._broken.discard(one)
        if not self._down.now(now_s):
            one.repair(now_s)
            self._apply(now_s)
        self.at(now_s + self._rng.exponential(self.tier.mtbf_s or math.inf), self._fail, one)

    def _taken(self, now_s: float) -> None:
        """Work that has begun is finished: a warning comes before."""
        self.away = math.ceil(self.tier.spot * self.works)
        self._apply(now_s)
        self.at(now_s + self.tier.spot_back_s, self._given_back)

    def _given_back(self, now_s: float) -> None:
        self.away = 0
        self._apply(now_s)
        self.at(now_s + self._rng.exponential(self.tier.spot_every_s), self._taken)

    # -- the books

    def totals(self, now_s: float) -> tuple[float, float, float]:
        """Server-seconds of work, server-seconds paid for, most servers at a time."""
        self._count(now_s)
        return sum(one.busy_s for one in self.stations), self.there_s, self.peak
