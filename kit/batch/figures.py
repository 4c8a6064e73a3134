"""The chapter's figures. Titles are findings, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.batch import hot
from kit.batch.costs import per_second
from kit.batch.drive import Run
from kit.batch.theory import Point, crossover
from kit.measure import Timing
from kit.plots import COLOURS, PALETTE, number
from kit.plots.style import SYMBOLS, log_axis

TINTS = {  # by rule
    "one at a time": COLOURS["neutral"],
    "static": PALETTE[2],
    "dynamic": PALETTE[0],
    "continuous": COLOURS["device"],
}
ROW_PX = 14


def step_lines(times: Mapping[str, Mapping[int, Timing]]) -> go.Figure:
    """Tokens per second of all rows together, by rows, with what it would be if rows cost nothing.

    Args:
        times: engine -> rows -> time of a step.
    """
    fig, gains = go.Figure(), []
    for name, steps in times.items():
        rows, tint = sorted(steps), plots.colour(name)
        speed, low, high = np.array([per_second(steps[n], n) for n in rows]).T
        gains.append(f"{name} {number(speed[-1] / speed[0])} times")
        fig.add_scatter(
            x=rows, y=speed, name=name, mode="lines+markers", line={"color": tint, "width": 2.5},
            error_y={"array": high - speed, "arrayminus": speed - low, "thickness": 1.2}, marker_size=8,
        )  # fmt: skip
        fig.add_scatter(
            x=rows, y=speed[0] * np.array(rows), name=f"{name} if rows were free", mode="lines",
            line={"color": tint, "dash": "dot", "width": 2},
        )  # fmt: skip
    most = max(max(steps) for steps in times.values())
    fig.update_xaxes(type="log", tickvals=rows, ticktext=[str(n) for n in rows])  # pyright: ignore
    top = max(per_second(t, n)[2] for steps in times.values() for n, t in steps.items())
    fig.update_yaxes(range=[0, top * 1.15])
    title = f"{most} rows make " + ", ".join(gains) + f" as many tokens as one row, not {most} times"
    return plots.style(fig, title, x="rows in a step", y="tokens per second, all rows")


def gantt(runs: Mapping[str, Run]) -> go.Figure:
    """What each row did, rule by rule: reading a prompt, talking, or kept while others talk."""
    fig = go.Figure()
    looks = {
        "prompt": ("reading its prompt", COLOURS["central_cloud"]),
        "talking": ("making tokens", COLOURS["edge"]),
        "kept": ("waste: its answer is complete", COLOURS["limit"]),
    }
    ticks, top, first_line = {}, 0.0, dict[str, float]()
    for name, run in runs.items():
        used = 1 + max(s.row for s in run.spans)
        ticks[name], first_line[name] = top + (used - 1) / 2, top
        top += used + 1
    for kind, (label, tint) in looks.items():
        spans = [(name, s) for name, run in runs.items() for s in run.spans if s.kind == kind]
        fig.add_bar(
            y=[first_line[name] + s.row for name, s in spans], base=[round(s.start_s, 3) for _, s in spans],
            x=[round(s.end_s - s.start_s, 3) for _, s in spans], orientation="h", name=label, width=0.86,
            marker={"color": tint, "line": {"width": 1, "color": "white"}},
            customdata=[s.id for _, s in spans],
            hovertemplate="%{customdata}: %{x:.2f} s from %{base:.2f} s<extra>" + label + "</extra>",
        )  # fmt: skip
    ends = {name: max(s.end_s for s in run.spans) for name, run in runs.items()}
    first = min(ends, key=lambda n: ends[n])
    waste = {name: run.waste for name, run in runs.items() if run.waste > 0}
    title = f"{first.capitalize()} is done first"
    if waste:
        worst = max(waste, key=lambda n: waste[n])
        title += f"; {worst} wastes {waste[worst]:.0%} of its row-steps"
    fig.update_layout(barmode="overlay", height=160 + round(ROW_PX * top))
    fig.update_yaxes(
        tickvals=list(ticks.values()), ticktext=list(ticks), range=[top - 1.4, -0.6], showgrid=False, ticks=""
    )
    for line in list(first_line.values())[1:]:
        fig.add_hline(y=line - 1, line={"color": COLOURS["neutral"], "width": 1})
    return plots.style(fig, title, x="time (s)")


def latency_lines(found: Mapping[str, Sequence[Point]]) -> go.Figure:
    """Mean latency over the rate of arrival; where the first rule is overtaken by each of the others."""
    names = list(found)
    turns = {n: crossover(found[names[0]], found[n]) for n in names[1:]}
    said = [f"{n} from {number(rate)} requests/s" for n, rate in turns.items() if rate == rate]
    series = {n: ([p.rate_per_s for p in ps], [p.mean_ms / 1000 for p in ps]) for n, ps in found.items()}
    title = f"Lower mean latency than {names[0]}: " + (", ".join(said) if said else "none overtakes it")
    alone = [p.mean_ms for p in found[names[0]]]
    always = [
        n for n in names[1:] if all(p.mean_ms <= 1.001 * a for p, a in zip(found[n], alone, strict=True))
    ]
    if always:
        title += ("; " if said else ": ") + f"{' and '.join(always)} at every rate"
    fig = plots.lines(
        series, title=title, x="requests per second", y="mean latency, end to end (s)", log_x=True, log_y=True
    )
    for trace in fig.data:
        trace.line.color = TINTS.get(trace.name, trace.line.color)  # pyright: ignore
    return fig


def trade_off(found: Mapping[str, Sequence[Point]], limit_ms: float) -> go.Figure:
    """Throughput against P99, one line a rule, from a low rate to a high one.

    Args:
        found: rule -> points.
        limit_ms: a P99 that users accept.
    """
    fig, most = go.Figure(), {}
    for i, (name, points) in enumerate(found.items()):
        good = [p.summary.throughput_tps for p in points if p.summary.e2e_p99_ms <= limit_ms]
        most[name] = max(good, default=0.0)
        fig.add_scatter(
            x=[p.summary.throughput_tps for p in points], y=[p.summary.e2e_p99_ms / 1000 for p in points],
            name=name, mode="lines+markers", marker={"size": 8, "symbol": SYMBOLS[i]},
            line={"color": TINTS.get(name, plots.colour(name, i)), "width": 2.5},
            customdata=[p.rate_per_s for p in points],
            hovertemplate="%{customdata:.2g} requests/s: %{x:.0f} tokens/s, P99 %{y:.2g} s<extra></extra>",
        )  # fmt: skip
    fig.add_hline(y=limit_ms / 1000, line={"dash": "dash", "color": COLOURS["limit"]})
    p99 = [p.summary.e2e_p99_ms / 1000 for points in found.values() for p in points]
    fig.update_yaxes(log_axis(min(p99), max(p99)))
    best = max(most, key=lambda n: most[n])
    names = ", ".join(f"{n} {number(v) if v else 'none'}" for n, v in most.items())
    title = f"{best.capitalize()} makes most within a P99 of {number(limit_ms / 1000)} s. Tokens/s: {names}"
    return plots.style(fig, title, x="tokens per second", y="P99 of latency (s)")


def hit_lines(n: int, exponents: Sequence[float]) -> go.Figure:
    """Hit rate of an LRU cache over its size, measured and by theory, for several popularities."""
    fig, sizes = go.Figure(), np.unique(np.geomspace(max(1, n / 1000), n / 2, 12).astype(int))
    tenth = []
    for i, s in enumerate(exponents):
        p = hot.zipf(n, s)
        asked = hot.requests(30_000, p)
        tint = PALETTE[i]
        seen = [100 * hot.hit_rate(asked, int(size)) for size in sizes]
        theory = [100 * hot.expected_hit_rate(p, int(size)) for size in sizes]
        tenth.append(f"{100 * hot.expected_hit_rate(p, n // 10):.0f}% at s = {s:g}")
        fig.add_scatter(x=sizes, y=seen, mode="markers", name=f"s = {s:g}", marker={"color": tint, "size": 9})
        fig.add_scatter(
            x=sizes, y=theory, mode="lines", line={"color": tint, "width": 2}, name=f"theory, s = {s:g}"
        )
    fig.update_xaxes(log_axis(float(sizes[0]), float(sizes[-1])))
    fig.update_yaxes(range=[0, 102])
    title = f"A memory for a tenth of {n:,} commands answers " + ", ".join(tenth)
    return plots.style(fig, title, x="answers that are remembered", y="hit rate (%)")


def cached_lines(p: np.ndarray, model_ms: Mapping[str, float], lookup_ms: float) -> go.Figure:
    """Mean latency over the size of a cache in front of a model.

    Args:
        p: probability of each command.
        model_ms: model -> milliseconds of an answer that is not remembered.
        lookup_ms: to look whether it is.
    """
    sizes = np.unique(np.geomspace(1, max(len(p) // 2, 2), 25).astype(int))
    rates = np.array([hot.expected_hit_rate(p, int(size)) for size in sizes])
    series = {name: (sizes, lookup_ms + (1 - rates) * ms) for name, ms in model_ms.items()}
    half = int(sizes[np.argmax(rates >= 0.5)])
    title = f"{half:,} of {len(p):,} answers are enough to halve the mean latency"
    return plots.lines(
        series, title=title, x="answers that are remembered", y="mean latency (ms)", log_x=True, log_y=True
    )


def cost_lines(p: np.ndarray, live_usd: float, offline_usd: float) -> go.Figure:
    """Cost of three ways over the number of requests."""
    n = np.geomspace(len(p) / 100, len(p) * 100, 41)
    found = [hot.ways(p, x, live_usd, offline_usd) for x in n]
    even = hot.break_even(len(p), live_usd, offline_usd)
    later = hot.break_even_remembered(p, live_usd, offline_usd)
    series = {
        "every request live": (n, [w.live for w in found]),
        "live once, then remembered": (n, [w.remembered for w in found]),
        "all precomputed": (n, [w.precomputed for w in found]),
    }
    title = f"Precomputing {len(p):,} answers pays from {number(even)} requests"
    title += f", or {number(later)} if a memory stands in front" if np.isfinite(later) else ""
    return plots.lines(
        series, title=title, x="requests until the answers change", y="cost (USD)", log_x=True, log_y=True
    )
