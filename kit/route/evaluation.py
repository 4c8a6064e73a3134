"""Any policies on one workload, the same requests for all: quality, time, money, energy, privacy together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from kit.policy import AlwaysCloud, AlwaysEdge, Policy, PrivacyFirst, SimpleShuffle
from kit.route.oracle import Oracle
from kit.simulate import Outage, Result, Scenario, Wrong, between_runs, load, run, services
from kit.simulate.results import ESCALATED, FELL_BACK, HEDGED, REJECTED, RETRIED, TIMED_OUT
from kit.simulate.workload import Requests, requests
from kit.simulate.world import World

HOME = "voice_home"
BASELINES = ("always_edge", "always_cloud", "random", "oracle")
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Measures:
    """One policy on one run. Parts are of all requests, from 0 to 1.

    Attributes:
        quality: answered right, and in time. An answer that does not come is not right.
        p50_ms, p95_ms, p99_ms: end to end, of answered requests.
        usd_per_1k: of a thousand requests, servers included. ``energy_j``: of one, likewise.
        leaks: went where they must not go.
        availability: answered. ``missed``: not before their deadline. ``shed``: refused by a full queue.
        edge_rate: answered at the device or the access edge. ``cloud_rate``: the farthest tier was asked.
        escalated, fell_back, hedged, retried: somebody was asked again: see `kit.simulate.results`.
        regret: answered right by an oracle on the same run, and not by this policy (net).
    """

    quality: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    usd_per_1k: float
    energy_j: float
    leaks: float
    availability: float
    missed: float
    shed: float
    edge_rate: float
    cloud_rate: float
    escalated: float
    fell_back: float
    hedged: float
    retried: float
    regret: float


MEASURES = tuple(f.name for f in fields(Measures))
MORE_IS_BETTER = ("quality", "availability")
AT_ONCE = ("quality", "p95_ms", "usd_per_1k")
"""What a front looks at, unless other measures are asked for."""


def measures(result: Result, oracle: Result | None = None) -> Measures:
    """One run in numbers; without an oracle, regret is NaN."""
    g, s = result.ledger, result.summary()
    n = max(len(g), 1)
    farthest = len(result.scenario.tiers) - 1
    right = float(g.right.sum()) / n

    def part(flag: int) -> float:
        return float((g.how & flag > 0).sum()) / n

    return Measures(
        quality=right,
        p50_ms=s.p50_ms,
        p95_ms=s.p95_ms,
        p99_ms=s.p99_ms,
        usd_per_1k=s.usd_per_1k * s.answered / n,
        energy_j=s.energy_j * s.answered / n,
        leaks=s.private_leaks / n,
        availability=s.availability,
        missed=float((g.status == TIMED_OUT).sum()) / n,
        shed=float((g.status == REJECTED).sum()) / n,
        edge_rate=s.edge_rate * s.answered / n,
        cloud_rate=float((g.asked >> farthest & 1).sum()) / n,
        escalated=part(ESCALATED),
        fell_back=part(FELL_BACK),
        hedged=part(HEDGED),
        retried=part(RETRIED),
        regret=np.nan if oracle is None else float(oracle.ledger.right.mean()) - right,
    )


@dataclass(frozen=True)
class Evaluation:
    """Several policies on the same runs.

    Attributes:
        scenario, seeds: what ran.
        runs: policy -> its results, one for each seed.
    """

    scenario: Scenario
    seeds: Sequence[int]
    runs: Mapping[str, Sequence[Result]]

    @cached_property
    def measured(self) -> dict[str, list[Measures]]:
        """Policy -> its numbers, one for each seed."""
        best = self.runs.get("oracle", [None] * len(self.seeds))
        return {n: [measures(r, o) for r, o in zip(rs, best, strict=True)] for n, rs in self.runs.items()}

    def value(self, name: str, measure: str) -> tuple[float, float, float]:
        """Mean over the seeds of one number of a policy, with its 95% interval.

        Raises:
            ValueError: no such policy, or no such measure.
        """
        return between_runs(self._each(name, measure))

    def difference(self, name: str, other: str, measure: str) -> tuple[float, float, float]:
        """How much more ``name`` has than ``other``, with its 95% interval; paired, run by run.

        Both met the same requests, network and services (common random numbers), so what is common to both
        does not blur the difference. An interval that holds 0 means: no difference was seen.
        """
        pairs = zip(self._each(name, measure), self._each(other, measure), strict=True)
        return between_runs([a - b for a, b in pairs])

    def _each(self, name: str, measure: str) -> list[float]:
        if name not in self.runs:
            raise ValueError(f"no policy is called {name!r}; evaluated were: {', '.join(self.runs)}.")
        if measure not in MEASURES:
            raise ValueError(f"no measure is called {measure!r}; there are: {', '.join(MEASURES)}.")
        return [float(getattr(m, measure)) for m in self.measured[name]]

    def front(self, measures: Sequence[str] = AT_ONCE, but: Sequence[str] = ("oracle",)) -> list[str]:
        """Policies of which no other one is at least as good in all these measures, and better in one.

        One that leaks is not on it, unless all do: it answers what it must not have heard.
        """
        from kit.plots import front  # it draws, and this module runs where nothing is drawn

        clean = [n for n in self.runs if n not in but and self.value(n, "leaks")[0] == 0]
        names = clean or [n for n in self.runs if n not in but]
        points = {n: tuple(self.value(n, m)[0] for m in measures) for n in names}
        return front(points, tuple("high" if m in MORE_IS_BETTER else "low" for m in measures))

    def points(self, x: str, y: str, but: Sequence[str] = ("oracle",)) -> dict[str, tuple[float, float]]:
        """Policy -> its place in a picture of two measures."""
        return {n: (self.value(n, x)[0], self.value(n, y)[0]) for n in self.runs if n not in but}


def evaluate(
    scenario: Scenario, policies: Mapping[str, Policy], seeds: Sequence[int] = SEEDS, *, bare: bool = False
) -> Evaluation:
    """Run policies, and the four baselines, on the same requests.

    Args:
        scenario: such as `home`. Its first tier is the edge, its last one the cloud.
        policies: name -> policy; a copy is used for each run. What gateways do is done here as well: around
            each stands `PrivacyFirst`, unless ``bare``; the baselines stand without, to show what they leak.
        seeds: one run each. Two or more give intervals.
        bare: leave policies as they are.

    Raises:
        ValueError: a policy has the name of a baseline.
        PolicyError: a policy raised or returned nonsense.
    """
    if taken := sorted(set(policies) & set(BASELINES)):
        raise ValueError(f"{', '.join(taken)}: a baseline has this name; choose another.")
    near, *_, far = scenario.tiers
    shown = {name: p if bare else private(p, near) for name, p in policies.items()}
    runs: dict[str, list[Result]] = {name: [] for name in (*BASELINES, *policies)}
    for seed in seeds:
        for name, policy in {
            "always_edge": AlwaysEdge(near),
            "always_cloud": AlwaysCloud(far),
            "random": SimpleShuffle({near: 1.0, far: 1.0}),
            "oracle": private(oracle_of(scenario, seed), near),
            **shown,
        }.items():
            runs[name].append(run(scenario, policy, seed=seed, name=name))
    return Evaluation(scenario, tuple(seeds), runs)


def private(policy: Policy, near: str = "edge") -> Policy:
    """What no gateway leaves out: a request that must not leave the home is answered there."""
    return PrivacyFirst(policy, AlwaysEdge(near))


def oracle_of(scenario: Scenario, seed: int) -> Oracle:
    """The bound on one run: see `truth`."""
    return Oracle(truth(scenario, seed), next(iter(scenario.tiers)))


def truth(scenario: Scenario, seed: int) -> dict[str, tuple[str, ...]]:
    """Id of each request of a run -> tiers that answer it right, nearest first. Policies never see it."""
    world, found = World(scenario, seed), {}
    for asked in requests(scenario.workload, seed):
        every = np.arange(len(asked))
        right = [world.right(k, asked, every) for k in range(len(world.tiers))]
        for i, id in enumerate(asked.id.tolist()):
            found[str(id)] = tuple([name for name, r in zip(world.names, right, strict=True) if r[i]])
    return found


def asked(scenario: Scenario, seed: int) -> Requests:
    """All requests of a run, with what is hidden from policies."""
    parts = list(requests(scenario.workload, seed))
    whole = parts[0]
    for part in parts[1:]:
        whole = Requests.join(whole, part)
    return whole


def home(lang: str = "en", cloud: str = "cloud", split: str = "test") -> Scenario:
    """The voice home: requests drawn from recorded answers of real models.

    Args:
        lang: language of all requests. In Chinese there are few questions with known answers.
        cloud: who answers there: ``"cloud"``, a teacher for each language, or ``"english"``, MiniLM for all.
        split: ``"dev"`` to tune on, ``"test"`` to report.
    """
    plain = load(HOME)
    classes = {
        name: replace(c, language=lang, where={**c.where, "lang": lang, "split": split})
        for name, c in plain.workload.classes.items()
    }
    tiers = dict(plain.tiers)
    tiers["cloud"] = replace(tiers["cloud"], answers_as=cloud)
    return plain.but(workload=replace(plain.workload, classes=classes), tiers=tiers)


def stressed(scenario: Scenario, overload: float = 1.5, slow: float = 20.0) -> dict[str, Scenario]:
    """The scenario on a calm day and on three bad ones.

    - ``outage``: the link next to the cloud is down in the middle third of the run;
    - ``overload``: so many requests that the cloud would need ``overload`` times its servers for all;
    - ``slow tier``: the cloud answers, ``slow`` times as slowly as it should.

    Args:
        scenario: its last tier is the cloud, with measured or mean service times.
    """
    *_, far = scenario.tiers
    cloud, work = scenario.tiers[far], scenario.workload
    if cloud.writes or cloud.device or not cloud.path:
        raise Wrong(f"tiers.{far}", "needs a link, and service_ms or service_quantiles_ms, to be stressed.")
    third = work.seconds / 3
    shares = np.array([c.share for c in work.classes.values()])
    each_s = np.dot(shares, [services.mean_s(cloud, c) for c in work.classes.values()]) / shares.sum()
    rate = overload * cloud.servers * cloud.stations / each_s
    slower = replace(
        cloud,
        service_ms=None if cloud.service_ms is None else slow * cloud.service_ms,
        service_quantiles_ms=tuple(slow * q for q in cloud.service_quantiles_ms),
    )
    busy = replace(work, requests_per_s=float(rate), seconds=work.seconds * work.requests_per_s / float(rate))
    return {
        "calm": scenario,
        "outage": scenario.but(
            outages=(*scenario.outages, Outage(what=cloud.path[-1], at_s=third, lasts_s=third))
        ),
        "overload": scenario.but(workload=busy),
        "slow tier": scenario.but(tiers={**scenario.tiers, far: slower}),
    }


def sweep(
    scenario: Scenario, thresholds: Sequence[float], seeds: Sequence[int] = SEEDS
) -> dict[float, tuple[float, float]]:
    """The cascade at several thresholds, simulated: threshold -> (part that went to the cloud, quality)."""
    from kit.policy import ConfidenceCascade, Target

    near, *_, far = scenario.tiers
    found = {}
    for t in thresholds:
        policy = private(ConfidenceCascade(t, Target(near), Target(far)), near)
        seen = [measures(run(scenario, policy, seed=seed)) for seed in seeds]
        found[t] = float(np.mean([m.cloud_rate for m in seen])), float(np.mean([m.quality for m in seen]))
    return found
