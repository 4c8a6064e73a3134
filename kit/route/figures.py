"""Pictures of chapter 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.plots import COLOURS, PALETTE, number
from kit.route.curves import Bar, Curve
from kit.route.evaluation import MORE_IS_BETTER, Evaluation

AXES = {
    "quality": ("right, of all requests (%)", 100),
    "p50_ms": ("P50 (ms)", 1),
    "p95_ms": ("P95 (ms)", 1),
    "p99_ms": ("P99 (ms)", 1),
    "usd_per_1k": ("cost of a million requests (USD)", 1000),
    "energy_j": ("energy of a request (J)", 1),
    "leaks": ("went where it must not (%)", 100),
    "availability": ("answered (%)", 100),
    "missed": ("too late (%)", 100),
    "shed": ("refused by a full queue (%)", 100),
    "edge_rate": ("answered at the edge (%)", 100),
    "cloud_rate": ("the cloud was asked (%)", 100),
    "escalated": ("escalated (%)", 100),
    "fell_back": ("fell back (%)", 100),
    "hedged": ("asked twice, hedged (%)", 100),
    "retried": ("retried (%)", 100),
    "regret": ("right for the oracle only (%)", 100),
}
"""Measure -> the name of its axis with the unit, and what a value is multiplied with."""


def called(name: str) -> str:
    """A policy as figures call it; two of the baselines get the colours of their tiers by it."""
    return {"always_edge": "edge", "always_cloud": "cloud"}.get(name, name)


def scaled(evaluation: Evaluation, name: str, measure: str) -> tuple[float, float, float]:
    """A measure of a policy with its interval, in the unit of `AXES`; one run alone has no interval."""
    factor = AXES[measure][1]
    middle, low, high = (factor * v for v in evaluation.value(name, measure))
    least = -np.inf if measure == "regret" else 0.0  # Student's interval knows no bound
    return (middle, max(low, least), high) if low == low else (middle, middle, middle)


def curve_lines(curves: Mapping[str, Curve], thresholds: Mapping[str, float] | None = None) -> go.Figure:
    """Quality over the part of calls that go to the cloud, one line a router; a dashed one for chance.

    Args:
        curves: router -> its curve. All have the same edge and cloud.
        thresholds: router -> the one that was chosen, which gets a star.
    """
    fig, first = go.Figure(), next(iter(curves.values()))
    fig.add_scatter(
        x=[0, 100], y=[100 * first.weak, 100 * first.strong], mode="lines", name="random",
        line={"color": COLOURS["neutral"], "dash": "dash", "width": 2},
    )  # fmt: skip
    for i, (name, one) in enumerate(curves.items()):
        tint = PALETTE[i % len(PALETTE)]
        fig.add_scatter(
            x=100 * one.sent, y=100 * one.quality, mode="lines", name=name,
            line={"color": tint, "width": 2.5}, customdata=one.threshold,
            hovertemplate="threshold %{customdata:.3f}: %{x:.0f}% sent, %{y:.1f}% right<extra></extra>",
        )  # fmt: skip
        if thresholds and name in thresholds:
            sent, quality = one.at(thresholds[name])
            fig.add_scatter(
                x=[100 * sent], y=[100 * quality], mode="markers", name=f"{name}, chosen",
                marker={"symbol": "star", "size": 15, "color": tint},
            )  # fmt: skip
    best = max(curves, key=lambda n: curves[n].apgr)
    title = f"{best.capitalize()}: half of the gap with {curves[best].cpt(0.5):.0%} of the calls, "
    title += f"80% with {curves[best].cpt(0.8):.0%}"
    return plots.style(fig, title, x="asked of the cloud (%)", y="right (%)")


def bar_bars(bar: Bar) -> go.Figure:
    """Edge, cascade, cloud, and who always knows whom to ask."""
    data = {
        "edge": 100 * bar.weak,
        "cascade": 100 * bar.quality,
        "cloud": 100 * bar.strong,
        "who knows": 100 * bar.bound,
    }
    title = (
        f"{bar.recovered[0]:.0%} of a gap of {number(bar.gap[0])} points, with {bar.sent[0]:.0%} of the calls"
    )
    fig = plots.bars(data, title=title, unit="right (%)")
    low = min(data.values())
    return fig.update_yaxes(range=[max(0, low - 6), 100])


def front_points(
    evaluation: Evaluation, x: str = "usd_per_1k", y: str = "quality", but: Sequence[str] = ()
) -> go.Figure:
    """All policies in two measures, and the front of those worth choosing; the oracle as a star.

    Policies at the same place share a point. Intervals are drawn from three runs on.
    """
    at = {n: (scaled(evaluation, n, x), scaled(evaluation, n, y)) for n in evaluation.runs if n not in but}
    bound = at.pop("oracle", None)
    if len(evaluation.seeds) < 3:
        at = {n: ((a[0], a[0], a[0]), (b[0], b[0], b[0])) for n, (a, b) in at.items()}
    together = _together({n: (a[0], b[0]) for n, (a, b) in at.items()})
    points = {_point(names): at[names[0]] for names in together}
    clean = [n for n in evaluation.front((x, y)) if n in at]
    best = [_point(names) for names in together if names[0] in clean]
    ways = tuple("high" if m in MORE_IS_BETTER else "low" for m in (x, y))
    fig = plots.pareto(
        points,
        title=f"Worth choosing by these two: {', '.join(best)}",
        x=AXES[x][0],
        y=AXES[y][0],
        better=ways,  # type: ignore[arg-type]
        log_x=min(p[0][1] for p in points.values()) > 0,
        labelled=[*best, "edge", "cloud", "random"],
    )
    if bound:
        fig.add_scatter(
            x=[bound[0][0]], y=[bound[1][0]], mode="markers+text", text="oracle", textposition="middle right",
            showlegend=False, marker={"symbol": "star", "size": 14, "color": COLOURS["neutral"]},
        )  # fmt: skip
        fig.update_yaxes(range=None, autorange=True)
    return fig


def _point(names: Sequence[str]) -> str:
    """A point of one or several policies."""
    first = called(names[0])
    return first if len(names) == 1 else f"{first} (and {len(names) - 1} more)"


def _together(points: Mapping[str, tuple[float, float]]) -> list[list[str]]:
    """Policies in groups that a picture cannot tell apart: within 2% of the spread in both measures."""
    values = np.array(list(points.values()))
    near = 0.02 * (np.ptp(values, axis=0) + 1e-12)
    groups: list[list[str]] = []
    for name, at in points.items():
        for group in groups:
            if (np.abs(np.array(points[group[0]]) - at) <= near).all():
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def day_map(days: Mapping[str, Evaluation], measure: str = "quality", but: Sequence[str] = ()) -> go.Figure:
    """One measure of every policy on every day, as a map: who bears a bad day?"""
    names = [n for n in next(iter(days.values())).runs if n not in but]
    label, factor = AXES[measure]
    cells = np.array([[factor * days[day].value(n, measure)[0] for day in days] for n in names])
    worst = cells.min(1) if measure in MORE_IS_BETTER else -cells.max(1)
    able = [i for i, n in enumerate(names) if n != "oracle"]
    best = names[max(able, key=lambda i: worst[i])]
    fig = plots.heatmap(
        cells,
        rows=[called(n) for n in names],
        columns=list(days),
        title=f"The best worst day: {called(best)}, {number(abs(float(worst[names.index(best)])))}%",
        x="day",
        y="policy",
        unit=label,
    )
    low = float(np.nanmin(cells))
    return fig.update_traces(zmin=low - 0.02 * abs(low)).update_layout(height=180 + 28 * len(names))


def difference_bars(evaluation: Evaluation, against: str, measure: str = "quality") -> go.Figure:
    """How much more each policy has than one of them, with paired intervals; the best on top."""
    label, factor = AXES[measure]
    found = {}
    for name in evaluation.runs:
        if name not in (against, "oracle"):
            middle, low, high = (factor * v for v in evaluation.difference(name, against, measure))
            found[name] = (middle, low, high) if low == low else (middle, middle, middle)
    sign = 1 if measure in MORE_IS_BETTER else -1
    order = sorted(found, key=lambda n: -sign * found[n][0])
    sure = [n for n in order if (found[n][1] > 0 if sign > 0 else found[n][2] < 0)]
    title = f"Surely better than {called(against)}: "
    title += ", ".join(called(n) for n in sure) if sure else "none"
    fig = plots.bars(
        {called(n): found[n] for n in order},
        title=title,
        unit=f"{label}, against {called(against)}",
        horizontal=True,
    )
    return fig.add_vline(x=0, line={"color": COLOURS["neutral"], "width": 1})


def latency_cdf(evaluation: Evaluation, names: Sequence[str]) -> go.Figure:
    """How long answers take under some policies, all runs together."""
    samples = {}
    for name in names:
        e2e = np.concatenate([r.e2e_ms for r in evaluation.runs[name]])
        samples[called(name)] = e2e[~np.isnan(e2e)]
    slow = max(samples, key=lambda n: float(np.percentile(samples[n], 95)))
    title = f"P95: {', '.join(f'{n} {number(float(np.percentile(v, 95)))} ms' for n, v in samples.items())}"
    if len(title) > 120:
        title = (
            f"{slow.capitalize()} has the longest P95: {number(float(np.percentile(samples[slow], 95)))} ms"
        )
    return plots.cdf(samples, title=title, x="end to end (ms)", log_x=True)


def learning_lines(went: Mapping[str, np.ndarray], window: int = 100) -> go.Figure:
    """Part of the requests that a learner sends to each tier, over time.

    Args:
        went: tier -> 1 where a request went there, else 0, [requests].
        window: requests over which it is averaged.
    """
    series = {}
    for name, there in went.items():
        total = np.cumsum(np.insert(np.asarray(there, float), 0, 0.0))
        moving = 100 * (total[window:] - total[:-window]) / window
        series[name] = (np.arange(window, len(total)), moving)
    last = {n: float(ys[-1]) for n, (_, ys) in series.items()}
    most = max(last, key=lambda n: last[n])
    return plots.lines(
        series,
        title=f"In the end it sends {last[most]:.0f}% to {most}",
        x="requests",
        y=f"part of the last {window} (%)",
    )


def price_lines(
    curve: Curve, threshold: float, usd_per_1k_calls: float, usd_per_1k_mistakes: float
) -> go.Figure:
    """What a thousand requests cost at each threshold, calls and mistakes together.

    Args:
        curve: of the router. ``threshold``: marked.
        usd_per_1k_calls: of a thousand calls to the cloud. ``usd_per_1k_mistakes``: what wrong answers cost.
    """

    def usd(sent: np.ndarray | float, quality: np.ndarray | float) -> np.ndarray:
        return np.asarray(sent * usd_per_1k_calls + (1 - quality) * usd_per_1k_mistakes)

    total, best = usd(curve.sent, curve.quality), int(usd(curve.sent, curve.quality).argmin())
    fig = go.Figure()
    fig.add_scatter(
        x=100 * curve.sent, y=total, mode="lines", name="calls and mistakes",
        line={"color": PALETTE[0], "width": 2.5}, customdata=curve.threshold,
        hovertemplate="threshold %{customdata:.3f}: %{y:.2f} USD<extra></extra>",
    )  # fmt: skip
    sent, quality = curve.at(threshold)
    for name, x, y, tint in (
        ("edge alone", 0.0, total[0], COLOURS["edge"]),
        ("cloud alone", 1.0, total[-1], COLOURS["cloud"]),
        ("cheapest", float(curve.sent[best]), total[best], PALETTE[3]),
        ("your threshold", sent, float(usd(sent, quality)), PALETTE[2]),
    ):
        fig.add_scatter(x=[100 * x], y=[y], mode="markers", name=name, marker={"size": 13, "color": tint})
    fig.update_yaxes(rangemode="tozero")
    title = f"Threshold {threshold:g}: {float(usd(sent, quality)):.2f} USD for a thousand requests, "
    title += f"the cheapest has {total[best]:.2f} with {curve.sent[best]:.0%} of the calls"
    return plots.style(fig, title, x="asked of the cloud (%)", y="USD per 1,000 requests")
