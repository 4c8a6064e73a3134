"""Simulated against real: the same requests through the live gateway and through the simulator.

A **bed** says how long the places need (recorded from the models alone) and what lies between them. It is
calibrated in runs of its own, without the network and without a queue: how long a server is busy, and what
all programs on the way add. From that a scenario is made, and what it predicts is laid over what another run
of the live gateway measured.

Both meet the same requests at the same times. What is drawn in each for itself: service times and round
trips. The places replay the recorded times: real models side by side would share these cores, and slow each
other down in a way that no place in the world does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from kit import serve
from kit.artifacts import DATASETS
from kit.records import Records
from kit.route import gateway
from kit.route.evaluation import HOME
from kit.route.replay import Script
from kit.simulate import Class, Dispatch, Link, Scenario, Tier, Workload, load, recorded, run
from kit.simulate import workload as asks

LEVELS = (50, 95, 99)
BARS = {50: 0.10, 95: 0.10, 99: 0.20}
"""How far a prediction may be off, as a part of what was measured."""
WARM = 100
"""Requests before the clock starts: connections are opened, and the policy's first views are taken."""
WARM_PER_S, ALONE_PER_S = 25.0, 12.0
SIGNALS_S = 0.25
FILE = DATASETS / "gateway.csv"
KEPT = tuple((np.arange(201) / 2).tolist())
"""Levels of the quantiles that are kept, in percent; `LEVELS` are among them."""


@dataclass(frozen=True)
class Bed:
    """Places and what lies between them.

    Attributes:
        edge_ms, cloud_ms: quantiles of service times, at evenly spaced levels.
        cloud_servers: requests that the cloud serves at a time; the edge serves one.
        network: id of ``datasets/networks.csv`` between gateway and cloud.
        where: which recorded answers are asked, see `kit.simulate.Class`.
        edge_programs_ms, cloud_programs_ms: what load generator, gateway and servers add to each request
            there. It delays, and keeps no server busy: so it is a link.
    """

    edge_ms: tuple[float, ...]
    cloud_ms: tuple[float, ...]
    cloud_servers: int = 4
    network: str = "cable_assumed"
    where: Mapping[str, Any] = field(default_factory=lambda: {"split": "test", "lang": "en"})
    edge_programs_ms: float = 0.0
    cloud_programs_ms: float = 0.0

    @property
    def wan(self) -> Link:
        """The network, as a scenario has it."""
        return Link(profile=self.network)

    def scenario(
        self, requests_per_s: float, requests: int, policy: str, options: Mapping[str, Any]
    ) -> Scenario:
        """The bed as the simulator knows it."""
        asked = Class(answers="answers.csv", where=self.where, payload_bytes=1, answer_bytes=1)
        near = Tier(
            kind="device", path=("edge_programs",), service_quantiles_ms=self.edge_ms, answers_as="edge"
        )
        far = Tier(
            kind="central_cloud",
            path=("cloud_programs", "wan"),
            servers=self.cloud_servers,
            service_quantiles_ms=self.cloud_ms,
            answers_as="cloud",
        )
        return Scenario(
            title="a bed",
            workload=Workload(
                requests_per_s=requests_per_s,
                seconds=requests / requests_per_s,
                classes={"sentence": asked},
            ),
            links={
                "edge_programs": Link(rtt_ms=self.edge_programs_ms),
                "cloud_programs": Link(rtt_ms=self.cloud_programs_ms),
                "wan": self.wan,
            },
            tiers={"edge": near, "cloud": far},
            policy=policy,
            options=options,
            dispatch=Dispatch(signals_every_s=SIGNALS_S),
        )


