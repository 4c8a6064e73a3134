"""The chapter's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from IPython.core.display import HTML

from kit import economics, facts, plots
from kit.batch.costs import per_second
from kit.batch.drive import Run
from kit.batch.offline import Offline
from kit.batch.theory import little
from kit.measure import Timing
from kit.plots import spread

MACHINE = "cloud-cpu-c5-xlarge"  # two cores and their hyperthreads, rented
BUSY = {"online": 0.3, "offline": 1.0}  # part of the rented time that is used: ASSUMPTION


def steps_table(times: Mapping[str, Mapping[int, Timing]], mb: Mapping[str, float]) -> HTML:
    """Time of a step, speed, and bytes of weights read for a token, by engine and rows."""
    rows = []
    for name, steps in times.items():
        for n, t in steps.items():
            rows.append(
                {
                    "engine": name,
                    "rows": n,
                    "a step (ms)": spread((t.p50, *t.ci())),
                    "tokens/s": spread(per_second(t, n), ".0f"),
                    "weights read for a token (MB)": mb[name] / n,
                }
            )
    return plots.table(rows)


def runs_table(runs: Mapping[str, Run]) -> HTML:
    """The field's words for each rule, and how full its steps were."""
    rows = []
    for name, run in runs.items():
        s = run.records.summary()
        rows.append(
            {
                "rule": name,
                "tokens/s": s.throughput_tps,
                "requests/s": s.throughput_rps,
                "TTFT P50 (ms)": s.ttft_p50_ms,
                "end to end P50 (ms)": s.e2e_p50_ms,
                "P99 (ms)": s.e2e_p99_ms,
                "rows talking in a step": run.rows_per_step,
                "wasted (%)": 100 * run.waste,
            }
        )
    return plots.table(
        rows, note=f"{len(next(iter(runs.values())).records)} requests; P99 is nearly the worst."
    )


def predicted_table(measured: Mapping[str, Run], predicted: Mapping[str, Run]) -> HTML:
    """Measured and predicted runs side by side, and Little's law on the measured ones."""
    rows = []
    for name, run in measured.items():
        counted, law = little(run.records)
        real, thought = (r.records["e2e_ms"].mean() for r in (run, predicted[name]))
        rows.append(
            {
                "rule": name,
                "mean latency, measured (ms)": float(real),
                "predicted (ms)": float(thought),
                "off by (%)": float(100 * (thought / real - 1)),
                "requests inside, counted": counted,
                "rate × stay": law,
            }
        )
    return plots.table(rows, note="The last two columns are equal by Little's law.")


def per_million(per_second: float, kind: str) -> float:
    """US dollars for a million sentences on a rented machine: "online" idles most of the time, "offline"
    does not."""
    usd_per_s = economics.rented_usd_per_busy_s(facts.prices()[MACHINE].value, BUSY[kind])
    return usd_per_s / per_second * 1e6


def offline_table(found: Mapping[str, Mapping[str, Offline]]) -> HTML:
    """Speed, padding and cost of each way of answering.

    Args:
        found: model -> way -> result; the first way counts as online.
    """
    rows: list[dict[str, Any]] = []
    for model, ways in found.items():
        first = next(iter(ways.values()))
        for i, (way, job) in enumerate(ways.items()):
            rows.append(
                {
                    "model": model,
                    "way": way,
                    "sentences": job.sentences,
                    "per second": job.per_second,
                    "times as fast": job.per_second / first.per_second,
                    "padding (%)": 100 * job.padding,
                    "to start (s)": job.start_s if job.start_s else None,
                    "USD per million": per_million(job.per_second, "offline" if i else "online"),
                }
            )
    price = facts.prices()[MACHINE]
    note = (
        f"Rented at {price.value} {price.unit} ({price.item}), taken to be as fast as this machine. "
        f"Online it is busy {BUSY['online']:.0%} of the time, for people come when they like. Both are "
        "assumptions."
    )
    return plots.table(rows, note=note)


def warm_table(times: Mapping[str, np.ndarray]) -> HTML:
    """First call, second, hundredth."""
    rows = []
    for shape, ms in times.items():
        usual = float(np.median(ms[len(ms) // 2 :]))
        rows.append(
            {
                "sentences × tokens": shape,
                "first call (ms)": float(ms[0]),
                "second": float(ms[1]),
                f"{len(ms)}th": float(ms[-1]),
                "usual": usual,
                "first / usual": float(ms[0] / usual),
            }
        )
    return plots.table(rows, note="Usual is the median of the second half.")


def claims_table(verdicts: Mapping[str, tuple[str, str]]) -> HTML:
    """The chapter's claims: id -> (measured, verdict)."""
    rows = [
        {"claim": facts.claims()[id].claim, "measured here": measured, "verdict": verdict}
        for id, (measured, verdict) in verdicts.items()
    ]
    return plots.table(rows)
