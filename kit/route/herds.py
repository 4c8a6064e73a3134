"""What old signals and narrow buffers do to a fleet: pictures and sentences of `kit.route.studies`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from IPython.core.display import Markdown

from kit import plots
from kit.plots import number

P95 = "P95 (ms)"


def ages(found: Mapping[str, np.ndarray], ages_s: Sequence[float]) -> go.Figure:
    """P95 over the age of the signals."""
    last = {name: float(ms[-1]) for name, ms in found.items()}
    best, worst = min(last, key=lambda n: last[n]), max(last, key=lambda n: last[n])
    times = last[worst] / last[best]
    title = f"With signals {ages_s[-1]:g} s old, {worst} has a P95 {times:.0f} times that of {best}"
    series = {name: (list(ages_s), ms) for name, ms in found.items()}
    return plots.lines(series, title=title, x="signals are taken every (s)", y=P95, log_x=True, log_y=True)


def read_ages(found: Mapping[str, np.ndarray], ages_s: Sequence[float]) -> Markdown:
    """Up to which age a look at the queues helps."""
    lots = found["random"]
    said = []
    for name in ("least busy", "two choices"):
        helps = [age for age, ms, lot in zip(ages_s, found[name], lots, strict=True) if ms < lot]
        said.append(f"{name} is better than random up to {max(helps):g} s" if helps else f"{name} never is")
    return Markdown(
        f"{said[0].capitalize()}, {said[1]}; with older signals they are worse. All requests between "
        "two looks see the same short queue, and go there. Two random choices send some of them elsewhere."
    )


def buffers(found: Mapping[str, np.ndarray], widths: Sequence[float]) -> go.Figure:
    """P95 over the width of the buffer."""
    at = int(np.argmin(found["latency"]))
    title = f"The wider the buffer, the closer to random: from {number(found['latency'][0])} ms to "
    title += f"{number(found['latency'][at])} ms with {widths[at]:.0%}"
    series = {name: ([100 * w for w in widths], ms) for name, ms in found.items()}
    return plots.lines(series, title=title, x="buffer: slower than the best by up to (%)", y=P95)


def read_buffers(found: Mapping[str, np.ndarray]) -> Markdown:
    """Whether learning from latencies is better than choosing at random."""
    best, lots = float(found["latency"].min()), float(found["random"][0])
    if best > 0.95 * lots:
        end = "So where servers are alike, the clever router is at best as good as choosing at random."
    else:
        end = "So with a wide buffer the clever router is better than choosing at random."
    return Markdown(
        "A latency is known when the answer is there. By then a router that asks only the fastest has sent "
        f"everybody there. A buffer of 400% is nearly a random choice. {end}"
    )
