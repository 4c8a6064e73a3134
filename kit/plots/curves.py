"""Figures made of lines: curves with bands, distribution functions, the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit.plots.style import HEIGHT, INK, SYMBOLS, colour, faded, log_axis, number, style

CDF_POINTS = 500  # at most, so that a stored notebook stays small
MARKED = (50, 95, 99)  # percentiles


def _band(fig: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, tint: str, shape: str) -> None:
    hidden = {"mode": "lines", "line": {"width": 0, "shape": shape}, "showlegend": False, "hoverinfo": "skip"}
    fig.add_scatter(x=x, y=low, **hidden)
    fig.add_scatter(x=x, y=high, fill="tonexty", fillcolor=faded(tint), **hidden)


def lines(
    series: Mapping[str, tuple[Sequence[float] | np.ndarray, ...]],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
) -> go.Figure:
    """One line per series, with a band where an interval is known.

    Args:
        series: name -> ``(x, y)`` or ``(x, y, low, high)``, each of length n.
        title: the finding.
        x: name of the horizontal axis with its unit.
        y: name of the vertical axis with its unit.
        log_x: a logarithmic horizontal axis.
        log_y: a logarithmic vertical axis.
    """
    fig = go.Figure()
    for i, (name, columns) in enumerate(series.items()):
        tint = colour(name, i)
        if len(columns) not in (2, 4):
            raise ValueError(
                f"series {name!r} must be (x, y) or (x, y, low, high), got {len(columns)} parts."
            )
        xs, ys, *bounds = (np.asarray(c, dtype=float) for c in columns)
        if bounds:
            _band(fig, xs, bounds[0], bounds[1], tint, "linear")
        fig.add_scatter(
            x=xs,
            y=ys,
            name=name,
            mode="lines+markers" if len(xs) <= 40 else "lines",
            line={"color": tint, "width": 2.5},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8},
            hovertemplate="%{x:.4g}, %{y:.4g}<extra>" + name + "</extra>",
        )
    every_x = np.concatenate([np.asarray(c[0], dtype=float) for c in series.values()])
    every_y = np.concatenate([np.asarray(c[1], dtype=float) for c in series.values()])
    if log_x:
        fig.update_xaxes(log_axis(every_x.min(), every_x.max()))
    fig.update_yaxes(log_axis(every_y.min(), every_y.max()) if log_y else {"rangemode": "tozero"})
    return style(fig, title, x, y)


def cdf(
    samples: Mapping[str, Sequence[float] | np.ndarray],
    *,
    title: str,
    x: str,
    log_x: bool = False,
) -> go.Figure:
    """The part of the samples that are at most x, with P50, P95 and P99.

    The band holds the whole true curve 19 times out of 20, if samples are independent (Dvoretzky,
    Kiefer, Wolfowitz; with Massart's constant, 1990).

    Args:
        samples: name -> values; NaN are left out.
        title: the finding.
        x: name of the horizontal axis with its unit.
        log_x: a logarithmic horizontal axis, for long tails.
    """
    fig = go.Figure()
    lowest, highest = np.inf, -np.inf
    for i, (name, values) in enumerate(samples.items()):
        values = np.asarray(values, dtype=float)
        values = np.sort(values[~np.isnan(values)])
        if not len(values):
            raise ValueError(f"series {name!r} has no values: nothing was measured, or all of it is NaN.")
        tint, n = colour(name, i), len(values)
        at = np.unique(np.linspace(0, n - 1, min(n, CDF_POINTS)).round().astype(int))
        xs, part = values[at], (at + 1) / n * 100
        p50, p95, p99 = np.percentile(values, MARKED)
        error = np.sqrt(np.log(2 / 0.05) / (2 * n)) * 100
        _band(fig, xs, np.maximum(part - error, 0), np.minimum(part + error, 100), tint, "hv")
        fig.add_scatter(
            x=xs,
            y=part,
            name=f"{name}: P50 {number(p50)}, P95 {number(p95)}, P99 {number(p99)}",
            mode="lines",
            line={"color": tint, "width": 2.5, "shape": "hv"},
            hovertemplate="%{y:.1f} %: at most %{x:.4g}<extra>" + name + "</extra>",
        )
        fig.add_scatter(
            x=[p50, p95, p99],
            y=MARKED,
            mode="markers",
            marker={"color": tint, "size": 9, "symbol": SYMBOLS[i % len(SYMBOLS)]},
            showlegend=False,
            hovertemplate="P%{y}: %{x:.4g}<extra>" + name + "</extra>",
        )
        lowest, highest = min(lowest, values[0]), max(highest, values[-1])
    fig.update_xaxes(log_axis(lowest, highest) if log_x else {"rangemode": "tozero"})
    fig.update_yaxes(range=[-1, 102], tickvals=[0, 25, 50, 75, 95])
    fig.update_layout(height=HEIGHT + 21 * len(samples))
    return style(fig, title, x, "part of all (%)")


def roofline(
    points: Mapping[str, tuple[float, float]],
    *,
    bandwidths_gb_s: Mapping[str, float],
    peaks_gops: Mapping[str, float],
    title: str,
) -> go.Figure:
    """What a machine can reach, and what was reached (Williams, Waterman, Patterson, CACM 2009).

    Left of the corner memory is the limit, right of it arithmetic. Memory has one slope per size of
    the working set: what fits the cache is read faster.

    Args:
        points: name -> (operations per byte read, 1e9 operations per second), as measured.
        bandwidths_gb_s: name of the working set -> bandwidth: ``{"1 MB": 60, "500 MB": 14}``.
        peaks_gops: name of the arithmetic -> peak in 1e9 operations/s: ``{"FP32": 90}``.
        title: the finding.
    """
    top, fastest = max(peaks_gops.values()), max(bandwidths_gb_s.values())
    slowest = min(bandwidths_gb_s.values())
    intensities = [p[0] for p in points.values()] or [1.0]
    left = min(*intensities, min(peaks_gops.values()) / fastest) / 4
    right = max(*intensities, top / slowest) * 6
    fig = go.Figure()
    dashes = ("solid", "dash", "dot", "dashdot")
    for i, (name, gb_s) in enumerate(bandwidths_gb_s.items()):
        ends = np.array([left, top / gb_s])
        fig.add_scatter(
            x=ends,
            y=ends * gb_s,
            mode="lines",
            line={"color": colour("neutral"), "width": 2, "dash": dashes[i % 4]},
            name=f"memory, {name}: {number(gb_s)} GB/s",
            hoverinfo="name",
        )
    for i, (name, gops) in enumerate(peaks_gops.items()):
        fig.add_scatter(
            x=[gops / fastest, right],
            y=[gops, gops],
            mode="lines",
            line={"color": colour(name, i), "width": 2.5},
            name=f"{name} peak: {number(gops)} Gop/s",
            hoverinfo="name",
        )
    for name, (intensity, gops) in points.items():
        fig.add_scatter(
            x=[intensity],
            y=[gops],
            mode="markers+text",
            text=name,
            textposition="bottom right",
            marker={"size": 11, "color": INK, "symbol": "circle"},
            showlegend=False,
            hovertemplate=f"{name}: %{{x:.3g}} op/byte, %{{y:.4g}} Gop/s<extra></extra>",
        )
    lowest = min([slowest * left, *(p[1] for p in points.values())])
    fig.update_xaxes(log_axis(left, right), range=[np.log10(left), np.log10(right)])
    fig.update_yaxes(log_axis(lowest / 2, top * 2), range=[np.log10(lowest / 2), np.log10(top * 2)])
    fig.update_layout(height=HEIGHT + 40)
    return style(fig, title, "operations per byte read (op/byte)", "speed (Gop/s)")
