"""What the results of chapter 06 look like."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from IPython.core.display import HTML

from kit import plots
from kit.engine import tokenizer
from kit.measure import Timing, ratio
from kit.plots.style import COLOURS, FONT_PX, faded
from kit.speculate.lengths import Costs
from kit.speculate.race import Told, acceptance, by_place, gain, tokens_per_s
from kit.speculate.theory import best_length, expected_tokens, most_rtt_ms, paper_speedup, speedup

GUESSED, OWN = COLOURS["edge"], COLOURS["cloud"]
ACCEPTANCES = np.linspace(0.05, 0.95, 19)


def coloured(told: Told) -> HTML:
    """An answer, each token in the colour of who wrote it: the draft and confirmed, or the target."""
    first = len(told.tokens) - sum(len(r.tokens) for r in told.rounds)
    marks = [False] * first
    for r in told.rounds:
        marks += [i < r.kept for i in range(len(r.tokens))]

    def span(token: int, guessed: bool) -> str:
        text = html.escape(tokenizer().decode([token])).replace("\n", "<br>")
        tint = faded(GUESSED, 0.3) if guessed else faded(OWN, 0.12)
        return f'<span style="background:{tint}">{text}</span>'

    spans = "".join(span(t, m) for t, m in zip(told.tokens, marks, strict=True))
    share = sum(marks) / len(marks)
    return HTML(
        f'<div style="font-size:{FONT_PX + 1}px;line-height:1.7">{spans}</div>'
        f'<p style="font-size:{FONT_PX}px;opacity:.8">Green: guessed by the draft and confirmed '
        f"({share:.0%} of {len(marks)} tokens). Blue: the target's own, one a round.</p>"
    )


def check_curves(checks: Mapping[str, Mapping[int, Timing]]) -> go.Figure:
    """How much longer the target takes for several tokens at once than for one."""
    series, at = {}, 5
    for name, times in checks.items():
        found = [ratio(t, times[1]) for t in times.values()]
        middle, low, high = zip(*found, strict=True)
        series[name] = (list(times), middle, low, high)
    told = ", ".join(f"{name} {y[at - 1]:.2f}" for name, (_, y, _, _) in series.items())
    title = f"Reading {at} tokens at once takes, times as long as one: {told}"
    return plots.lines(series, title=title, x="tokens read at once", y="time, relative to one token")


def places(told: Mapping[str, Sequence[Told]], most: int) -> go.Figure:
    """Chance that a guess stands, by its place in the round."""
    at = list(range(1, most + 1))
    series = {name: (at, [100 * a for a in by_place(t, most)]) for name, t in told.items()}
    first = {name: y[0] for name, (_, y) in series.items()}
    title = "The first guess stands in " + ", ".join(f"{v:.0f}% ({name})" for name, v in first.items())
    y = "it stands, if those before did (%)"
    return plots.lines(series, title=title, x="place of the guess in its round", y=y)


def predicted(
    told: Mapping[int, Sequence[Told]],
    plain: Sequence[Told],
    costs: Costs,
    name: str,
) -> go.Figure:
    """Speed-up by the number of guesses: by both formulas, and measured."""
    lengths, stands = list(told), {n: acceptance(t) for n, t in told.items()}
    relative = {n: costs.guess_ms(n) / costs.target_ms(1) for n in lengths}
    gains = {n: gain(plain, told[n]) for n in lengths}
    honest = [speedup(stands[n], n, costs.guess_ms(n), costs.target_ms) for n in lengths]
    series = {
        "if checking were free": (lengths, [paper_speedup(stands[n], n, relative[n]) for n in lengths]),
        "with what checking costs": (lengths, honest),
        "measured": (lengths, *zip(*gains.values(), strict=True)),
    }
    best = max(gains, key=lambda n: gains[n][0])
    title = f"The {name} is best with {best} guesses: {plots.spread(gains[best], '.2f')} times as fast"
    return plots.lines(series, title=title, x="guesses in a round", y="speed-up (times)")


def distributions(shares: Mapping[str, Sequence[float]], words: Sequence[str]) -> go.Figure:
    """How often each word comes out, by rule; the first is what it should be."""
    bars = {n: {w: round(100 * s, 1) for w, s in zip(words, v, strict=True)} for n, v in shares.items()}
    names = list(shares)
    off = {n: 50 * float(np.abs(np.subtract(shares[n], shares[names[0]])).sum()) for n in names[1:]}
    title = "Of 100 words, so many are others than they should be: " + ", ".join(
        f"{v:.1f} ({n})" for n, v in off.items()
    )
    return plots.bars(bars, title=title, unit="comes out (%)")


def speeds(told: Mapping[str, Mapping[str, Sequence[Told]]], kind: str) -> go.Figure:
    """Tokens per second by precision and way."""
    bars: dict[str, dict[str, float]] = {}
    for precision, ways in told.items():
        for way, answers in ways.items():
            bars.setdefault(way, {})[precision] = round(tokens_per_s(answers), 1)
    best = {p: max(ways, key=lambda w: tokens_per_s(ways[w])) for p, ways in told.items()}
    title = f"{kind.capitalize()}: fastest is " + ", ".join(f"{way} in {p}" for p, way in best.items())
    return plots.bars(bars, title=title, unit="tokens per second")


def region(costs: Costs, points: Mapping[str, tuple[float, float]], precision: str) -> go.Figure:
    """Speed-up at the best number of guesses, by acceptance and by what a guess costs; 1 is plain decoding.

    Args:
        costs: of which the target's are used.
        points: name of a draft -> (acceptance, cost of a guess relative to a token of the target).
        precision: of the target, for the title.
    """
    relative = np.linspace(0, 0.6, 25)
    one = costs.target_ms(1)

    def best(a: float, r: float) -> float:
        return max(speedup(a, n, r * one, costs.target_ms) for n in range(1, 9))

    z = np.array([[best(a, r) for r in relative] for a in ACCEPTANCES])  # [acceptances, costs]
    fig = go.Figure(
        go.Contour(
            x=relative, y=100 * ACCEPTANCES, z=z,
            contours={"start": 0.4, "end": 3, "size": 0.2, "showlabels": True},
            colorscale=[[0, "#D55E00"], [0.231, "#FFFFFF"], [1, "#009E73"]], zmin=0.4, zmax=3,
            colorbar={"title": {"text": "speed-up (times)", "side": "right"}, "thickness": 14},
            hovertemplate="a guess costs %{x:.2f}, stands in %{y:.0f}%: %{z:.2f} times<extra></extra>",
        )
    )  # fmt: skip
    fig.add_contour(
        x=relative, y=100 * ACCEPTANCES, z=z, showscale=False, hoverinfo="skip",
        contours={"start": 1, "end": 1, "size": 1, "coloring": "lines"}, line={"width": 4},
        colorscale=[[0, "#1F2933"], [1, "#1F2933"]],
    )  # fmt: skip
    for name, (a, r) in points.items():
        fig.add_scatter(
            x=[r], y=[100 * a], mode="markers+text", text=[name], textposition="middle right",
            showlegend=False, marker={"size": 11, "color": "#1F2933"},
        )  # fmt: skip
    least = next((a for a, row in zip(ACCEPTANCES, z, strict=True) if row[4] > 1), 1.0)
    title = f"{precision}: a draft that costs a tenth pays from {100 * least:.0f}% acceptance on"
    return plots.style(fig, title, "cost of a guess (a token of the target is 1)", "a guess stands (%)")


def choices(told: Mapping[str, Told]) -> go.Figure:
    """How many guesses were made in each round."""
    series = {
        name: (list(range(1, len(t.rounds) + 1)), [r.guessed for r in t.rounds]) for name, t in told.items()
    }
    mean = {name: float(np.mean(y)) for name, (_, y) in series.items()}
    title = "Guesses a round: " + ", ".join(f"{v:.1f} ({name})" for name, v in mean.items())
    return plots.lines(series, title=title, x="round", y="guesses")


def over_rtt(
    stands: float,
    length: int,
    costs: Costs,
    measured: Mapping[float, Sequence[Told]],
    most_ms: float = 100,
) -> go.Figure:
    """Speed of a device that drafts for a target in the cloud, by the round trip between them."""
    rtt = np.linspace(0, most_ms, 51)
    one = costs.target_ms(1)
    made = [speedup(stands, length, costs.guess_ms(length), costs.target_ms, r) * 1000 / one for r in rtt]
    series: dict[str, tuple] = {
        "cloud alone, streaming": (rtt, np.full(len(rtt), 1000 / one)),
        "device drafts, cloud checks": (rtt, made),
        "measured": (list(measured), [tokens_per_s(t) for t in measured.values()]),
    }
    even = most_rtt_ms(stands, length, costs.guess_ms(length), costs.target_ms)
    title = f"With {length} guesses it pays up to a round trip of {max(even, 0):.0f} ms"
    return plots.lines(series, title=title, x="round trip (ms)", y="tokens per second")


def gain_by_length(
    acceptance: float, draft_cost: float, another_token: float, target_ms: float, rtt_ms: float
) -> go.Figure:
    """Speed-up by the number of guesses. For ``lesson.whatif``.

    Args:
        acceptance: chance that a guess stands, 0 to 1.
        draft_cost: of a guess, where a token of the target costs 1.
        another_token: what each further token adds to a check, where the first costs 1.
        target_ms: time of a token of the target.
        rtt_ms: round trip to the target.
    """

    def check(tokens: int) -> float:
        return target_ms * (1 + another_token * (tokens - 1))

    lengths = list(range(1, 17))
    draft_ms = draft_cost * target_ms
    gains = [speedup(acceptance, n, draft_ms, check, rtt_ms) for n in lengths]
    best = best_length(acceptance, draft_ms, check, rtt_ms, longest=16)
    if best:
        brought = expected_tokens(acceptance, best)
        title = f"Best with {best} guesses: {max(gains):.2f} times; {brought:.1f} tokens a round"
    else:
        title = f"It never pays: {max(gains):.2f} times at best"
    series = {"with a draft": (lengths, gains), "plain decoding": (lengths, [1.0] * len(lengths))}
    return plots.lines(series, title=title, x="guesses in a round", y="speed-up (times)")
