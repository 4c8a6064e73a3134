"""One sentence or two per result of chapter 10, computed from it, so that they are true after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import HTML, Markdown

from kit import arrivals, facts, plots
from kit.plots import number
from kit.simulate.results import Result
from kit.simulate.studies import Against, Duel, late_minutes
from kit.simulate.whatif import Effect

MACHINE_MS = 100
"""What claim C04 calls "machine speed": the P95 stays within 50 to 100 ms."""


def read_sum(result: Result, i: int) -> Markdown:
    """The parts of a request are all of its time."""
    parts = result.parts(i)
    return Markdown(
        f"The parts add up to {number(sum(parts.values()))} ms, and the request took "
        f"{number(result.e2e_ms[i])} ms: no time is lost, and none is counted twice."
    )


def ways_table(results: Mapping[str, Result]) -> HTML:
    """Several ways to run the same requests, side by side."""
    rows = []
    for name, result in results.items():
        m = result.summary()
        rows.append(
            {
                "way": name,
                "answered (%)": 100 * m.availability,
                "P50 (ms)": m.p50_ms,
                "P95 (ms)": m.p95_ms,
                "right (%)": 100 * m.quality,
                "USD per 1000": m.usd_per_1k,
                "energy (J)": m.energy_j if _powers(result) else float("nan"),
                "leaks": m.private_leaks,
            }
        )
    return plots.table(
        rows, note="leaks: requests that went farther than their privacy allows; –: power not known"
    )


def _powers(result: Result) -> bool:
    """Is the power of every place known that worked?"""
    return all(result.scenario.tiers[name].power_w_busy for name, p in result.places.items() if p.busy_s)


def read_ways(results: Mapping[str, Result]) -> Markdown:
    """Is one of them the best in everything?"""
    s = {name: r.summary() for name, r in results.items()}
    fast = min(s, key=lambda n: s[n].p95_ms)
    good = max(s, key=lambda n: s[n].quality)
    cheap = min(s, key=lambda n: s[n].usd_per_1k)
    safe = [n for n in s if s[n].private_leaks == 0]
    best = {fast, good, cheap}
    end = (
        f"{fast} wins all three."
        if len(best) == 1
        else "No way is the best in everything: that is why chapter 11 routes."
    )
    return Markdown(
        f"The fastest is {fast}, the most often right {good}, the cheapest {cheap}. Without a leak: "
        f"{', '.join(safe) or 'none'}. {end}"
    )


def far_table(results: Mapping[str, Result], limit_ms: float = 200) -> HTML:
    """Calls to clouds at several distances."""
    rows = []
    for name, result in results.items():
        m, e2e_ms = result.summary(), result.e2e_ms
        rows.append(
            {
                "cloud": name,
                "P50 (ms)": m.p50_ms,
                "P95 (ms)": m.p95_ms,
                "P99 (ms)": m.p99_ms,
                f"above {limit_ms:g} ms (%)": 100 * float((e2e_ms > limit_ms).mean()),
            }
        )
    return plots.table(rows)


def over_limit(results: Mapping[str, Result], limit_ms: float = 200) -> list[str]:
    """Clouds of which the median call takes longer."""
    return [name for name, r in results.items() if r.summary().p50_ms > limit_ms]


def read_far(results: Mapping[str, Result], limit_ms: float = 200) -> Markdown:
    """Which distances cost more than the limit."""
    slow = over_limit(results, limit_ms)
    near = [n for n in results if n not in slow]
    return Markdown(
        f"The median call is above {limit_ms:g} ms for {', '.join(slow) or 'none of them'}; not for "
        f"{', '.join(near)}. Light in glass needs about 1 ms for 100 km there and back, and no "
        "cable runs straight."
    )


def read_roads(light: Mapping[str, Result], heavy: Mapping[str, Result], payload_kb: float) -> Markdown:
    """The middle and the tail; what a payload adds."""
    p = {name: r.summary() for name, r in light.items()}
    name = max(p, key=lambda n: p[n].p99_ms / p[n].p50_ms)
    city = next(iter(light))
    more = heavy[city].summary().p50_ms - p[city].p50_ms
    return Markdown(
        f"Medians lie between {number(min(s.p50_ms for s in p.values()))} and "
        f"{number(max(s.p50_ms for s in p.values()))} ms, but with *{name}* one call of a hundred takes "
        f"{number(p[name].p99_ms)} ms or more, {p[name].p99_ms / p[name].p50_ms:.0f} times the median. And "
        f"a picture of {payload_kb:g} kB adds {number(more)} ms to every call: bandwidth, not distance."
    )


def theory_table(found: Sequence[Against]) -> HTML:
    """Simulated queues beside exact ones."""
    return plots.table(
        [
            {
                "servers": a.servers,
                "busy (%)": 100 * a.load,
                "mean (ms)": a.mean_ms,
                "exact": a.theory_mean_ms,
                "P99 (ms)": a.p99_ms,
                "exact P99": a.theory_p99_ms,
            }
            for a in found
        ],
        note="200,000 requests each; tests/test_simulate.py uses millions, and asks for 1%",
    )


def read_theory(found: Sequence[Against]) -> Markdown:
    """How far off the simulator is, in these short runs."""
    off = {a: max(abs(a.mean_ms / a.theory_mean_ms - 1), abs(a.p99_ms / a.theory_p99_ms - 1)) for a in found}
    worst = max(off, key=lambda a: off[a])
    return Markdown(
        f"The largest difference is {off[worst]:.1%}, with {worst.servers} "
        f"server{'s' if worst.servers > 1 else ''} at {worst.load:.0%}: 200,000 requests leave that much to "
        "chance. The busier a queue, the longer it remembers, and the more requests it takes."
    )


def rows_table(results: Mapping[str, Result]) -> HTML:
    """A language model's engine with several numbers of rows."""
    rows = []
    for name, result in results.items():
        m = result.summary()
        rows.append(
            {
                "engine": name,
                "first token P50 (s)": m.ttft_p50_ms / 1000,
                "P95 (s)": m.ttft_p95_ms / 1000,
                "each further (ms)": m.tpot_p50_ms,
                "whole answer P95 (s)": m.p95_ms / 1000,
                "tokens/s": m.throughput_tps,
            }
        )
    return plots.table(rows)


