"""The chapter's figures. Titles are findings, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit import data, measure, plots
from kit.compress.distil import soften
from kit.compress.exam import Answers, by_frequency
from kit.compress.router import cascade
from kit.compress.runs import Run, closed
from kit.compress.sentences import LANGUAGE
from kit.plots import number
from kit.plots.style import interval

EDGE, CLOUD = plots.COLOURS["edge"], plots.COLOURS["cloud"]


def teacher_bars(edge: Answers, teacher: Answers) -> go.Figure:
    """Commands that people wrote: the edge model and its teachers, by language."""
    shown = {
        name: {LANGUAGE[lang]: answers.right(lang) for lang in data.LANGS}
        for name, answers in {"edge": edge, "teacher": teacher}.items()
    }
    ahead = " and ".join(f"{teacher.ahead(edge, lang)[0]:.1f} in {LANGUAGE[lang]}" for lang in data.LANGS)
    title = f"On people's commands the teachers are ahead by {ahead} (points)"
    fig = plots.bars(shown, title=title, unit="right (%)")
    fig.update_traces(marker_color=CLOUD, selector={"type": "bar", "name": "teacher"})
    return fig


def soft_targets(p: np.ndarray, temperature: float = 1.0, most: int = 6) -> go.Figure:
    """What a teacher says of one sentence at a temperature, and what the label alone would say.

    Args:
        p: its probabilities, [classes].
        temperature: 1 leaves them as they are.
        most: classes shown.
    """
    soft = 100 * soften(p, temperature)
    top = np.argsort(-p)[:most]
    names = [*(data.INTENTS[i] for i in top), f"{len(p) - most} others"]
    said = [*soft[top], 100 - soft[top].sum()]
    shown = {
        "the label": {name: 100.0 * (i == 0) for i, name in enumerate(names)},
        "the teacher": dict(zip(names, np.round(said, 1).tolist(), strict=True)),
    }
    title = f"At temperature {temperature:g} the teacher gives {names[0]} {soft[top[0]]:.0f}%"
    fig = plots.bars(shown, title=title, unit="probability (%)")
    return fig.update_traces(marker_color=CLOUD, selector={"type": "bar", "name": "the teacher"})


def seeds(runs: Sequence[Run], teacher: float, lang: str = "en") -> go.Figure:
    """Accuracy of every training that was recorded, by how the model was taught; and the teacher's.

    Args:
        runs: see ``runs``.
        teacher: its accuracy on the same sentences, in percent.
        lang: of the sentences.
    """
    fig = go.Figure()
    ways = list(dict.fromkeys(run.way for run in runs))
    for i, way in enumerate(ways):
        right = [run.people[lang] for run in runs if run.way == way]
        fig.add_scatter(
            x=[way] * len(right), y=right, mode="markers", name="one training", showlegend=i == 0,
            marker={"size": 10, "color": EDGE, "opacity": 0.6},
        )  # fmt: skip
        fig.add_scatter(
            x=[way], y=[float(np.mean(right))], mode="markers+text", name="mean", showlegend=i == 0,
            text=[f"  {np.mean(right):.1f}"], textposition="middle right", cliponaxis=False,
            marker={"symbol": "line-ew-open", "size": 34, "line_width": 3, "color": EDGE},
        )  # fmt: skip
    fig.add_scatter(
        x=ways,
        y=[teacher] * len(ways),
        mode="lines",
        name="the teacher",
        line={"color": CLOUD, "dash": "dash"},
    )
    fig.update_xaxes(range=[-0.4, len(ways) - 0.6])
    part, low, high = closed(runs, teacher, lang)
    title = f"A teacher closes {part:.0%} of the gap in {LANGUAGE[lang]} ({low:.0%} to {high:.0%})"
    return plots.style(fig, title, y="right on people (%)")


def zeros_curve(raw: Mapping[float, Answers], trained: Mapping[float, Answers]) -> go.Figure:
    """Accuracy on people over the part of the weights that is zero, before and after training goes on."""
    series = {}
    for name, kinds in {"cut only": raw, "cut, then trained on": trained}.items():
        shares = sorted(kinds)
        series[name] = ([100 * s for s in shares], *np.array([kinds[s].right() for s in shares]).T)
    most = max(trained)
    cut, mended = (100 * float(kinds[most].hits.mean()) for kinds in (raw, trained))
    title = f"{most:.0%} zeros leave {cut:.0f}% right, and {mended:.0f}% after more training"
    return plots.lines(series, title=title, x="weights set to zero (%)", y="right on people (%)")


def bits_curve(raw: Mapping[int, Answers], trained: Mapping[int, Answers], floats: Answers) -> go.Figure:
    """Accuracy over bits: rounded after training, and trained with rounding in the loop."""
    series = {}
    for name, kinds in {"rounded afterwards": raw, "rounding in the loop": trained}.items():
        bits = sorted(kinds)
        series[name] = (bits, *np.array([kinds[b].right() for b in bits]).T)
    low = min(trained)
    won = trained[low].right()[0] - raw[low].right()[0]
    title = f"With {low} bits, rounding in the loop is worth {won:.0f} points"
    fig = plots.lines(series, title=title, x="bits of a weight", y="right on people (%)")
    fig.add_scatter(
        x=[min(raw), max(raw)], y=[floats.right()[0]] * 2, mode="lines", name="floats",
        line={"color": plots.COLOURS["fp32"], "dash": "dash"},
    )  # fmt: skip
    fig.update_xaxes(tickvals=sorted(raw))
    return plots.style(fig, title)


def operator_bars(spent: Mapping[str, float], most: int = 8) -> go.Figure:
    """Where the time of one sentence goes, by operator."""
    names = list(spent)[:most]
    total = sum(spent.values())
    first, second = (f"{name} takes {spent[name] / total:.0%}" for name in names[:2])
    title = f"{first} of the time, {second}"
    return plots.bars({n: spent[n] for n in names}, title=title, unit="time (µs)", horizontal=True)


def shape_front(accuracy: Mapping[str, float], cost: Mapping[str, float], what: str) -> go.Figure:
    """Accuracy of each shape against what it costs, and the front of those worth choosing.

    Args:
        accuracy: shape -> on the dev split, in percent.
        cost: shape -> MB or ms.
        what: name of the cost with its unit.
    """
    best = plots.front({n: (cost[n], accuracy[n]) for n in accuracy}, ("low", "high"))
    first, top = next(iter(accuracy)), max(accuracy, key=lambda name: accuracy[name])
    title = f"Of {len(accuracy)} shapes, {top} is best on dev; nothing beats {len(best)} in both ways"
    points = {name: (cost[name], accuracy[name]) for name in accuracy}
    fig = plots.pareto(points, title=title, x=what, y="right on dev (%)", labelled={first, *best})
    return fig.update_traces(marker_color=EDGE, marker_line_color=EDGE, selector={"mode": "markers+text"})


def forgotten(kinds: Mapping[str, Answers]) -> go.Figure:
    """Accuracy by how often an intent occurs in people's training sentences; the first is the uncut model."""
    groups, right = by_frequency(kinds)
    shown = {name: dict(zip(groups, values, strict=True)) for name, values in right.items()}
    whole, (last, cut) = next(iter(right.values())), list(right.items())[-1]
    lost = [f"{a - b:z.0f}" for a, b in zip(whole, cut, strict=True)]
    title = f"{last} lost {', '.join(lost[:-1])} and {lost[-1]} points, from rare to frequent intents"
    fig = plots.bars(shown, title=title, unit="right on people (%)")
    fig.update_xaxes(title_text="training sentences of people with this intent")
    return fig