@dataclass(frozen=True)
class Compared:
    """One policy at one load.

    Attributes:
        measured_ms, predicted_ms: latencies of what was answered.
        asked: requests of each run. ``lag_ms``: how late the load generator was, P99.
    """

    policy: str
    requests_per_s: float
    measured_ms: np.ndarray
    predicted_ms: np.ndarray
    asked: int
    lag_ms: float

    def percentiles(self) -> tuple[list[float], list[float]]:
        """Measured and predicted, at each of `LEVELS`."""
        measured, predicted = (np.percentile(ms, LEVELS) for ms in (self.measured_ms, self.predicted_ms))
        return measured.tolist(), predicted.tolist()

    def errors(self) -> dict[int, float]:
        """How far the prediction is off at each of `LEVELS`, as a part of what was measured."""
        return {k: said / real - 1 for k, real, said in zip(LEVELS, *self.percentiles(), strict=True)}


@contextmanager
def live(
    bed: Bed, policy: str, options: Mapping[str, Any], *, network: bool = True, seed: int = 0
) -> Iterator[gateway.Stack]:
    """The bed, running: a gateway, two places that replay, and a proxy that delays."""
    table = recorded.table("answers.csv").where(bed.where)
    near, far = (
        {
            text: {"label": "Command", "text": "Command", "confidence": sure}
            for text, sure in zip(table["text"].tolist(), table.sure(model).tolist(), strict=True)
        }
        for model in ("edge", "cloud")
    )
    with gateway.started(
        edge=Script(model="edge", service_quantiles_ms=bed.edge_ms, answers=near, seed=seed),
        cloud=Script(
            model="big",
            service_quantiles_ms=bed.cloud_ms,
            servers=bed.cloud_servers,
            answers=far,
            seed=seed + 1,
        ),
        network={"wan": bed.wan} if network else "",
        seed=seed,
        policy=policy,
        options=dict(options),
        signals_every_s=SIGNALS_S,
    ) as stack:
        yield stack


def drive(stack: gateway.Stack, scenario: Scenario, seed: int) -> serve.Report:
    """Ask the gateway what the simulator asks, at the same times."""
    kind = next(iter(scenario.workload.classes.values()))
    table = recorded.of(kind)
    assert table is not None
    texts = table["text"].tolist()
    found = [
        serve.Ask(at_s, texts[item], 8)
        for chunk in asks.requests(scenario.workload, seed)
        for at_s, item in zip(chunk.at_s.tolist(), chunk.item.tolist(), strict=True)
    ]
    warm = [serve.Ask(i / WARM_PER_S, ask.prompt, 8) for i, ask in enumerate(found[:WARM])]
    url = stack.url + "/v1"
    serve.wait_for(serve.drive(url, "auto", warm))
    return serve.wait_for(serve.drive(url, "auto", found))


def calibrated(bed: Bed, requests: int = 400, seed: int = 100) -> Bed:
    """The bed as a run shows it in which each place is asked alone, without the network.

    How long a request keeps a server busy is what the server's own counters say (its clock rings a little
    late, so it is more than was recorded). The rest of its time is what all programs add.
    """
    edge, edge_programs_ms = _told_apart(bed, "edge", requests, seed)
    cloud, cloud_programs_ms = _told_apart(bed, "cloud", requests, seed + 1)
    return replace(
        bed,
        edge_ms=edge,
        cloud_ms=cloud,
        edge_programs_ms=edge_programs_ms,
        cloud_programs_ms=cloud_programs_ms,
    )


def _told_apart(bed: Bed, place: str, requests: int, seed: int) -> tuple[tuple[float, ...], float]:
    """Quantiles of a place's service times, and what the programs around it add, both in ms."""
    recorded_ms = bed.edge_ms if place == "edge" else bed.cloud_ms
    scenario = bed.scenario(ALONE_PER_S, requests, "always_cloud", {"tier": place})
    with live(bed, scenario.policy, scenario.options, network=False, seed=seed) as stack:
        alone_ms = _answered_ms(drive(stack, scenario, seed).records)
        busy_ms = _busy_ms(stack.edge_url if place == "edge" else stack.cloud_url)
    longer = busy_ms / _mean_ms(recorded_ms)
    return tuple(longer * ms for ms in recorded_ms), max(float(np.mean(alone_ms)) - busy_ms, 0.0)