def read_rows(results: Mapping[str, Result]) -> Markdown:
    """What rows cost each token and bring the queue."""
    names = list(results)
    few, many = (results[n].summary() for n in (names[0], names[-2]))
    static = results[names[-1]].summary()
    busy = results[names[0]].places["cloud"].busy
    return Markdown(
        f"With {names[-2]} each further token takes {many.tpot_p50_ms / few.tpot_p50_ms:.2f} times as long "
        f"as with {names[0]}, and the first one comes {few.ttft_p95_ms / many.ttft_p95_ms:.0f} times sooner "
        f"(P95), because hardly anybody stands in a queue. {names[0]} are just enough ({busy:.0%} busy); "
        f"with fewer the queue would grow without end. The same rows as {names[-2]}, static: the first "
        f"token's P95 is {static.ttft_p95_ms / 1000:.0f} s instead of {many.ttft_p95_ms / 1000:.2f} s."
    )


def read_outage(results: Mapping[str, Result]) -> Markdown:
    """Who still answers when the line is cut."""
    s = {name: r.summary() for name, r in results.items()}
    text = "; ".join(
        f"{name} {100 * v.availability:.1f}% of the requests, {100 * v.quality:.1f}% of them right"
        for name, v in s.items()
    )
    return Markdown(f"Answered over the half hour: {text}.")


def fleets_table(fleets: Mapping[str, Sequence[Result]], limit_ms: float) -> HTML:
    """What some fleets cost and how long they are late, in an hour of bursts; means over the runs."""
    return plots.table([{"fleet": name, **_fleet(runs, limit_ms)} for name, runs in fleets.items()])


def _fleet(runs: Sequence[Result], limit_ms: float) -> dict[str, float]:
    paid = [sum(p.there_s for p in r.places.values()) / r.seconds for r in runs]
    p95_s = [r.summary().p95_ms / 1000 for r in runs]
    return {
        "servers paid for": float(np.mean(paid)),
        "P95 (s)": float(np.mean(p95_s)),
        f"minutes with P95 above {limit_ms / 1000:g} s": late_minutes(runs, limit_ms),
    }


def read_fleets(fleets: Mapping[str, Sequence[Result]], limit_ms: float) -> Markdown:
    """Which fleet is the cheapest of those that are hardly ever late."""
    rows = {name: list(_fleet(runs, limit_ms).values()) for name, runs in fleets.items()}
    good = {name: row for name, row in rows.items() if row[2] < 1}
    slow = next(iter(rows))
    if not good:
        return Markdown(
            f"Every fleet here is late for a minute or more; {slow} for {rows[slow][2]:.1f} minutes."
        )
    best = min(good, key=lambda n: good[n][0])
    return Markdown(
        f"{slow.capitalize()}: late for {rows[slow][2]:.1f} minutes of the hour. The cheapest that is late "
        f"for less than a minute is {best}, with {good[best][0]:.1f} servers paid for on average. A queue "
        "that built up before the servers came asks for more of them than the burst needs, and they are "
        "kept for five minutes after it."
    )


