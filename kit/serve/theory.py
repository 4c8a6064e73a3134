"""How large should the queue be? Servers, places to wait, and what is turned away, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.plots import COLOURS, PALETTE


@dataclass(frozen=True)
class Steady:
    """A queue in the long run.

    Attributes:
        refused: part of the requests that find it full.
        wait_s: mean wait of those that are let in.
        busy: part of the time that a server works.
    """

    refused: float
    wait_s: float
    busy: float


def steady(rate_per_s: float, service_s: float, servers: int, queue: int) -> Steady:
    """M/M/c/K: requests that come independently, exponential service, so many servers and places to wait.

    Source: Kleinrock 1975, "Queueing Systems, volume 1", section 3.

    Raises:
        ValueError: a rate, time or number of servers that is not above 0, or a negative queue.
    """
    if not (rate_per_s > 0 and service_s > 0) or servers < 1 or queue < 0:
        raise ValueError(
            f"rate, service and servers must be above 0 and queue at least 0, got {rate_per_s}, {service_s}, "
            f"{servers} and {queue}."
        )
    offered = rate_per_s * service_s
    inside = np.arange(servers + queue + 1)
    steps = np.log(offered) - np.log(np.minimum(np.maximum(inside, 1), servers))
    logs = np.cumsum(np.where(inside > 0, steps, 0.0))
    p = np.exp(logs - logs.max())
    p /= p.sum()  # chance of so many requests inside
    refused = float(p[-1])
    let_in = rate_per_s * (1 - refused)
    waiting = float((p * np.maximum(inside - servers, 0)).sum())
    return Steady(refused, waiting / let_in, let_in * service_s / servers)


def queue_sizes(rate_per_s: float, service_s: float, servers: float, patience_s: float) -> go.Figure:
    """Who is turned away, and how long the others wait, by places in the queue.

    Args:
        rate_per_s: requests per second. ``service_s``: of one answer. ``servers``: answers at a time.
        patience_s: how long people wait, for the title.
    """
    sizes = np.unique(np.round(np.geomspace(1, 200, 40)).astype(int))
    found = [steady(rate_per_s, service_s, int(servers), int(q)) for q in sizes]
    waits, refused = np.array([s.wait_s for s in found]), np.array([s.refused for s in found])
    good = sizes[waits <= patience_s]
    load = rate_per_s * service_s / servers
    if len(good):
        most = int(good[-1])
        turned = refused[sizes == most][0]
        told = f"with {most} places the mean wait is below {patience_s:g} s, and {turned:.1%} are turned away"
    else:
        told = f"even one place to wait means more than {patience_s:g} s"
    fig = go.Figure()
    fig.add_scatter(x=sizes, y=waits, name="mean wait (s)", line={"color": COLOURS["edge"], "width": 2.5})
    fig.add_scatter(
        x=sizes, y=100 * refused, name="turned away (%)", line={"color": PALETTE[2], "width": 2.5}, yaxis="y2"
    )
    fig.update_xaxes(type="log", tickvals=[1, 2, 5, 10, 20, 50, 100, 200])
    plots.style(fig, f"Load {load:.2f}: {told}", x="places in the queue", y="mean wait (s)")
    right = {"overlaying": "y", "side": "right", "title": {"text": "turned away (%)"}, "showgrid": False}
    right |= {"range": [0, 115 * max(refused.max(), 0.001)], "tickmode": "auto", "nticks": 6}
    return fig.update_layout(yaxis2=right)
