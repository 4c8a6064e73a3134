"""Simulated against real: the same requests through the live gateway and through the simulator.

A **bed** says how fast the places are and what lies between them. It is calibrated from runs of its own,
without the network and without a queue: what all programs on the way add (a place that needs no time is
asked), and how long each place needs. From that, a scenario is made, and what it predicts is laid over what
another run of the live gateway measured.

Both meet the same requests at the same times. What is drawn in each for itself: service times and round
trips. The places replay times that were recorded alone: real models side by side would share these cores,
and slow each other down in a way that no place in the world does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kit import serve
from kit.artifacts import DATASETS
from kit.records import Records
from kit.route import gateway
from kit.route.evaluation import HOME
from kit.route.replay import Script
from kit.simulate import Class, Dispatch, Link, Scenario, Tier, Workload, calibrate, load, recorded, run
from kit.simulate import workload as asks

LEVELS = (50, 95, 99)
BARS = {50: 0.10, 95: 0.10, 99: 0.20}
"""How far a prediction may be off, as a part of what was measured."""
WARM = 100
"""Requests before the clock starts: connections are opened, and the policy's first views are taken."""
ALONE_PER_S = 12.0
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
        programs_ms, programs_jitter_ms: what load generator, gateway and servers add to each request, and its
            standard deviation. It delays, and keeps no server busy: so it is a link.
    """

    edge_ms: tuple[float, ...]
    cloud_ms: tuple[float, ...]
    cloud_servers: int = 4
    network: str = "cable_assumed"
    where: Mapping[str, Any] = field(default_factory=lambda: {"split": "test", "lang": "en"})
    programs_ms: float = 0.0
    programs_jitter_ms: float = 0.0

    @property
    def wan(self) -> Link:
        """The network, as a scenario has it."""
        return Link(profile=self.network)

    def scenario(
        self, requests_per_s: float, requests: int, policy: str, options: Mapping[str, Any]
    ) -> Scenario:
        """The bed as the simulator knows it."""
        asked = Class(answers="answers.csv", where=self.where, payload_bytes=1, answer_bytes=1)
        near = Tier(kind="device", path=("programs",), service_quantiles_ms=self.edge_ms, answers_as="edge")
        far = Tier(
            kind="central_cloud",
            path=("programs", "wan"),
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
                "programs": Link(rtt_ms=self.programs_ms, jitter_ms=self.programs_jitter_ms),
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
    warm = [serve.Ask(i / ALONE_PER_S / 2, ask.prompt, 8) for i, ask in enumerate(found[:WARM])]
    url = stack.url + "/v1"
    serve.wait_for(serve.drive(url, "auto", warm))
    return serve.wait_for(serve.drive(url, "auto", found))


def calibrated(bed: Bed, requests: int = 400, seed: int = 100) -> Bed:
    """The bed as it is seen from outside."""

    def alone(places: Bed, place: str, seed: int) -> Records:
        scenario = places.scenario(ALONE_PER_S, requests, "always_cloud", {"tier": place})
        with live(places, scenario.policy, scenario.options, network=False, seed=seed) as stack:
            return drive(stack, scenario, seed).records

    nothing_ms = _answered_ms(alone(replace(bed, edge_ms=(0.0, 0.0)), "edge", seed))
    programs_ms = float(np.median(nothing_ms))
    low, high = np.percentile(nothing_ms, [16, 84])
    edge, cloud = (
        calibrate.service_quantiles_ms(alone(bed, place, seed + 1), programs_ms)
        for place in ("edge", "cloud")
    )
    jitter_ms = float(high - low) / 2
    return replace(bed, edge_ms=edge, cloud_ms=cloud, programs_ms=programs_ms, programs_jitter_ms=jitter_ms)


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
    "simple_shuffle": ({"weights": {"edge": 1.0, "cloud": 1.0}}, 2.0),
    "least_busy": ({}, 1.0),
    "confidence_cascade": ({"edge": "edge", "cloud": "cloud", "threshold": 0.9}, 1.0),
}
"""Policy -> its options, and how many times the edge's capacity the load may be: a shuffle halves it."""


def bed(edge_slower: float = 40.0, cloud_slower: float = 4.0) -> Bed:
    """The voice home's places, slower than the machine that they were recorded on.

    At their own speed (a quarter of a millisecond at the edge) the programs around them would be most of what
    is measured. So the edge is a small device, and the cloud is shared.
    """
    tiers = load(HOME).tiers
    edge, cloud = (np.array(tiers[name].service_quantiles_ms) for name in ("edge", "cloud"))
    return Bed(tuple((edge_slower * edge).tolist()), tuple((cloud_slower * cloud).tolist()))


def loads(
    bed: Bed, parts: tuple[float, ...] = (0.3, 0.6, 0.8)
) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Three policies, each at three loads: name, options, requests per second.

    Args:
        parts: of the capacity of the edge, as far as the policy uses it.
    """
    edge_s = float((np.array(bed.edge_ms)[1:] + np.array(bed.edge_ms)[:-1]).mean()) / 2000
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
