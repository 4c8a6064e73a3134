"""What came out: each request with its parts, each place with what it did, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np

from kit.records import Records, percentile
from kit.simulate.scenario import Scenario

STATUS = ("answered", "failed", "timed_out", "rejected")
"""As `kit.records.OUTCOMES`; the ledger holds the index. ``OPEN`` is for those that still wait at the end."""
ANSWERED, FAILED, TIMED_OUT, REJECTED = range(4)
OPEN = 4
CACHE, NOBODY = -2, -1
"""In place of a tier: remembered at the door; nobody answered."""

RETRIED, FELL_BACK, HEDGED, ESCALATED = 1, 2, 4, 8
"""Why somebody was asked again: the same after a failure; another after a failure or a time-out; another
because the first is slow; another because the first is not sure."""

PARTS = ("earlier attempts", "network up", "queue", "work", "more tokens", "network down")
"""Where the time of an answered request goes, in order. ``work`` is up to the first token."""


@dataclass
class Ledger:
    """What became of requests. All arrays are [n]; times in seconds on the run's clock; NaN: did not happen.

    Attributes:
        id, at_s, kind, prompt_tokens, output_tokens: of the request.
        tier: index of who answered, or `CACHE` or `NOBODY`.
        status: index into `STATUS`, or `OPEN`.
        attempts: how often somebody was asked.
        sent_s: when the attempt left whose answer was given.
        arrive_s, start_s: it reached the station, and work on it began.
        done_first_s, done_last_s: first and last token, there.
        first_s, last_s: the same at the user's; when it was given up, for those without an answer.
        right: the answer was right. ``leaked``: it went farther than its privacy allows.
        usd: paid for calls and transfer. ``weight``: its part of what a place does.
        how: a sum of `RETRIED`, `FELL_BACK`, `HEDGED` and `ESCALATED`, for those that were asked again.
        asked: a sum of 2^k for each tier k that was asked.
    """

    id: np.ndarray
    at_s: np.ndarray
    kind: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    tier: np.ndarray
    status: np.ndarray
    attempts: np.ndarray
    sent_s: np.ndarray
    arrive_s: np.ndarray
    start_s: np.ndarray
    done_first_s: np.ndarray
    done_last_s: np.ndarray
    first_s: np.ndarray
    last_s: np.ndarray
    right: np.ndarray
    leaked: np.ndarray
    usd: np.ndarray
    weight: np.ndarray
    how: np.ndarray
    asked: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def part(self, which: np.ndarray) -> Ledger:
        """Some rows, by mask or index."""
        return Ledger(*(getattr(self, f.name)[which] for f in fields(self)))

    @staticmethod
    def empty() -> Ledger:
        """No rows."""
        return Ledger(*(np.zeros(0, bool if f.name in ("right", "leaked") else int) for f in fields(Ledger)))

    @staticmethod
    def join(parts: Iterable[Ledger]) -> Ledger:
        """All rows of all parts."""
        parts = [part for part in parts if len(part)] or [Ledger.empty()]
        if len(parts) == 1:
            return parts[0]
        return Ledger(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Ledger)))


@dataclass
class Place:
    """What a tier did.

    Attributes:
        busy_s: server-seconds of work. ``there_s``: server-seconds that were paid for.
        usd: for the servers. ``energy_j``: that they took.
        peak: most servers at a time.
    """

    busy_s: float
    there_s: float
    usd: float
    energy_j: float
    peak: float

    @property
    def busy(self) -> float:
        """Part of the time that its servers worked."""
        return self.busy_s / self.there_s if self.there_s else 0.0


@dataclass(frozen=True)
class Summary:
    """A run in the field's words. Times in ms, of answered requests; NaN where there are none.

    Attributes:
        requests, answered, failed, timed_out, rejected: counts. ``open``: still waiting at the end.
        availability: answered / requests.
        p50_ms, p95_ms, p99_ms: end to end. ``mean_ms``.
        ttft_p50_ms, ttft_p95_ms, ttft_p99_ms: to the first token.
        tpot_p50_ms: per token after the first.
        jitter_ms: mean change of the end-to-end time from one answer to the next.
        throughput_rps, throughput_tps: answers, and their tokens, per second.
        goodput_rps: answers within the deadline, and right, per second.
        quality: part of the answers that were right.
        usd_per_1k: per thousand answers, everything counted. ``usd_per_mtok``: per million output tokens.
        energy_j: per answer.
        private_leaks: requests that went farther than they may.
        edge_rate: part of the answers that came from the user's own site (device or access edge).
        attempts: mean.
    """

    requests: int
    answered: int
    failed: int
    timed_out: int
    rejected: int
    open: int
    availability: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    jitter_ms: float
    throughput_rps: float
    throughput_tps: float
    goodput_rps: float
    quality: float
    usd_per_1k: float
    usd_per_mtok: float
    energy_j: float
    private_leaks: int
    edge_rate: float
    attempts: float

    def as_row(self) -> dict[str, float]:
        """As a row for `kit.plots.table`."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """One objective, and whether it was kept."""

    name: str
    limit: float
    value: float
    good: bool


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        scenario, policy, seed: what ran.
        ledger: its requests, in the order in which they came.
        places: by name of the tier.
        seconds: how long it lasted, from 0 to the last event.
    """

    scenario: Scenario
    policy: str
    seed: int
    ledger: Ledger
    places: Mapping[str, Place]
    seconds: float

    @property
    def answered(self) -> np.ndarray:
        """Which requests were answered, bool [n]."""
        return self.ledger.status == ANSWERED

    @cached_property
    def e2e_ms(self) -> np.ndarray:
        """End-to-end time of each request, NaN for those without an answer, [n]."""
        return np.where(self.answered, 1e3 * (self.ledger.last_s - self.ledger.at_s), np.nan)

    @cached_property
    def ttft_ms(self) -> np.ndarray:
        """Time to first token, likewise, [n]."""
        return np.where(self.answered, 1e3 * (self.ledger.first_s - self.ledger.at_s), np.nan)

    def parts(self, i: int) -> dict[str, float]:
        """Where the time of request ``i`` went, in ms: `PARTS`, which add up to its end-to-end time.

        Raises:
            ValueError: it was not answered.
        """
        return {name: float(values[i]) for name, values in self._parts(np.array([i]), i).items()}

    def _parts(self, _: np.ndarray, i: int) -> dict[str, np.ndarray]:
        if not self.answered[i]:
            raise ValueError(f"request {i} was not answered ({self.status(i)}): its time has no parts.")
        return self.all_parts

    @cached_property
    def all_parts(self) -> dict[str, np.ndarray]:
        """`PARTS` of all requests, in ms, each [n]; NaN for those without an answer."""
        g = self.ledger
        there = g.tier >= 0
        moments = [g.at_s, g.sent_s, g.arrive_s, g.start_s, g.done_first_s, g.done_last_s, g.last_s]
        found = {}
        for name, before, after in zip(PARTS, moments[:-1], moments[1:], strict=True):
            value = np.where(there, 1e3 * (after - before), 0.0)
            if name == "work":
                value = np.where(g.tier == CACHE, self.e2e_ms, value)
            found[name] = np.where(self.answered, value, np.nan)
        return found

    def status(self, i: int) -> str:
        """How request ``i`` ended, in words."""
        return (*STATUS, "open")[self.ledger.status[i]]

    def tier(self, i: int) -> str:
        """Who answered request ``i``."""
        return self._names[self.ledger.tier[i]]

    @property
    def _names(self) -> list[str]:
        return [*self.scenario.tiers, "cache", ""]  # -2 and -1 are the last two

    @property
    def records(self) -> Records:
        """The kit's table of requests; those that are still open count as failed."""
        g, n = self.ledger, len(self.ledger)
        good = self.answered
        share = {name: self._shares(k, place) for k, (name, place) in enumerate(self.places.items())}
        usd, energy = g.usd.copy(), np.zeros(n)
        for place_usd, place_j in share.values():
            usd, energy = usd + place_usd, energy + place_j
        return Records(
            {
                "id": g.id.astype(str),
                "policy": np.full(n, self.policy),
                "scheduled_s": g.at_s,
                "sent_s": np.where(g.attempts > 0, np.fmin(g.sent_s, np.inf), np.nan),
                "first_token_s": np.where(good, g.first_s, np.nan),
                "last_token_s": np.where(good, g.last_s, np.nan),
                "tokens_in": g.prompt_tokens.astype(float),
                "tokens_out": np.where(good, np.maximum(g.output_tokens, 1), np.nan),
                "tier": np.array(self._names)[g.tier],
                "model": np.full(n, ""),
                "attempts": g.attempts,
                "outcome": np.array([*STATUS, "failed"])[g.status],
                "cost_usd": usd,
                "energy_j": energy,
            }
        )

    def _shares(self, k: int, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """A place's money and energy, shared among those it worked for; among all if it did nothing."""
        weight = np.where(self.ledger.tier == k, self.ledger.weight, 0.0)
        if not weight.sum():
            weight = np.ones(len(self.ledger))
        part = weight / weight.sum() if len(weight) else weight
        return place.usd * part, place.energy_j * part

    def summary(self) -> Summary:
        """The run in the field's words."""
        g, good = self.ledger, self.answered
        n, answered = len(g), int(good.sum())
        count = np.bincount(g.status, minlength=5)
        e2e, ttft = self.e2e_ms[good], self.ttft_ms[good]
        tokens = g.output_tokens[good]
        gaps = np.where(tokens > 1, tokens - 1, np.nan)
        tpot = 1e3 * (g.last_s - g.first_s)[good] / gaps
        usd = float(g.usd.sum()) + sum(p.usd for p in self.places.values())
        joule = sum(p.energy_j for p in self.places.values())
        near = [k for k, t in enumerate(self.scenario.tiers.values()) if t.kind in ("device", "access_edge")]
        p50, p95, p99 = _percentiles(e2e)
        first50, first95, first99 = _percentiles(ttft)
        written = float(tokens.sum())
        right = good & g.right
        return Summary(
            requests=n,
            answered=answered,
            failed=int(count[FAILED]),
            timed_out=int(count[TIMED_OUT]),
            rejected=int(count[REJECTED]),
            open=int(count[OPEN]),
            availability=_ratio(answered, n),
            mean_ms=_ratio(float(e2e.sum()), answered),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            ttft_p50_ms=first50,
            ttft_p95_ms=first95,
            ttft_p99_ms=first99,
            tpot_p50_ms=percentile(tpot, 50),
            jitter_ms=float(np.abs(np.diff(e2e)).mean()) if answered > 1 else np.nan,
            throughput_rps=_ratio(answered, self.seconds),
            throughput_tps=_ratio(written, self.seconds),
            goodput_rps=_ratio(float(right.sum()), self.seconds),
            quality=_ratio(float(right.sum()), answered),
            usd_per_1k=_ratio(1000 * usd, answered),
            usd_per_mtok=_ratio(1e6 * usd, written),
            energy_j=_ratio(joule, answered),
            private_leaks=int(g.leaked.sum()),
            edge_rate=_ratio(float(np.isin(g.tier[good], [*near, CACHE]).sum()), answered),
            attempts=float(g.attempts.mean()) if n else np.nan,
        )

    def kept(self, slo: Mapping[str, float] | None = None) -> list[Kept]:
        """Each objective of the scenario (or of ``slo``), what was reached, and whether it was kept."""
        limits = slo if slo is not None else asdict(self.scenario.slo)
        row = self.summary().as_row()
        found = []
        for name, limit in limits.items():
            if limit is not None:
                value = float(row[name])
                good = value >= limit if name in ("availability", "quality") else value <= limit
                found.append(Kept(name, limit, value, bool(good)))
        return found


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else np.nan


def _percentiles(values: np.ndarray) -> tuple[float, float, float]:
    if not len(values):
        return np.nan, np.nan, np.nan
    found = np.percentile(values, (50, 95, 99))
    return float(found[0]), float(found[1]), float(found[2])


def interval(values: np.ndarray, q: float, z: float = 1.96) -> tuple[float, float, float]:
    """A percentile and its 95% interval, from the order of **independent** values.

    The number of values below the percentile is binomial, so the interval lies between two of the sorted
    values. Neighbours in a queue are not independent: for them use several runs (`between_runs`).
    Source: Hahn and Meeker 1991, "Statistical Intervals", section 5.2.
    """
    known = np.sort(values[~np.isnan(values)])
    n, p = len(known), q / 100
    if not n:
        return np.nan, np.nan, np.nan
    half = z * np.sqrt(n * p * (1 - p))
    low, high = np.clip([np.floor(n * p - half), np.ceil(n * p + half)], 0, n - 1).astype(int)
    return float(np.percentile(known, q)), float(known[low]), float(known[high])


STUDENT = (
    12.71,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
"""97.5% points of Student's distribution with 1, 2, 3 ... degrees of freedom."""


def between_runs(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean of independent runs and its 95% interval (Student). One run has none: NaN."""
    values = np.array(list(values), float)
    if len(values) < 2:
        return float(values.mean()), np.nan, np.nan
    t = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else 1.96 + 2.4 / (len(values) - 1)
    half = t * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
