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

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kit import serve
from kit.records import Records
from kit.route import gateway
from kit.route.replay import Script
from kit.simulate import Class, Dispatch, Link, Scenario, Tier, Workload, calibrate, recorded, run
from kit.simulate import workload as asks

LEVELS = (50, 95, 99)
WARM = 100
"""Requests before the clock starts: connections are opened, and the policy's first views are taken."""
ALONE_PER_S = 12.0


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
            dispatch=Dispatch(signals_every_s=1.0),
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

    def errors(self) -> dict[int, float]:
        """How far the prediction is off at each of `LEVELS`, as a part of what was measured."""
        real, said = np.percentile(self.measured_ms, LEVELS), np.percentile(self.predicted_ms, LEVELS)
        return dict(zip(LEVELS, (said / real - 1).tolist(), strict=True))


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
    requests: int = 5000,
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


def _answered_ms(records: Records) -> np.ndarray:
    return records.where(records["outcome"] == "answered")["e2e_ms"]
