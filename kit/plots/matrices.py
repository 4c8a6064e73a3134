"""Figures about classifiers: the confusion matrix and the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kit import measure
from kit.plots.style import FONT_PX, SYMBOLS, WIDTH, colour, number, style

MOST_CELLS_WITH_TEXT = 15


def heatmap(
    matrix: np.ndarray,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    x: str,
    y: str,
    unit: str = "count",
) -> go.Figure:
    """A matrix as colours, such as a confusion matrix; the first row is on top.

    Numbers stand in the cells as long as they fit; hovering shows them always.

    Args:
        matrix: values [rows, columns].
        rows: names of the rows.
        columns: names of the columns.
        title: the finding.
        x: what the columns are, such as ``"predicted"``.
        y: what the rows are, such as ``"true"``.
        unit: what a cell counts.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            f"the matrix is {matrix.shape}, but there are {len(rows)} row and {len(columns)} column names."
        )
    written = len(columns) <= MOST_CELLS_WITH_TEXT
    fig = go.Figure(
        go.Heatmap(
            z=matrix,
            x=list(columns),
            y=list(rows),
            colorscale=[[0, "#FFFFFF"], [0.02, "#E6F0FA"], [1, "#08306B"]],
            zmin=0,
            text=[[number(v) for v in row] for row in matrix] if written else None,
            texttemplate="%{text}" if written else None,
            textfont_size=FONT_PX,
            colorbar={"title": {"text": unit, "side": "right"}, "thickness": 14},
            hovertemplate=f"{y}: %{{y}}<br>{x}: %{{x}}<br>%{{z:.4g}} {unit}<extra></extra>",
        )
    )
    fig.update_layout(
        width=max(WIDTH, 330 + 18 * len(columns)),
        height=max(420, 260 + 18 * len(rows)),
        xaxis_tickangle=-60 if len(columns) > 6 else 0,
        yaxis_autorange="reversed",
    )
    axis = {"type": "category", "dtick": 1, "showgrid": False}
    fig.update_xaxes(axis).update_yaxes(axis)
    return style(fig, title, x, y)


def reliability(
    models: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, bins: int = 10, least: int = 10
) -> go.Figure:
    """Does 90% sure mean right in 90% of cases? Accuracy by confidence, above the counts.

    On the diagonal a model is as good as it says; below it, it is too sure of itself. The legend gives
    the expected calibration error (ECE): the mean distance from the diagonal, weighted by counts
    (Guo et al., ICML 2017). It counts every bin; those with few answers are not drawn above, since their
    accuracy is mostly luck.

    Args:
        models: name -> (confidence [n], correct [n]).
        title: the finding.
        bins: bins of confidence, of equal width.
        least: answers that a bin must have to be drawn in the upper figure.
    """
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.06)
    neutral = colour("neutral")
    fig.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": neutral, "dash": "dot"}, name="as sure as right"
    )
    for i, (name, (confidence, correct)) in enumerate(models.items()):
        mean, right, count = measure.calibration(confidence, correct, bins)
        drawn = count >= least
        accuracy, low, high = right[drawn].T
        tint = colour(name, i)
        fig.add_scatter(
            x=mean[drawn],
            y=accuracy,
            error_y={"type": "data", "array": high - accuracy, "arrayminus": accuracy - low},
            mode="lines+markers",
            line={"color": tint, "width": 2.5},
            marker={"size": 9, "symbol": SYMBOLS[i % len(SYMBOLS)]},
            name=f"{name}, ECE {measure.ece(confidence, correct, bins):.1f}%",
            customdata=count[drawn],
            hovertemplate="%{x:.0f}% sure, %{y:.0f}% right, %{customdata} answers<extra>" + name + "</extra>",
        )
        width = 80 / bins / len(models)
        middle = (np.minimum((mean * bins / 100).astype(int), bins - 1) + 0.5) * 100 / bins
        fig.add_bar(
            x=middle + (i - (len(models) - 1) / 2) * width,
            y=count,
            width=width,
            marker_color=tint,
            showlegend=False,
            hovertemplate="%{y} answers<extra>" + name + "</extra>",
            row=2,
            col=1,
        )
    fig.update_layout(height=520, barmode="overlay")
    style(fig, title)
    fig.update_xaxes(range=[0, 101])
    few = f"; bins with fewer than {least} answers have no point"
    fig.update_xaxes(title_text=f"confidence, mean of the bin (%){few}", row=2, col=1)
    fig.update_yaxes(title_text="accuracy (%)", range=[0, 103], row=1, col=1)
    fig.update_yaxes(title_text="answers", nticks=4, row=2, col=1)
    return fig
