"""The chapter's figures and its table. Every title is a finding, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from IPython.core.display import HTML

from kit import artifacts, data, facts, plots
from kit.plots import number
from kit.start_here.ask import CLOUDS, Answer, Spoken, ms, total_ms, within
from kit.start_here.compare import BUDGET_MS, what_if

_TINTS = dict(zip(CLOUDS, ("#56B4E9", plots.COLOURS["cloud"], "#003A5C"), strict=True))
_TINTS["device"] = plots.COLOURS["device"]


_LINKS = {
    "fibre_assumed": "fibre to the home",
    "4g_lte_assumed": "mobile network (4G)",
    "region_eurasia": "line from East Asia to Europe",
}


def clouds_table() -> HTML:
    """Where each cloud's delays are from: links, medians, sources."""
    rows = []
    for cloud, links in CLOUDS.items():
        rows_of = [facts.networks()[link] for link in links]
        rows.append(
            {
                "": cloud.replace(" ", "\N{NO-BREAK SPACE}"),
                "median (ms)": sum(row.rtt_p50_ms or 0 for row in rows_of),
                "link": " + ".join(_LINKS[link] for link in links),
                "row of networks.csv, and its source": " · ".join(f"{r.id}: {r.source}" for r in rows_of),
            }
        )
    near, *_, far = (row["median (ms)"] for row in rows)
    return plots.table(rows, note=f"The far cloud is {number(far / near)} times as far away as the near one.")


def where_the_time_goes(runs: Mapping[str, Sequence[Answer]]) -> go.Figure:
    """Network and computing (medians) of each tier, with the range of 9 answers out of 10."""
    parts = {
        name: np.median([(a.network_ms, a.compute_ms) for a in answers], axis=0)
        for name, answers in runs.items()
    }
    slowest = max(parts, key=lambda name: parts[name].sum())
    road = parts[slowest][0] / parts[slowest].sum()
    names, tints = list(runs), [_TINTS[name] for name in runs]
    totals = {name: total_ms(answers) for name, answers in runs.items()}
    low, high = np.array([np.percentile(t, [5, 95]) for t in totals.values()]).T
    network, compute = np.array(list(parts.values())).T
    fig = go.Figure()
    fig.add_bar(y=names, x=network, orientation="h", marker={"color": tints, "opacity": 0.6})
    fig.add_bar(y=names, x=compute, orientation="h", marker={"color": tints})
    middle = network + compute
    fig.add_scatter(
        y=names,
        x=middle,
        mode="markers",
        marker={"size": 1, "color": "#1F2933"},
        error_x={"type": "data", "array": np.maximum(high - middle, 0), "arrayminus": middle - low},
    )
    fig.add_scatter(
        y=names,
        x=np.maximum(high, middle),
        mode="text",
        text=[
            f"  <b>{ms(n + c)} ms</b>" + (f" = {ms(n)} network + {ms(c)} computing" if n else "")
            for n, c in zip(network, compute, strict=True)
        ],
        textposition="middle right",
        cliponaxis=False,
    )
    fig.update_traces(showlegend=False, hoverinfo="skip")
    fig.update_layout(barmode="stack", height=330, xaxis_range=[0, high.max() * 2.1])
    fig.update_yaxes(autorange="reversed")
    title = (
        f"{road:.1%} of the {slowest}'s {ms(parts[slowest].sum())} ms are network: "
        "it is not the model that makes you wait"
    )
    return plots.style(fig, title, x="median response time (ms); whiskers: 9 answers out of 10")


def response_times(runs: Mapping[str, Sequence[Answer]], budget_ms: float = BUDGET_MS) -> go.Figure:
    """Distribution of the response times of each tier, and the budget."""
    times = {name: total_ms(answers) for name, answers in runs.items()}
    shares = [f"{name.split()[0]} {within(answers, budget_ms):.0%}" for name, answers in runs.items()]
    title = f"Answered within {number(budget_ms)} ms: {', '.join(shares)}"
    fig = plots.cdf(times, title=title, x="response time (ms)", log_x=True)
    ours = {plots.colour(name, i): _TINTS[name] for i, name in enumerate(times)}
    traces: Any = fig.data
    for trace in traces:  # the clouds in shades of blue, dark is far
        if trace.name:
            trace.name += " ms"
        tint = ours.get(trace.line.color or trace.marker.color)
        if tint:
            trace.update(line_color=tint, marker_color=tint)
        elif trace.fill:
            trace.fillcolor = "rgba(107,114,128,.12)"
    fig.add_scatter(
        x=[budget_ms, budget_ms],
        y=[0, 100],
        mode="lines",
        line={"color": plots.COLOURS["limit"], "dash": "dash", "width": 2},
        name=f"budget: {number(budget_ms)} ms",
        hoverinfo="name",
    )
    fig.update_yaxes(tickvals=[0, 25, 50, 75, 95, 100])
    return plots.style(fig, title)