def _busy_ms(url: str) -> float:
    """Mean time that a request kept a server busy, by its own counters."""
    told = dict(line.split() for line in httpx.get(url + "/metrics", timeout=10).text.splitlines())
    return 1000 * float(told["kit_busy_seconds_total"]) / float(told["kit_served_total"])


def _mean_ms(quantiles_ms: Sequence[float]) -> float:
    """Mean of a distribution from its quantiles at evenly spaced levels."""
    q = np.asarray(quantiles_ms)
    return float((q[1:] + q[:-1]).mean()) / 2


def compared(
    bed: Bed,
    known: Bed,
    requests_per_s: float,
    policy: str,
    options: Mapping[str, Any],
    requests: int = 5200,
    seed: int = 1,
) -> Compared:
    """Measure ``bed`` live, and predict it from ``known``, which another run was calibrated from."""
    scenario = known.scenario(requests_per_s, requests, policy, options)
    with live(bed, policy, options, seed=seed) as stack:
        report = drive(stack, scenario, seed)
    return Compared(
        policy=policy,
        requests_per_s=requests_per_s,
        measured_ms=_answered_ms(report.records),
        predicted_ms=_answered_ms(run(scenario, seed=seed).records),
        asked=len(report.records),
        lag_ms=float(np.percentile(report.lag_ms, 99)),
    )


POLICIES: dict[str, tuple[dict[str, Any], float]] = {
    "simple_shuffle": ({"weights": {"edge": 3.0, "cloud": 1.0}}, 4 / 3),
    "least_busy": ({}, 1.0),
    "confidence_cascade": ({"edge": "edge", "cloud": "cloud", "threshold": 0.9}, 1.0),
}
"""Policy -> its options, and how many times the edge's capacity the load may be."""


def bed(edge_slower: float = 40.0, cloud_slower: float = 4.0) -> Bed:
    """The voice home's places, slower than the machine that they were recorded on.

    At their own speed (a quarter of a millisecond at the edge) the programs around them would be most of what
    is measured. So the edge is a small device, and the cloud is shared.
    """
    tiers = load(HOME).tiers
    edge, cloud = (np.array(tiers[name].service_quantiles_ms) for name in ("edge", "cloud"))
    return Bed(tuple((edge_slower * edge).tolist()), tuple((cloud_slower * cloud).tolist()))


def loads(
    bed: Bed, parts: tuple[float, ...] = (0.4, 0.55, 0.7)
) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Three policies, each at three loads: name, options, requests per second.

    Args:
        parts: of the capacity of the edge, as far as the policy uses it.
    """
    edge_s = _mean_ms(bed.edge_ms) / 1000
    for policy, (options, times) in POLICIES.items():
        for part in parts:
            yield policy, options, round(part * times / edge_s, 1)


def write(runs: Iterable[Compared], file: Path = FILE) -> None:
    """Keep runs in a table: their quantiles, in ms."""
    with file.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(
            ["policy", "requests_per_s", "asked", "lag_ms", "level", "measured_ms", "simulated_ms"]
        )
        for run in runs:
            for level in KEPT:
                two = (
                    round(float(np.percentile(ms, level)), 2) for ms in (run.measured_ms, run.predicted_ms)
                )
                writer.writerow(
                    [run.policy, run.requests_per_s, run.asked, round(run.lag_ms, 2), level, *two]
                )


def read(file: Path = FILE) -> list[Compared]:
    """The runs that `write` kept; latencies are their quantiles."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with file.open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            found.setdefault((row["policy"], row["requests_per_s"]), []).append(row)
    return [
        Compared(
            policy=policy,
            requests_per_s=float(rate),
            measured_ms=np.array([float(r["measured_ms"]) for r in rows]),
            predicted_ms=np.array([float(r["simulated_ms"]) for r in rows]),
            asked=int(rows[0]["asked"]),
            lag_ms=float(rows[0]["lag_ms"]),
        )
        for (policy, rate), rows in found.items()
    ]


def _answered_ms(records: Records) -> np.ndarray:
    return records.where(records["outcome"] == "answered")["e2e_ms"]