def noticed(
    kinds: Mapping[str, Answers], cloud: Answers, threshold: float = 0.8, lang: str = "en"
) -> go.Figure:
    """What a cascade sends to the cloud, and how right it is, for each cut of the edge model.

    Args:
        kinds: name -> answers; the first is the uncut model.
        cloud: the teacher's answers.
        threshold: the edge answers what it is at least so sure of.
        lang: of the sentences.
    """
    shared = {name: cascade(edge, cloud, threshold, lang) for name, edge in kinds.items()}
    names = list(shared)
    shown = {
        "sent to the cloud": {n: measure.accuracy(c.sent) for n, c in shared.items()},
        "all answers right": {n: measure.accuracy(c.right) for n, c in shared.items()},
    }
    sent, right = ([values[names[0]][0], values[names[-1]][0]] for values in shown.values())
    title = (
        f"From {names[0]} to {names[-1]}: right {right[0]:.0f}% → {right[1]:.0f}%, "
        f"sent {sent[0]:.0f}% → {sent[1]:.0f}%"
    )
    fig = plots.bars(shown, title=title, unit="% of people's commands")
    for name, tint in zip(shown, (CLOUD, EDGE), strict=True):
        fig.update_traces(marker_color=tint, selector={"type": "bar", "name": name})
    return fig


def one_picture(points: Mapping[str, tuple[float, plots.Value]], ms: Mapping[str, float]) -> go.Figure:
    """Accuracy against bytes for everything in this chapter; the label says how long a sentence takes.

    Args:
        points: name -> (MB, accuracy in percent).
        ms: name -> milliseconds for a sentence.
    """

    def right(name: str) -> float:
        return interval(points[name][1])[0]

    labelled = {f"{name}, {number(ms[name])} ms": point for name, point in points.items()}
    small, best = min(points, key=lambda n: points[n][0]), max(points, key=lambda n: right(n))
    title = (
        f"{small} is {number(points[small][0])} MB, the {best} {number(points[best][0])} MB and "
        f"{right(best) - right(small):.0f} points better"
    )
    return plots.pareto(
        labelled,
        title=title,
        x="size (MB)",
        y="right on people's English (%)",
        better=("low", "high"),
        log_x=True,
    )


def sparse_lines(times: Mapping[float, tuple[float, float, float]]) -> go.Figure:
    """Time of a sparse product over that of a dense one, by the part of the weights that is zero."""
    shares = sorted(times)
    columns = ([100 * s for s in shares], *np.array([times[s] for s in shares]).T)
    at = min(shares, key=lambda s: abs(s - 0.9))
    slower = times[at][0]
    title = f"With {at:.0%} zeros, the sparse product takes {slower:.2g} times as long as the dense one"
    fig = plots.lines(
        {"sparse": columns}, title=title, x="zeros (%)", y="sparse time ÷ dense time", log_y=True
    )
    fig.add_scatter(
        x=[100 * shares[0], 100 * shares[-1]], y=[1, 1], mode="lines", name="dense",
        line={"color": plots.COLOURS["neutral"], "dash": "dash"},
    )  # fmt: skip
    return plots.style(fig, title)