def tokens_over_time(spoken: Spoken) -> go.Figure:
    """Tokens of a streamed answer as they arrived."""
    seconds = spoken.arrived_ms / 1e3
    title = (
        f"The first word after {seconds[0]:.2g} s, the last after {seconds[-1]:.2g} s: "
        "streaming lets you read while it writes"
    )
    fig = go.Figure()
    fig.add_scatter(
        x=[0, *seconds],
        y=np.arange(len(seconds) + 1),
        mode="lines",
        line={"color": plots.COLOURS["cloud"], "shape": "hv", "width": 2.5},
        fill="tozeroy",
        fillcolor="rgba(0,114,178,.12)",
    )
    fig.add_scatter(
        x=[seconds[0], seconds[-1]],
        y=[1, len(seconds)],
        mode="markers+text",
        marker={"size": 11, "color": plots.COLOURS["cloud"]},
        text=["  first token", "without streaming you would wait until here  "],
        textposition=["bottom right", "middle left"],
        cliponaxis=False,
    )
    fig.update_traces(showlegend=False)
    fig.update_yaxes(range=[-0.12 * len(seconds), 1.1 * len(seconds)], tick0=0)
    return plots.style(fig, title, x="time since the question (s)", y="tokens of the answer")


def two_models(small: Answer, spoken: Spoken) -> HTML:
    """The edge model and the language model beside each other: size, waiting, and what each said."""
    mb = {name: artifacts.get(name).stat().st_size / 1e6 for name in ("intent.int8", "smollm2.int8")}
    rows = [
        {
            "": "intent model, on the device",
            "file (MB)": mb["intent.int8"],
            "first word (ms)": small.compute_ms,
            "last word (ms)": small.compute_ms,
            "says": f"one of {len(data.INTENTS)} labels",
        },
        {
            "": "SmolLM2, in place of a cloud's model",
            "file (MB)": mb["smollm2.int8"],
            "first word (ms)": spoken.ttft_ms,
            "last word (ms)": float(spoken.arrived_ms[-1]),
            "says": f"whole sentences, at {number(spoken.tokens_per_s)} tokens per second",
        },
    ]
    size, wait = mb["smollm2.int8"] / mb["intent.int8"], spoken.ttft_ms / small.compute_ms
    note = (
        f"To speak freely took a file {number(size)} times as large, and {number(wait)} times the wait. The "
        "chip in a light switch has a few MB of memory: only the first of the two fits."
    )
    return plots.table(rows, note=note)


def break_even(round_trip_ms: float, jitter_ms: float, device_ms: float, cloud_ms: float) -> go.Figure:
    """Response times over the distance to the cloud, and where the two are even. For ``lesson.whatif``."""
    here = what_if(round_trip_ms, jitter_ms, device_ms, cloud_ms)
    x = np.linspace(0, 300, 61)
    middle, low, high = (x + cloud_ms - jitter_ms * np.log(1 - q) for q in (0.5, 0.05, 0.95))
    even = float(here.break_even_ms)
    median_ms = round_trip_ms + cloud_ms + jitter_ms * np.log(2)
    turning = f"break-even: a round trip of {number(even)} ms" if even >= 0 else "no cloud is near enough"
    title = (
        f"Device {ms(device_ms)} ms, cloud {ms(median_ms)} ms (median): the device is first in "
        f"{here.device_first:.0%} ({turning}). "
        f"Within {number(BUDGET_MS)} ms: device {here.device_within:.0%}, cloud {here.cloud_within:.0%}"
    )
    series = {"device": (x, np.full_like(x, device_ms)), "cloud": (x, middle, low, high)}
    names = ("round trip without jitter (ms)", "response time (ms)")
    fig = plots.lines(series, title=title, x=names[0], y=names[1])
    fig.update_traces(name="cloud: median, and 9 answers of 10", selector={"name": "cloud"})
    fig.add_scatter(
        x=[0, 300],
        y=[BUDGET_MS, BUDGET_MS],
        mode="lines",
        line={"color": plots.COLOURS["limit"], "dash": "dash", "width": 2},
        name=f"budget: {number(BUDGET_MS)} ms",
    )
    above, below = "top left", "bottom right" if min(device_ms, median_ms) > 30 else "top right"
    fig.add_scatter(
        x=[round_trip_ms, round_trip_ms],
        y=[device_ms, median_ms],
        mode="markers+text",
        text=["device", "cloud"],
        textposition=[above, below] if device_ms >= median_ms else [below, above],
        cliponaxis=False,
        marker={"size": 12, "color": [plots.COLOURS["device"], plots.COLOURS["cloud"]]},
        showlegend=False,
    )
    if 0 <= even <= 300:
        fig.add_annotation(x=even, y=device_ms, text="break-even", ax=45, ay=-55, arrowwidth=1.5)
    return plots.style(fig, title)
