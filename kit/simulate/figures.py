"""Pictures of runs: where the time goes, tails, knees, outages, servers that come too late. Needs plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.plots import COLOURS, PALETTE
from kit.simulate import theory
from kit.simulate.results import PARTS, Result
from kit.simulate.whatif import Answer

LIMIT = {"color": COLOURS["limit"], "dash": "dash", "width": 2}
SHADE = "rgba(107,114,128,.18)"
DASHES = ("solid", "solid", "dash", "dot")


def requests(results: Mapping[str, Result], i: int) -> go.Figure:
    """Where the time of request ``i`` went, for each of several ways to run the same requests."""
    paths = {name: _there(result.parts(i)) for name, result in results.items() if result.answered[i]}
    if not paths:
        raise ValueError(f"request {i} was answered in none of these runs: choose another.")
    slow = max(paths, key=lambda name: sum(paths[name].values()))
    part = max(paths[slow], key=lambda p: paths[slow][p])
    share = paths[slow][part] / sum(paths[slow].values())
    title = f"Request {i}: {slow} takes {sum(paths[slow].values()):.0f} ms, of which {part} is {share:.0%}"
    return plots.waterfall(paths, title=title)


def _there(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: ms for name, ms in parts.items() if ms > 1e-9}


def means(results: Mapping[str, Result]) -> go.Figure:
    """Where the time goes on average, for each of several ways."""
    paths = {}
    for name, result in results.items():
        if result.answered.any():
            all_parts = result.all_parts
            paths[name] = _there({part: float(np.nanmean(all_parts[part])) for part in PARTS})
    slow = max(paths, key=lambda name: sum(paths[name].values()))
    part = max(paths[slow], key=lambda p: paths[slow][p])
    return plots.waterfall(
        paths, title=f"On average: the slowest is {slow}, and most of it is {part}", unit="mean time (ms)"
    )


def tails(results: Mapping[str, Result], title: str = "", log_x: bool = True) -> go.Figure:
    """End-to-end times of several runs, as part of all requests."""
    samples = {name: r.e2e_ms[~np.isnan(r.e2e_ms)] for name, r in results.items() if r.answered.any()}
    p = {name: np.percentile(v, (50, 99)) for name, v in samples.items()}
    worst = max(p, key=lambda name: p[name][1] / p[name][0])
    said = (
        title
        or f"{worst}: one of a hundred waits {p[worst][1] / p[worst][0]:.1f} times as long as the middle one"
    )
    return plots.cdf(samples, title=said, x="end to end (ms)", log_x=log_x)


def over(
    x: Sequence[float],
    answers: Sequence[Answer],
    *,
    name: str,
    measures: Mapping[str, str] | None = None,
    limit_ms: float | None = None,
    title: str = "",
) -> go.Figure:
    """Measures over the values of a sweep.

    Args:
        x: the values. ``name``: what they are, with the unit.
        answers: of the sweep.
        measures: name in the summary -> name in the legend; None: P50, P95 and P99.
        limit_ms: an objective, as a line.
    """
    shown = measures or {"p50_ms": "P50", "p95_ms": "P95", "p99_ms": "P99"}
    tints = (COLOURS["edge"], COLOURS["cloud"], PALETTE[1], PALETTE[0])
    fig = go.Figure()
    highest = 0.0
    for tint, (measure, label) in zip(tints, shown.items(), strict=False):
        y = np.array([getattr(a.summary, measure) for a in answers], float)
        highest = max(highest, float(np.nanmax(y, initial=0)))
        fig.add_scatter(x=list(x), y=y, name=label, line={"color": tint, "width": 2.5}, mode="lines+markers")
    numbers = all(isinstance(v, int | float) for v in x)
    if numbers and min(x) > 0 and max(x) / min(x) > 30:
        fig.update_xaxes(type="log")
    if limit_ms is not None:
        fig.add_scatter(x=[x[0], x[-1]], y=[limit_ms] * 2, name="objective", line=LIMIT, mode="lines")
    if limit_ms is not None and highest > 20 * limit_ms:
        fig.update_yaxes(type="log")
    else:
        fig.update_yaxes(rangemode="tozero")
    last = list(shown)[min(1, len(shown) - 1)]
    y = np.array([getattr(a.summary, last) for a in answers], float)
    said = title
    if not said and limit_ms is not None and numbers:
        good = [v for v, value in zip(x, y, strict=True) if value <= limit_ms]
        said = (
            f"{shown[last]} keeps {limit_ms:g} ms up to about {max(good):.3g}"
            if good
            else f"{shown[last]} never keeps {limit_ms:g} ms"
        )
    said = said or f"{shown[last]} goes from {y[0]:.3g} to {y[-1]:.3g} ms"
    return plots.style(fig, said, x=name, y="end to end (ms)")


def knee(service_ms: float, points: Mapping[int, Sequence[tuple[float, float]]]) -> go.Figure:
    """Mean time over utilisation for some numbers of servers: lines are theory, points the simulator.

    Args:
        service_ms: mean of an exponential service.
        points: servers -> (utilisation, simulated mean end-to-end time in ms).
    """
    loads = np.linspace(0.02, 0.97, 96)
    fig = go.Figure()
    for tint, (servers, found) in zip((*PALETTE,), points.items(), strict=False):
        rate = loads * servers / (service_ms / 1000)
        y = [1e3 * theory.mmc(r, service_ms / 1000, servers).mean_wait_s + service_ms for r in rate]
        name = "1 server" if servers == 1 else f"{servers} servers"
        fig.add_scatter(x=100 * loads, y=y, name=name, line={"color": tint, "width": 2.5})
        fig.add_scatter(
            x=[100 * u for u, _ in found],
            y=[ms for _, ms in found],
            mode="markers",
            marker={"color": tint, "size": 9},
            showlegend=False,
        )
    one = 1e3 * theory.mmc(0.9 / (service_ms / 1000), service_ms / 1000).mean_wait_s + service_ms
    fig.update_yaxes(range=[0, 12 * service_ms])
    title = f"At 90% busy, one server takes {one / service_ms:.0f} times as long as an idle one"
    return plots.style(fig, title, x="busy (%)", y="mean of wait and service (ms)")


def shortcut(servers: Sequence[int] = (1, 4, 16, 64)) -> go.Figure:
    """How wrong it is to add the mean service to the P99 of the wait, by load and servers."""
    loads = np.linspace(0.3, 0.95, 66)
    fig = go.Figure()
    worst = 0.0
    for tint, c in zip(PALETTE, servers, strict=False):
        exact = np.array([theory.mmc(u * c, 1.0, c).sojourn_quantile_s(0.99) for u in loads])
        short = np.array([theory.shortcut_p99_s(u * c, 1.0, c) for u in loads])
        error = 100 * (short / exact - 1)
        worst = min(worst, float(error.min()))
        name = "1 server" if c == 1 else f"{c} servers"
        fig.add_scatter(x=100 * loads, y=error, name=name, line={"color": tint, "width": 2.5})
    return plots.style(
        fig, f"The shortcut is too low by up to {-worst:.0f}%", x="busy (%)", y="error of the P99 (%)"
    )


def timeline(
    results: Mapping[str, Result],
    *,
    every_s: float,
    shade: Sequence[tuple[float, float]] = (),
    title: str = "",
) -> go.Figure:
    """Part of the requests that were answered, over time.

    Args:
        results: of the same requests. ``every_s``: they are put together so.
        shade: from when to when something was down, in seconds.
    """
    fig = go.Figure()
    end = max(float(r.ledger.at_s.max()) for r in results.values())
    edges = np.arange(0, end + every_s, every_s)
    lowest: dict[str, float] = {}
    for i, (name, result) in enumerate(results.items()):
        asked = np.histogram(result.ledger.at_s, edges)[0]
        good = np.histogram(result.ledger.at_s[result.answered], edges)[0]
        part = 100 * good / np.maximum(asked, 1)
        lowest[name] = float(part[asked > 0].min())
        fig.add_scatter(
            x=edges[:-1] / 60,
            y=np.where(asked > 0, part, np.nan),
            name=name,
            line={
                "color": plots.colour(name, i),
                "width": 2.5,
                "shape": "hv",
                "dash": DASHES[i % len(DASHES)],
            },
        )
    for begin, stop in shade:
        fig.add_vrect(x0=begin / 60, x1=stop / 60, fillcolor=SHADE, line_width=0)
    fig.update_yaxes(range=[-3, 104])
    best, worst = max(lowest, key=lambda n: lowest[n]), min(lowest, key=lambda n: lowest[n])
    equal = [name for name, part in lowest.items() if part == lowest[best]]
    said = title or (
        f"In the worst {every_s:g} s, {worst} answers {lowest[worst]:.0f}%, {' and '.join(equal)} "
        f"{lowest[best]:.0f}%"
    )
    return plots.style(fig, said, x="time (min)", y="answered (%)")


def latency_over_time(
    results: Mapping[str, Result], *, every_s: float, q: float = 95, title: str = ""
) -> go.Figure:
    """A percentile of the end-to-end time, over the time at which requests came."""
    fig = go.Figure()
    peak: dict[str, float] = {}
    come = np.zeros(1)
    for i, (name, result) in enumerate(results.items()):
        window = (result.ledger.at_s // every_s).astype(int)
        e2e = result.e2e_ms
        y = np.array([_percentile(e2e[window == w], q) for w in range(window.max() + 1)]) / 1000
        peak[name] = float(np.nanmax(y))
        if i == 0:
            come = np.bincount(window) / every_s
        fig.add_scatter(
            x=(np.arange(len(y)) + 0.5) * every_s / 60,
            y=y,
            name=name,
            line={"color": plots.colour(name, i), "width": 2.5},
        )
    x = (np.arange(len(come)) + 0.5) * every_s / 60
    fig.add_scatter(
        x=x, y=come, name="requests per second", yaxis="y2", line_width=0, fill="tozeroy", fillcolor=SHADE
    )
    worst, best = max(peak, key=lambda n: peak[n]), min(peak, key=lambda n: peak[n])
    said = title or f"At worst, P{q:g} is {peak[worst]:.3g} s with {worst}, {peak[best]:.3g} s with {best}"
    fig.update_yaxes(rangemode="tozero")
    plots.style(fig, said, x="time (min)", y=f"P{q:g} end to end (s)")
    right = {"overlaying": "y", "side": "right", "title": {"text": "requests per second"}, "showgrid": False}
    return fig.update_layout(yaxis2=right | {"rangemode": "tozero", "range": [0, 3 * float(come.max())]})


def _percentile(values: np.ndarray, q: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.percentile(known, q)) if len(known) else float("nan")


def winner(results: Mapping[str, Result]) -> go.Figure:
    """Two ways as distributions; the title says who is faster in the middle and who in the tail."""
    p = {name: np.nanpercentile(r.e2e_ms, (50, 95)) for name, r in results.items()}
    middle, tail = (min(p, key=lambda n: p[n][j]) for j in (0, 1))
    both = f"{middle} wins the median ({p[middle][0]:.0f} ms), {tail} the P95 ({p[tail][1]:.0f} ms)"
    return tails(
        results,
        title=both
        if middle != tail
        else f"{middle} wins both: median {p[middle][0]:.0f} ms, P95 {p[middle][1]:.0f} ms",
    )


def picture(answers: Mapping[str, Answer], limit_ms: float | None = None) -> go.Figure:
    """P50, P95 and P99 of some variants, as bars."""
    data = {
        label: {name: float(getattr(a.summary, measure)) for name, a in answers.items()}
        for measure, label in (("p50_ms", "P50"), ("p95_ms", "P95"), ("p99_ms", "P99"))
    }
    fast = min(answers, key=lambda n: answers[n].summary.p95_ms if answers[n].summary.answered else np.inf)
    title = f"The lowest P95 has {fast}: {answers[fast].summary.p95_ms:.3g} ms"
    fig = plots.bars(data, title=title, unit="end to end (ms)", horizontal=True)
    if limit_ms is not None:
        fig.add_vline(x=limit_ms, line=LIMIT)
    return fig


def write(fig: go.Figure, file: Any) -> None:
    """Store a figure as HTML (which needs no network) or PNG (which needs Chromium).

    Raises:
        ValueError: another kind of file.
    """
    name = str(file)
    check_picture(file)
    if name.endswith(".html"):
        fig.write_html(name, include_plotlyjs=True)
    else:
        fig.write_image(name, scale=2)


def check_picture(file: Any) -> None:
    """Can a picture be stored there?

    Raises:
        ValueError: another kind of file, or no such folder.
    """
    if Path(file).suffix not in (".html", ".png"):
        raise ValueError(f"a picture is stored as .html or .png, got {str(file)!r}.")
    if not Path(file).absolute().parent.is_dir():
        raise ValueError(f"there is no folder {str(Path(file).parent)!r}: make it first, or name another.")