def read_bursts(results: Mapping[str, Result], source: str = "azure_llm_2023_conversation") -> Markdown:
    """Was Poisson good enough?"""
    s = {name: r.summary() for name, r in results.items()}
    poisson, trace, bursts = s.values()
    here = arrivals.find(source) is not None
    told = (
        "the recorded hour itself"
        if here
        else "a stream with the recorded hour's statistics (the file is not here)"
    )
    cv = facts.workloads()[source].interarrival_cv
    return Markdown(
        f"*Recorded* is {told}. Its first token has a P99 of {number(trace.ttft_p99_ms)} ms; Poisson says "
        f"{number(poisson.ttft_p99_ms)} ms, {abs(poisson.ttft_p99_ms / trace.ttft_p99_ms - 1):.0%} off. "
        f"Gaps in that hour vary little more than Poisson's (CV {cv:g} instead of 1). Real bursts would "
        f"show: with CV 4 it is {number(bursts.ttft_p99_ms)} ms."
    )


def duels_table(found: Sequence[Duel]) -> HTML:
    """Eight workloads, nearest place against central cloud."""
    rows = []
    for d in found:
        fast = [
            who for who, p95 in (("near", d.near("p95_ms")), ("cloud", d.far("p95_ms"))) if p95 <= MACHINE_MS
        ]
        rows.append(
            {
                "workload": d.name.replace("_", " "),
                "near P50 (ms)": d.near("p50_ms"),
                "cloud P50 (ms)": d.far("p50_ms"),
                "times": d.ratio["P50"],
                "near P95 (ms)": d.near("p95_ms"),
                "cloud P95 (ms)": d.far("p95_ms"),
                "times, P95": d.ratio["P95"],
                "right, near (%)": 100 * d.near("quality"),
                "right, cloud (%)": 100 * d.far("quality"),
                f"P95 up to {MACHINE_MS} ms": " and ".join(fast) or "nobody",
            }
        )
    return plots.table(
        rows, note="medians of three runs; the cloud often has the larger model, and is right more often"
    )


def effects_table(before: float, after: float, found: Sequence[Effect], measure: str) -> HTML:
    """Which of the changes mattered."""
    rows = [{"change": "before all", measure: before}, {"change": "all of them", measure: after}]
    rows += [{"change": f"all but {e.change}", measure: e.without} for e in found]
    return plots.table(rows, note="the first one left out is the one that mattered most")


def verdicts(far: Mapping[str, Result], found: Sequence[Duel]) -> dict[str, tuple[str, str]]:
    """The chapter's claims: id -> (measured, verdict)."""
    slow = over_limit(far)
    p50, p95 = ({d.name: d.ratio[p] for d in found} for p in ("P50", "P95"))
    near = [d.name for d in found if d.near("p95_ms") <= MACHINE_MS]
    cloud = [d.name for d in found if d.far("p95_ms") <= MACHINE_MS]

    def say(ratios: Mapping[str, float], low: float, high: float) -> str:
        return ", ".join(n.replace("_", " ") for n, r in ratios.items() if low <= r < high) or "none"

    def span(ratios: Mapping[str, float]) -> str:
        return f"{min(ratios.values()):.1f} to {max(ratios.values()):.0f} times"

    return {
        "C01": (
            f"Median above 200 ms: {len(slow)} of {len(far)} distances",
            f"Holds for {', '.join(slow) or 'none'}; not for "
            f"{', '.join(n for n in far if n not in slow) or 'none'}",
        ),
        "C02": (
            f"P50, nearest place against cloud: {span(p50)}; within 6 to 10: {say(p50, 6, 10.0001)}",
            f"More: {say(p50, 10.0001, np.inf)}. Less: {say(p50, 1, 6)}. The edge is slower: "
            f"{say(p50, 0, 1)}; there work, not distance, is most of the time",
        ),
        "C03": (
            f"P95: {span(p95)}",
            f"More than 5 times: {say(p95, 5.0001, np.inf)}. Up to 5: {say(p95, 1, 5.0001)}. The edge is "
            f"slower: {say(p95, 0, 1)}",
        ),
        "C04": (
            f"P95 within {MACHINE_MS} ms: near {len(near)}, cloud {len(cloud)} of {len(found)} workloads",
            f"Only near: {', '.join(n.replace('_', ' ') for n in near if n not in cloud) or 'none'}; being "
            "near is not enough for "
            f"{', '.join(d.name.replace('_', ' ') for d in found if d.name not in near) or 'none'}",
        ),
    }


def claims_table(found: Mapping[str, tuple[str, str]]) -> HTML:
    """The chapter's claims: id -> (measured, verdict)."""
    rows = [
        {"claim": facts.claims()[id].claim, "measured here": measured, "verdict": verdict}
        for id, (measured, verdict) in found.items()
    ]
    return plots.table(rows)
