"""Figures that compare things: bars, the waterfall of a latency, the Pareto front."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, cast

import numpy as np
import plotly.graph_objects as go

from kit.plots.style import (
    FONT_PX,
    HEIGHT,
    INK,
    LETTER_PX,
    WIDTH,
    Value,
    colour,
    interval,
    log_axis,
    number,
    style,
)

Better = Literal["low", "high"]


def bars(
    data: Mapping[str, Value] | Mapping[str, Mapping[str, Value]],
    *,
    title: str,
    unit: str,
    horizontal: bool = False,
) -> go.Figure:
    """Bars with their numbers, and with error bars where an interval is known.

    Args:
        data: ``{"edge": 3.1, "cloud": (41, 38, 55)}``, or one such mapping per series:
            ``{"en": {"templates": 0.97, "people": 0.62}, "zh": {...}}``.
        title: the finding.
        unit: name of the value axis with its unit, such as ``"end to end (ms)"``.
        horizontal: bars to the right, for many or long names; the first name is on top.
    """
    nested = all(isinstance(v, Mapping) for v in data.values())
    series = cast("Mapping[str, Mapping[str, Value]]", data if nested else {"": data})
    fig = go.Figure()
    ends = [0.0]
    for i, (name, values) in enumerate(series.items()):
        names = list(values)
        middle, low, high = np.array([interval(v) for v in values.values()], dtype=float).reshape(-1, 3).T
        ends += [*low[~np.isnan(low)], *high[~np.isnan(high)]]
        up, down = (np.where(high > low, part, np.nan) for part in (high - middle, middle - low))
        error = {"type": "data", "array": up, "arrayminus": down, "color": INK}
        along, across = ("x", "y") if horizontal else ("y", "x")
        own = [colour(n, 0) for n in names]  # a single series: each bar may have a colour of its own
        fig.add_bar(
            **{along: middle, across: names, f"error_{along}": error},
            name=name,
            orientation="h" if horizontal else "v",
            offsetgroup=str(i),
            marker_color=colour(name, i) if nested else own,
            hovertemplate="%{" + across + "}: %{" + along + ":.4g}<extra>" + name + "</extra>",
        )
        fig.add_scatter(
            **{along: high, across: names},
            mode="text",
            text=[f" {number(v)}" for v in middle],
            textposition="middle right" if horizontal else "top center",
            textfont_size=FONT_PX,
            offsetgroup=str(i),
            orientation="h" if horizontal else "v",
            showlegend=False,
            hoverinfo="skip",
            cliponaxis=False,
        )
    fig.update_layout(barmode="group", scattermode="group", scattergap=0.35)
    room = (max(ends) - min(ends) or 1) * (0.15 if horizontal else 0.1)  # for the numbers
    span = [min(ends) - (room if min(ends) < 0 else 0), max(ends) + room]
    if horizontal:
        rows = sum(len(values) for values in series.values())
        fig.update_layout(height=max(HEIGHT, 130 + 30 * rows), yaxis_autorange="reversed", xaxis_range=span)
        return style(fig, title, x=unit)
    fig.update_layout(yaxis_range=span)
    return style(fig, title, y=unit)


def waterfall(paths: Mapping[str, Mapping[str, float]], *, title: str, unit: str = "time (ms)") -> go.Figure:
    """Where the time goes: the parts of one or more latencies, each starting where the last ended.

    Args:
        paths: parts in order for each path: ``{"edge": {"encode": 0.1, "model": 2}, "cloud": {...}}``.
        title: the finding.
        unit: name of the time axis with its unit.
    """
    fig = go.Figure()
    rows = 0
    longest = max(sum(parts.values()) for parts in paths.values())
    labels: list[str] = []
    for i, (path, parts) in enumerate(paths.items()):
        ends = np.cumsum(list(parts.values()))
        names = [*parts, "total"]
        values = [*parts.values(), float(ends[-1])]
        starts = [*(ends - list(parts.values())), 0.0]
        rows_y = list(range(rows, rows + len(names)))
        labels += [f"{path}: {n}" if n != "total" else f"<b>{path}: total</b>" for n in names]
        tint = colour(path, i)
        fig.add_bar(
            y=rows_y,
            x=values,
            base=starts,
            orientation="h",
            marker={"color": tint, "opacity": [0.6] * len(parts) + [1.0]},
            name=path,
            showlegend=False,
            customdata=names,
            hovertemplate="%{customdata}: %{x:.4g}<extra>" + path + "</extra>",
        )
        fig.add_scatter(
            y=rows_y,
            x=[start + value for start, value in zip(starts, values, strict=True)],
            mode="text",
            text=[f" {number(v)}" for v in values],
            textposition="middle right",
            showlegend=False,
            hoverinfo="skip",
            cliponaxis=False,
        )
        rows += len(names)
    fig.update_layout(
        height=max(HEIGHT, 130 + 30 * rows),
        barmode="overlay",
        bargap=0.25,
        xaxis_range=[0, longest * 1.12],
        yaxis={"tickvals": list(range(rows)), "ticktext": labels, "range": [rows - 0.4, -0.6]},
    )
    return style(fig, title, x=unit)


def front(points: Mapping[str, tuple[float, ...]], better: tuple[Better, ...]) -> list[str]:
    """Names on the Pareto front, from the lowest x to the highest: nothing is at least as good in every way.

    Args:
        points: name -> (x, y), or more numbers.
        better: what is better on x, on y, and so on, such as ``("low", "high")``.
    """
    sign = [1 if way == "low" else -1 for way in better]
    costs = {name: tuple(s * v for s, v in zip(sign, at, strict=True)) for name, at in points.items()}

    def beaten(mine: tuple[float, ...]) -> bool:
        return any(c != mine and all(a <= b for a, b in zip(c, mine, strict=True)) for c in costs.values())

    return sorted(
        (name for name, cost in costs.items() if not beaten(cost)), key=lambda name: points[name][0]
    )


def pareto(
    points: Mapping[str, tuple[Value, Value]],
    *,
    title: str,
    x: str,
    y: str,
    better: tuple[Better, Better] = ("low", "high"),
    log_x: bool = False,
    labelled: Collection[str] | None = None,
) -> go.Figure:
    """Points in two qualities that pull against each other, with the front of those worth choosing.

    Args:
        points: name -> (x, y); each may be ``(value, low, high)``.
        title: the finding.
        x: name of the horizontal axis with its unit.
        y: name of the vertical axis with its unit.
        better: what is better on x and on y.
        log_x: a logarithmic horizontal axis, for costs that differ by factors.
        labelled: names that are written beside their points; all, if left out. Hovering shows every name.
    """
    names = list(points)
    written = [name if labelled is None or name in labelled else "" for name in names]
    xs = np.array([interval(points[name][0]) for name in names])
    ys = np.array([interval(points[name][1]) for name in names])
    if log_x and xs.min() <= 0:
        raise ValueError(
            f"a logarithmic axis needs values above 0, got {xs.min():g}: draw it with log_x=False."
        )
    best = front({n: (a, b) for n, a, b in zip(names, xs[:, 0], ys[:, 0], strict=True)}, better)
    fig = go.Figure()
    at = [names.index(name) for name in best]
    fig.add_scatter(
        x=xs[at, 0],
        y=ys[at, 0],
        mode="lines",
        line={"color": colour("neutral"), "dash": "dot", "width": 2},
        name="nothing is better in both",
        hoverinfo="skip",
    )
    scale = np.log10 if log_x else np.asarray
    x_range, y_range = _padded(scale(xs), 0.14), _padded(ys, 0.14)
    places = _label_places(written, scale(xs), ys, at, x_range, y_range)
    for i, name in enumerate(names):
        fig.add_scatter(
            x=[xs[i, 0]],
            y=[ys[i, 0]],
            error_x=_error(xs[i]),
            error_y=_error(ys[i]),
            mode="markers+text",
            text=written[i],
            textposition=places[i],
            marker={
                "size": 11,
                "color": colour(name, i),
                "symbol": "circle" if name in best else "circle-open",
            },
            marker_line={"width": 2, "color": colour(name, i)},
            showlegend=False,
            cliponaxis=False,
            hovertemplate=f"<b>{name}</b><br>{x}: %{{x:.4g}}<br>{y}: %{{y:.4g}}<extra></extra>",
        )
    fig.update_xaxes(log_axis(10 ** x_range[0], 10 ** x_range[1]) if log_x else {}, range=x_range)
    fig.update_yaxes(range=y_range)
    arrows = {"low": "lower is better", "high": "higher is better"}
    style(fig, title, x=f"{x} · {arrows[better[0]]}", y=f"{y}<br>{arrows[better[1]]}")
    return fig


def _error(value: np.ndarray) -> dict:
    middle, low, high = value
    shown = bool(high > low)
    return {"type": "data", "array": [high - middle], "arrayminus": [middle - low], "visible": shown}


def _padded(values: np.ndarray, part: float) -> list[float]:
    """A range with some room on both sides."""
    low, high = float(np.min(values)), float(np.max(values))
    room = (high - low) * part or max(abs(high), 1) * part
    return [low - room, high + room]


def _label_places(
    names: list[str],
    x: np.ndarray,
    y: np.ndarray,
    line: list[int],
    x_range: list[float],
    y_range: list[float],
) -> list[str]:
    """For each point the place for its label that covers least: points, intervals, the front, labels.

    ``x`` and ``y`` are (value, low, high) per point, [n, 3]; ``line`` are the points on the front.
    """
    px = (x - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - 110)  # in pixels of the plot
    py = (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - 120)
    taken = [(a - 8, b - 8, a + 8, b + 8) for a, b in zip(px[:, 0], py[:, 0], strict=True)]
    taken += [(a[1], b[0] - 3, a[2], b[0] + 3) for a, b in zip(px, py, strict=True)]
    taken += [(a[0] - 3, b[1], a[0] + 3, b[2]) for a, b in zip(px, py, strict=True)]
    steps = np.linspace(0, max(len(line) - 1, 0), 20 * len(line))
    on_front = (np.interp(steps, range(len(line)), p[line, 0]) for p in (px, py))
    taken += [(a - 3, b - 3, a + 3, b + 3) for a, b in zip(*on_front, strict=True)]
    places = []
    for (a, b), name in zip(np.stack([px[:, 0], py[:, 0]], axis=1), names, strict=True):
        w, h = LETTER_PX * len(name), 16  # of the label
        boxes = {
            "top center": (a - w / 2, b + 8, a + w / 2, b + 8 + h),
            "bottom center": (a - w / 2, b - 8 - h, a + w / 2, b - 8),
            "middle right": (a + 9, b - h / 2, a + 9 + w, b + h / 2),
            "middle left": (a - 9 - w, b - h / 2, a - 9, b + h / 2),
        }
        covered = {place: sum(_overlap(box, other) for other in taken) for place, box in boxes.items()}
        for place, (left, _, right, _) in boxes.items():
            covered[place] += h * (max(0, -left) + max(0, right - (WIDTH - 90)))  # outside of the figure
        places.append(min(covered, key=lambda place: covered[place]))
        taken.append(boxes[places[-1]])
    return places


Box = tuple[float, float, float, float]


def _overlap(a: Box, b: Box) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
