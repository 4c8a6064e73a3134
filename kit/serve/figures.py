"""The chapter's figures. Titles are findings, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.plots import COLOURS, PALETTE, number
from kit.records import percentile
from kit.serve.load import Report


def first_tokens(found: Mapping[str, np.ndarray]) -> go.Figure:
    """Time to the first token, and the engine's part of it, as distributions."""
    more = np.median(found["client"] - found["engine"])
    return plots.cdf(
        {"the engine": found["engine"], "what the client sees": found["client"]},
        title=f"The server adds {more:.1f} ms to the first token (median)",
        x="time to first token (ms)",
    )


def load_lines(reports: Mapping[float, Report], closed_ms: np.ndarray) -> go.Figure:
    """Time to first token by rate of arrival, and what a tester sees who waits for each answer."""
    rates = sorted(reports)
    fig = go.Figure()
    for level, tint in ((50, COLOURS["edge"]), (95, PALETTE[2])):
        y = [percentile(reports[r].records["ttft_ms"], level) for r in rates]
        fig.add_scatter(
            x=rates,
            y=y,
            name=f"P{level}",
            mode="lines+markers",
            line={"color": tint, "width": 2.5},
            marker_size=8,
        )
    alone = float(np.median(closed_ms))
    fig.add_hline(y=alone, line={"color": COLOURS["neutral"], "dash": "dot"})
    fig.add_annotation(
        x=1,
        xref="paper",
        y=np.log10(alone),
        text="asking one by one",
        showarrow=False,
        yshift=10,
        xanchor="right",
    )
    fig.update_yaxes(type="log")
    last = percentile(reports[rates[-1]].records["ttft_ms"], 95)
    title = (
        f"At {rates[-1]:g} requests/s one in twenty waits over {number(last / 1000)} s for its first token; "
        f"who asks "
        f"one by one sees {alone:.0f} ms"
    )
    return plots.style(fig, title, x="requests per second", y="time to first token (ms)")


def arrivals(times: Mapping[str, Sequence[float]]) -> go.Figure:
    """When requests come, a row of ticks for each stream."""
    fig = go.Figure()
    for i, (name, at) in enumerate(times.items()):
        fig.add_scatter(
            x=list(at), y=[name] * len(at), mode="markers", name=name, showlegend=False,
            marker={"symbol": "line-ns-open", "size": 18, "color": PALETTE[i % len(PALETTE)]},
        )  # fmt: skip
    plots.style(fig, "The same number of requests a second, and not the same load", x="time (s)")
    return fig.update_layout(height=240)
