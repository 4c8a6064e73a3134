"""The experiments of chapter 10: small scenarios made in code, and files of ``datasets`` compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kit import facts
from kit.policy import AlwaysCloud
from kit.simulate import files, theory
from kit.simulate.network import Path
from kit.simulate.results import Result, Summary
from kit.simulate.run import compare, run
from kit.simulate.scenario import Autoscale, Class, Link, Outage, Scenario, Tier, Workload

FAR = {
    "the same coast": "region_same_coast",
    "over the Atlantic": "region_atlantic",
    "over the Pacific": "region_pacific",
    "Europe to Asia": "region_eurasia",
    "Europe to Australia": "region_far_side",
}
"""Name -> row of ``datasets/networks.csv``: from the user's provider to the cloud's region."""

ROADS = {
    "city": "5g_public_urban_standing",
    "fast road": "5g_public_arterial_60kmh",
    "cell changes": "5g_rural_30kmh_handover",
    "poor coverage": "5g_rural_standing_poor",
}
"""Name -> row of ``datasets/networks.csv``: 5G to a cloud, measured from vehicles."""


def one_place(
    requests_per_s: float,
    seconds: float,
    tier: Tier,
    links: Mapping[str, Link] | None = None,
    asked: Class | None = None,
    **workload: object,
) -> Scenario:
    """A scenario with a single place that answers, called ``there``.

    Args:
        requests_per_s, seconds: of the workload. ``workload``: its other fields.
        tier: the place. ``links``: that its path names. ``asked``: the only class of requests.
    """
    made = Workload(
        requests_per_s=requests_per_s,
        seconds=seconds,
        classes={"request": asked or Class()},
        **workload,  # type: ignore[arg-type]
    )
    return Scenario(
        title="one place",
        workload=made,
        tiers={"there": tier},
        links=links or {},
        policy="always_cloud",
        options={"tier": "there"},
    )


def to_a_cloud(
    backbone: str, access: str = "cable_assumed", service_ms: float = 5.0, n: int = 20_000
) -> Result:
    """A call to a small model in a cloud that is never busy: access network, backbone, service.

    Args:
        backbone, access: rows of ``datasets/networks.csv``.
        service_ms: of the model.
        n: requests.
    """
    links = {"access": Link(profile=access), "backbone": Link(profile=backbone)}
    tier = Tier(kind="central_cloud", path=("access", "backbone"), servers=100, service_ms=service_ms)
    return run(one_place(20, n / 20, tier, links))


def on_the_road(profile: str, payload_kb: float = 1.0, n: int = 20_000) -> Result:
    """A call over one of the measured 5G paths, to a model that takes 5 ms.

    Args:
        profile: a row of ``datasets/networks.csv``, with the upload of the UK's 5G average.
        payload_kb: what goes up, in kilobytes.
        n: requests.
    """
    up_mbps = facts.networks()["5g_uk_average_2023"].bandwidth_up_mbps
    links = {"road": Link(profile=profile, up_mbps=up_mbps)}
    tier = Tier(kind="central_cloud", path=("road",), servers=1000, service_ms=5)
    return run(one_place(20, n / 20, tier, links, Class(payload_bytes=1000 * payload_kb, answer_bytes=200)))


def queue(servers: int, load: float, service_ms: float = 10.0, n: int = 200_000, seed: int = 0) -> Result:
    """So many servers in front of one queue, so busy, with Poisson arrivals and exponential services."""
    rate = load * servers / (service_ms / 1000)
    tier = Tier(kind="central_cloud", servers=servers, service_ms=service_ms, service_cv=1)
    return run(one_place(rate, n / rate, tier), seed=seed)


@dataclass(frozen=True)
class Against:
    """A simulated queue beside theory. Times in ms."""

    servers: int
    load: float
    mean_ms: float
    theory_mean_ms: float
    p99_ms: float
    theory_p99_ms: float


def against_theory(servers: Sequence[int], loads: Sequence[float], service_ms: float = 10.0) -> list[Against]:
    """Mean and P99 of wait and service together, simulated and exact (M/M/c)."""
    found = []
    for c in servers:
        for load in loads:
            e2e_ms = queue(c, load, service_ms).e2e_ms
            rate = load * c / (service_ms / 1000)
            exact = theory.mmc(rate, service_ms / 1000, c)
            found.append(
                Against(
                    servers=c,
                    load=load,
                    mean_ms=float(np.nanmean(e2e_ms)),
                    theory_mean_ms=1e3 * exact.mean_wait_s + service_ms,
                    p99_ms=float(np.nanpercentile(e2e_ms, 99)),
                    theory_p99_ms=1e3 * exact.sojourn_quantile_s(0.99),
                )
            )
    return found


def chat(
    rows: int = 32, batching: str = "continuous", stations: int = 1, rate: float = 5.53, **workload: object
) -> Scenario:
    """The chat assistant's cloud alone: an 8B model on an H100, with so many rows a card.

    Args:
        rows: conversations at the same time. ``batching``: ``continuous`` or ``static``.
        stations: cards. ``rate``: requests per second.
        workload: other fields of the workload.
    """
    plain = files.load("chat_assistant")
    tier = replace(plain.tiers["cloud"], rows=rows, batching=batching, stations=stations)
    changed = replace(plain.workload, requests_per_s=rate, **workload)  # type: ignore[arg-type]
    return plain.but(
        tiers={"cloud": tier},
        workload=changed,
        policy="always_cloud",
        options={"tier": "cloud"},
        topologies={},
    )


def broken(minutes: float = 5, seed: int = 0) -> dict[str, Result]:
    """The smart home on an evening when the line to the provider is down for some minutes: its topologies."""
    home = files.load("smart_home")
    begin = 600.0
    cut = home.but(
        outages=(Outage(what="wan", at_s=begin, lasts_s=60 * minutes),),
        workload=replace(home.workload, seconds=1800),
    )
    kept = {"all_device": "device", "all_cloud": "central cloud", "failover": "fallback chain"}
    return {kept[name]: r for name, r in compare(cut, seed=seed).items() if name in kept}


BURSTS = {"arrivals": "on_off", "on_s": 400.0, "off_s": 500.0}
"""No requests, and then many, for random times with these means."""


def scaling(start_s: float, seeds: Sequence[int] = (0, 1, 2)) -> list[Result]:
    """An hour of bursts for an autoscaler from 4 to 30 servers that need ``start_s`` until they work."""
    scale = Autoscale(least=4, most=30, target=0.6, start_s=start_s)
    tier = Tier(kind="central_cloud", servers=4, service_ms=400, service_cv=1, autoscale=scale)
    return [run(one_place(10, 3600, tier, **BURSTS), seed=seed) for seed in seeds]


def fixed(servers: int, seeds: Sequence[int] = (0, 1, 2)) -> list[Result]:
    """The same bursts for servers whose number never changes."""
    tier = Tier(kind="central_cloud", servers=servers, service_ms=400, service_cv=1)
    return [run(one_place(10, 3600, tier, **BURSTS), seed=seed) for seed in seeds]


def late_minutes(results: Sequence[Result], limit_ms: float, every_s: float = 30) -> float:
    """Minutes of a run in which the P95 of half a minute's requests is above the limit; mean over runs."""
    found = []
    for result in results:
        window = (result.ledger.at_s // every_s).astype(int)
        late = [np.nanpercentile(result.e2e_ms[window == w], 95) > limit_ms for w in np.unique(window)]
        found.append(sum(late) * every_s / 60)
    return float(np.mean(found))


@dataclass(frozen=True)
class Duel:
    """One workload, all at the nearest place and all in the central cloud, with several seeds.

    Attributes:
        name: of the scenario. ``edge``, ``cloud``: summaries, one for each seed.
    """

    name: str
    edge: Sequence[Summary]
    cloud: Sequence[Summary]

    def near(self, measure: str) -> float:
        """Median over the seeds of one number of the summary, at the nearest place."""
        return float(np.median([getattr(one, measure) for one in self.edge]))

    def far(self, measure: str) -> float:
        """The same in the cloud."""
        return float(np.median([getattr(one, measure) for one in self.cloud]))

    @property
    def ratio(self) -> dict[str, float]:
        """How many times longer the cloud takes: P50, P95 of the end-to-end time."""
        return {p.upper(): self.far(f"{p}_ms") / self.near(f"{p}_ms") for p in ("p50", "p95")}


def duels(names: Sequence[str] | None = None, seeds: Sequence[int] = (0, 1, 2)) -> list[Duel]:
    """Every scenario with the same requests, once on the nearest place and once in the central cloud.

    Deadlines, caches and outages at known times are taken away, so that late answers count with their time.
    """
    found = []
    for name in names or files.names():
        plain = files.load(name)
        if names is None and any(c.answers for c in plain.workload.classes.values()):
            continue  # the smart home again, with real answers: chapter 11
        classes = {k: replace(c, deadline_ms=None, cacheable=0.0) for k, c in plain.workload.classes.items()}
        free = plain.but(workload=replace(plain.workload, classes=classes), outages=())
        near = min(free.tiers, key=lambda tier: Path(free.tiers[tier].path, free.links).median_rtt_ms())
        far = [tier for tier, t in free.tiers.items() if t.kind == "central_cloud"][-1]
        sides = [[run(free, AlwaysCloud(tier), seed=s).summary() for s in seeds] for tier in (near, far)]
        found.append(Duel(name, *sides))
    return found


def balance(
    rtt_ms: float, payload_kb: float, edge_ms: float, cloud_ms: float, requests_per_s: float, servers: int
) -> dict[str, Result]:
    """Edge or cloud? One device with ``edge_ms`` against a shared cloud behind a network.

    Args:
        rtt_ms: median round trip to the cloud; its spread is that of 5G in a city.
        payload_kb: what goes up, over 15 Mbit/s.
        edge_ms, cloud_ms: service times (exponential in the cloud).
        requests_per_s: of each home; a hundred homes share the cloud, each has its own device.
        servers: in the cloud.
    """
    homes, n = 100, 20_000
    asked = Class(payload_bytes=1000 * payload_kb, answer_bytes=1000)
    links = {"wan": Link(profile="5g_public_urban_standing", rtt_ms=rtt_ms, up_mbps=15)}
    device = Tier(kind="device", service_ms=edge_ms, service_cv=0.2)
    cloud = Tier(kind="central_cloud", path=("wan",), servers=servers, service_ms=cloud_ms, service_cv=1)
    at_home = one_place(requests_per_s, n / requests_per_s, device, asked=asked)
    shared = one_place(homes * requests_per_s, n / (homes * requests_per_s), cloud, links, asked)
    return {"edge": run(at_home, name="edge"), "cloud": run(shared, name="cloud")}
