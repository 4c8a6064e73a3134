"""Pictures of a living gateway: an evening with a cut line, and simulated over measured latencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from kit import plots
from kit.plots import COLOURS
from kit.plots.style import log_axis
from kit.route.against import Compared
from kit.route.trials import Evening

SHADE = "rgba(107,114,128,.18)"
NOBODY = "nobody"
SHORT = {"simple_shuffle": "shuffle", "least_busy": "least busy", "confidence_cascade": "cascade"}


def evening(seen: Evening) -> go.Figure:
    """Each request as a point: when it came, how long it took, who answered. Grey: the line is cut."""
    rows = seen.seen
    fig = go.Figure()
    answered = rows["outcome"] == "answered"
    ms = np.where(answered, rows["e2e_ms"], 1.0)
    tiers = np.where(answered, rows["tier"], NOBODY)
    for name in ("edge", "cloud", NOBODY):
        which = tiers == name
        if which.any():
            fig.add_scatter(
                x=rows["scheduled_s"][which],
                y=ms[which],
                mode="markers",
                name=name,
                marker={"color": COLOURS.get(name, COLOURS["limit"]), "size": 8, "opacity": 0.75},
            )
    fig.add_vrect(x0=seen.cut_s, x1=seen.mended_s, fillcolor=SHADE, line_width=0, annotation_text="line cut")
    fig.update_yaxes(log_axis(float(ms.min()), float(ms.max())))
    cut = seen.between(seen.cut_s, seen.mended_s)
    part = float((cut["outcome"] == "answered").mean())
    title = f"While the line was cut, {part:.0%} of {len(cut)} requests were answered"
    return plots.style(fig, title, x="time (s)", y="end to end (ms)")


def against(found: Compared) -> go.Figure:
    """The two distributions, one over the other."""
    errors = found.errors()
    worst = max(errors, key=lambda level: abs(errors[level]))
    return plots.cdf(
        {"measured": found.measured_ms, "simulated": found.predicted_ms},
        title=f"{found.policy}, {found.requests_per_s:g}/s: P{worst} is {abs(errors[worst]):.0%} off",
        x="end to end (ms)",
        log_x=True,
    )


def errors(runs: Sequence[Compared]) -> go.Figure:
    """How far each prediction is off, with the limits that were set before."""
    fig = go.Figure()
    names = [f"{SHORT.get(run.policy, run.policy)} {run.requests_per_s:.0f}/s" for run in runs]
    for i, level in enumerate(runs[0].errors()):
        off = [100 * run.errors()[level] for run in runs]
        fig.add_scatter(
            x=names,
            y=off,
            mode="markers",
            name=f"P{level}",
            marker={"size": 11, "color": plots.PALETTE[i]},
        )
    for limit, dash, of in ((10, "dash", "P50, P95"), (20, "dot", "P99")):
        line = {"color": COLOURS["neutral"], "dash": dash, "width": 1.5}
        fig.add_hline(y=limit, line=line, annotation_text=f"limit of {of}")
        fig.add_hline(y=-limit, line=line)
    middle = float(np.median([abs(e) for run in runs for e in run.errors().values()]))
    title = f"Predicted before measured: half of the errors are below {middle:.0%}"
    return plots.style(fig, title, x="policy and load", y="simulated - measured (%)")
