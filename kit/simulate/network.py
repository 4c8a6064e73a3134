"""Links: how long a message takes, whether it gets through, and when a link is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kit import facts
from kit.simulate.draws import stream
from kit.simulate.scenario import Link, Outage


@dataclass(frozen=True)
class Down:
    """When something does not work: intervals that do not touch, in order.

    Attributes:
        begin_s, end_s: [n]; it works again at ``end_s``.
    """

    begin_s: np.ndarray
    end_s: np.ndarray

    def at(self, t: np.ndarray) -> np.ndarray:
        """Is it down at these times? bool [n]; NaN is no time."""
        i = np.searchsorted(self.begin_s, t, side="right") - 1
        ends = np.append(self.end_s, -np.inf)  # the last is for times before the first interval
        return t < ends[i]

    def up_again_s(self, t: float) -> float:
        """The next time, from ``t`` on, at which it works."""
        if not len(self.begin_s) or t < self.begin_s[0]:
            return t
        return max(t, float(self.end_s[np.searchsorted(self.begin_s, t, side="right") - 1]))

    def now(self, t: float) -> bool:
        """Is it down at this time?"""
        return self.up_again_s(t) > t


NEVER = Down(np.zeros(0), np.zeros(0))


def either(downs: Sequence[Down]) -> Down:
    """Down whenever one of them is: the union of all intervals."""
    begin = np.concatenate([d.begin_s for d in downs]) if downs else np.zeros(0)
    end = np.concatenate([d.end_s for d in downs]) if downs else np.zeros(0)
    if not len(begin):
        return NEVER
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    new = np.append(True, begin[1:] > end[:-1])
    return Down(begin[new], end[np.append(np.flatnonzero(new)[1:] - 1, len(end) - 1)])


def outages(
    name: str, scripted: Sequence[Outage], every_s: float | None, lasts_s: float, horizon_s: float, seed: int
) -> Down:
    """When a thing is down: as a scenario says, and by chance (exponential times in turn)."""
    found = [Down(np.array([o.at_s]), np.array([o.at_s + o.lasts_s])) for o in scripted if o.what == name]
    if every_s is not None:
        rng = stream(seed, f"outage {name}")
        n = int(horizon_s / (every_s + lasts_s) * 2) + 50
        works, fails = rng.exponential(every_s, n), rng.exponential(lasts_s, n)
        end = np.cumsum(works + fails)
        found.append(Down(end - fails, end))
    return either(found)


class Path:
    """The links between the user and a place, as one.

    Args:
        names: links, from the user on. ``links``: all of a scenario.
    """

    def __init__(self, names: Sequence[str], links: Mapping[str, Link]) -> None:
        self.names = tuple(names)
        self._links = [links[name] for name in names]
        self._facts = [facts.networks()[link.profile] if link.profile else None for link in self._links]
        self._trips = [RoundTrips.of(*pair) for pair in zip(self._links, self._facts, strict=True)]

    def median_rtt_ms(self) -> float:
        """Sum of the links' medians."""
        return sum(trips.at(0.5) for trips in self._trips)

    def least_rtt_ms(self) -> float:
        """Sum of the shortest round trips that the links' figures know."""
        return sum(trips.at(0.0) for trips in self._trips)

    def delays(
        self,
        up_bytes: np.ndarray,
        down_bytes: np.ndarray,
        seed: int,
        chunk: int,
        attempt: int = 1,
        drawn: dict[tuple[str, int], Crossing] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Seconds up and down, each [n].

        Half a round trip each way, the time that the bytes need, and the wait for those that are lost and
        sent again. Round trips are drawn independently of each other.

        Args:
            up_bytes, down_bytes: of each request [n].
            seed, chunk, attempt: which chance.
            drawn: what links did to this chunk already, by name and attempt; what is drawn here is added.
        """
        n, drawn = len(up_bytes), {} if drawn is None else drawn
        up = down = np.zeros(n)
        for name, link, fact, trips in zip(self.names, self._links, self._facts, self._trips, strict=True):
            if (crossing := drawn.get((name, attempt))) is None:
                rng = stream(seed, f"link {name} {attempt}", chunk)
                crossing = drawn[name, attempt] = Crossing.draw(link, fact, trips, rng, n)
            up = up + crossing.up_s + _transfer_s(up_bytes, link.up_mbps, fact and fact.bandwidth_up_mbps)
            down = (
                down
                + crossing.down_s
                + _transfer_s(down_bytes, link.down_mbps, fact and fact.bandwidth_down_mbps)
            )
        return up, down


@dataclass(frozen=True)
class Crossing:
    """What chance on one link does to the requests of one chunk, whatever their size, in seconds [n]."""

    up_s: np.ndarray
    down_s: np.ndarray

    @staticmethod
    def draw(
        link: Link, fact: facts.Network | None, trips: RoundTrips, rng: np.random.Generator, n: int
    ) -> Crossing:
        """Half a round trip each way, and the wait for what is lost and sent again."""
        half_s = trips.draw(rng, n) / 2000
        lost = link.loss_percent if link.loss_percent is not None else (fact and fact.loss_percent) or 0.0
        if not lost > 0:
            return Crossing(half_s, half_s)
        up, down = ((rng.geometric(1 - lost / 100, n) - 1) * link.resend_ms / 1000 for _ in range(2))
        return Crossing(half_s + up, half_s + down)


def _transfer_s(size: np.ndarray, said_mbps: float | None, known_mbps: float | None) -> np.ndarray | float:
    mbps = said_mbps or known_mbps
    return size * 8e-6 / mbps if mbps else 0.0


@dataclass(frozen=True)
class RoundTrips:
    """The round trips of one link, in ms: quantiles of what was measured, or a median with log-normal jitter.

    Attributes:
        levels, rtt_ms: known quantiles [n], straight lines in between; one of them if there is no spread.
        sigma: of the logarithm, instead of quantiles.
    """

    levels: np.ndarray
    rtt_ms: np.ndarray
    sigma: float = 0.0

    @staticmethod
    def of(link: Link, fact: facts.Network | None) -> RoundTrips:
        """From what a scenario and ``datasets/networks.csv`` say.

        Raises:
            FactError: nobody says how long a round trip takes.
        """
        levels, rtt_ms = fact.quantiles() if fact else (np.zeros(0), np.zeros(0))
        if not len(levels):
            if link.rtt_ms is None:
                raise facts.FactError(f"network {link.profile!r} knows no round-trip time: say rtt_ms.")
            spread = link.jitter_ms / link.rtt_ms if link.rtt_ms else 0.0
            return RoundTrips(np.array([0.5]), np.array([link.rtt_ms]), float(np.sqrt(np.log1p(spread**2))))
        median = float(np.interp(0.5, levels, rtt_ms))
        return RoundTrips(levels, rtt_ms * (1.0 if link.rtt_ms is None else link.rtt_ms / median))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """``n`` independent round trips [n]. Beyond the known quantiles nothing is invented."""
        if self.sigma:
            return self.rtt_ms[0] * np.exp(self.sigma * rng.standard_normal(n))
        if len(self.levels) == 1:
            return np.full(n, self.rtt_ms[0])
        return np.interp(rng.random(n), self.levels, self.rtt_ms)

    def at(self, level: float) -> float:
        """The quantile at a level from 0 to 1; with log-normal jitter, three sigma below the median for 0."""
        if self.sigma and level == 0:
            return float(self.rtt_ms[0] * np.exp(-3 * self.sigma))
        return float(np.interp(level, self.levels, self.rtt_ms))
