"""The chapter's figures. Titles are findings, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise

import numpy as np
import onnx
import plotly.graph_objects as go

from kit import artifacts, plots
from kit.measure import Timing, accuracy, ratio
from kit.plots import Value, number
from kit.plots.style import SYMBOLS, log_axis
from kit.quantize.by_hand import affine_int8, relative_error, rounded
from kit.quantize.exam import Mark
from kit.quantize.graphs import matrices
from kit.quantize.workbench import short

SCALES = ("per tensor", "per channel", "blocks")
LIMIT, FP32 = plots.COLOURS["limit"], plots.COLOURS["fp32"]
TINTS = {  # by bits
    "INT8": plots.COLOURS["int8"],
    "INT4": plots.COLOURS["int4"],
    "INT3": plots.PALETTE[5],
}
MOVED = "1 - likeness, in thousandths"
LAYER_TINTS = ("#C6DBEF", "#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#084594")  # first to last


def number_line(w: np.ndarray, bits: int) -> go.Figure:
    """Weights above, the values that ``bits`` bits can hold below, and where each weight goes.

    Args:
        w: a few weights in rising order.
        bits: of a code.
    """
    scale = float(w.max() - w.min()) / (2**bits - 1)
    zero = round(-float(w.min()) / scale)
    back = (np.clip(np.round(w / scale) + zero, 0, 2**bits - 1) - zero) * scale
    steps = (np.arange(2**bits) - zero) * scale
    error = np.abs(back - w)
    worst = [f"{v:g}" for v in w[error > error.max() - 1e-9]]
    near = np.diff(w, prepend=-np.inf, append=np.inf) < 0.08 * (w.max() - w.min())  # labels would touch
    places = [f"top {'right' if left else 'left' if right else 'center'}" for left, right in pairwise(near)]
    fig = go.Figure()
    fig.add_scatter(
        x=steps, y=np.zeros(2**bits), mode="markers", name="values that can be stored",
        marker={"symbol": "line-ns-open", "size": 22, "line_width": 2, "color": plots.COLOURS["neutral"]},
    )  # fmt: skip
    for a, b in zip(w, back, strict=True):
        fig.add_annotation(x=b, y=0.12, ax=a, ay=0.9, axref="x", ayref="y", arrowhead=2, arrowcolor=LIMIT)
    fig.add_scatter(
        x=w, y=np.ones(len(w)), mode="markers+text", name="weights", text=[f"{v:g}" for v in w],
        textposition=places, marker={"size": 11, "color": FP32}, cliponaxis=False,
    )  # fmt: skip
    fig.update_layout(height=260)
    fig.update_yaxes(visible=False, range=[-0.3, 1.5])
    title = (
        f"{bits} bits leave {2**bits} values, {scale:.2f} apart: "
        f"{' and '.join(worst)} {'lose' if len(worst) > 1 else 'loses'} most, {error.max():.2f}"
    )
    return plots.style(fig, title, x="value of a weight")


def by_channel(w: np.ndarray) -> go.Figure:
    """Error of each output's weights, relative to their size, with one scale for all and one for each."""
    shown = {
        "one scale for all (per tensor)": affine_int8(w),
        "one scale each (per channel)": affine_int8(w, 1),
    }
    errors = {
        name: {
            f"output {i + 1}": 100 * relative_error(w[:, i], q.dequantize()[:, i]) for i in range(w.shape[1])
        }
        for name, q in shown.items()
    }
    small, fine = [next(iter(e.values())) for e in errors.values()]
    title = (
        f"One large output makes the others {number(small / fine)} times less exact, unless each has a scale"
    )
    return plots.bars(errors, title=title, unit="error, in % of the weights' size")


def bits_curve(marks: Mapping[tuple[str, int], Mark], exact: float) -> go.Figure:
    """Accuracy over bits, for each way of sharing scales.

    Args:
        marks: (scales, bits) -> mark.
        exact: accuracy in FP32, 0 to 1.
    """
    series = {}
    for scales in dict.fromkeys(s for s, _ in marks):
        bits = sorted(b for s, b in marks if s == scales)
        points = [marks[scales, b] for b in bits]
        middle = np.array([100 * m.accuracy for m in points])
        low, high = np.array([[100 * exact - m.lost[2], 100 * exact - m.lost[1]] for m in points]).T
        series[scales] = (bits, middle, low, high)
    every = sorted({b for _, b in marks})
    four = {s: 100 * marks[s, 4].accuracy for s in series}
    title = "At 4 bits: " + ", ".join(f"{s} {v:.0f}% right" for s, v in four.items()) + f"; FP32 {exact:.0%}"
    fig = plots.lines(series, title=title, x="bits of a weight", y="commands understood (%)")
    fig.add_scatter(
        x=[every[0], every[-1]], y=[100 * exact] * 2, mode="lines", name="FP32",
        line={"color": FP32, "dash": "dash", "width": 2},
    )  # fmt: skip
    fig.update_xaxes(tickvals=every)
    return plots.style(fig, title)


def layer_bars(drifts: Mapping[str, float]) -> go.Figure:
    """How far the embeddings move when one matrix alone is rounded: six matrices in six layers.

    Args:
        drifts: label -> 1 minus the likeness.
    """
    names = {short(label): 1000 * d for label, d in drifts.items()}
    kinds = list(dict.fromkeys(n.split(" ", 2)[2] for n in names))
    layers = list(dict.fromkeys(n.split(" ", 2)[1] for n in names))
    fig = go.Figure()
    for layer, tint in zip(layers, LAYER_TINTS, strict=True):
        fig.add_bar(
            x=[k.replace(" ", "<br>") for k in kinds],
            y=[names[f"layer {layer} {k}"] for k in kinds],
            name=f"layer {layer}",
            marker_color=tint,
        )
    fig.update_layout(barmode="group", bargap=0.2)
    order = sorted(names, key=lambda n: names[n], reverse=True)
    share = sum(names[n] for n in order[:8]) / sum(names.values())
    title = (
        f"{order[0].capitalize()} minds most; eight of the {len(names)} matrices do {share:.0%} of the damage"
    )
    return plots.style(fig, title, x="matrix", y=MOVED)


def by_hand_bars(errors: Mapping[str, float], label: str, bits: int) -> go.Figure:
    """Error of one matrix's output after each way of rounding, in %."""
    names = list(errors)
    less = {n: 1 - errors[n] / errors[names[0]] for n in names[1:]}
    title = f"{short(label).capitalize()} in {bits} bits: " + ", ".join(
        f"{n} errs {v:.0%} less" for n, v in less.items()
    )
    shown = {n: 100 * e for n, e in errors.items()}
    return plots.bars(shown, title=title, unit="error of the output (%)", horizontal=True)


def remedies(marks: Mapping[str, Mapping[str, Mark]]) -> go.Figure:
    """How far the embeddings moved with each remedy: ``{"INT4": {"plain": mark, ...}, ...}``."""
    moved = {bits: {n: 1000 * (1 - m.likeness) for n, m in kinds.items()} for bits, kinds in marks.items()}
    less = {bits: 1 - kinds["GPTQ"] / kinds["plain"] for bits, kinds in moved.items()}
    title = "GPTQ, without a byte more, moves the embeddings " + " and ".join(
        f"{part:.0%} less in {bits}" for bits, part in less.items()
    )
    return plots.bars(moved, title=title, unit=MOVED, horizontal=True)


def half_step(inputs: np.ndarray) -> float:
    """Half a step of one 8-bit scale for all ``inputs``, as ``DynamicQuantizeLinear`` has it."""
    return float(max(inputs.max(), 0) - min(inputs.min(), 0)) / 255 / 2


def outliers(inputs: Mapping[str, np.ndarray]) -> go.Figure:
    """Largest value of each input, from the largest down, and half a step of one common scale.

    Args:
        inputs: model -> what one of its matrices is multiplied with, [samples, inputs]; two of them.
    """
    fig, lost = go.Figure(), []
    peaks = {name: np.sort(np.abs(x).max(0))[::-1] for name, x in inputs.items()}
    for (name, x), tint, side in zip(inputs.items(), (LIMIT, FP32), ("right", "left"), strict=True):
        count, half = len(peaks[name]), half_step(x)
        gone = int((peaks[name] < half).sum())
        lost.append(f"{f'{gone:,}' if gone else 'none'} of {name}'s {count:,}")
        fig.add_scatter(
            x=np.arange(1, count + 1), y=peaks[name], mode="lines+markers", name=name, line_color=tint,
            marker_size=4,
        )  # fmt: skip
        fig.add_scatter(
            x=[1, count], y=[half, half], mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": tint, "dash": "dash", "width": 2},
        )  # fmt: skip
        fig.add_annotation(
            x=np.log10(count) if side == "right" else 0, y=np.log10(half), xanchor=side, yshift=11,
            text="half a step: what is below becomes 0", showarrow=False, font_color=tint,
        )  # fmt: skip
    everything = np.concatenate(list(peaks.values()))
    fig.update_xaxes(log_axis(1, max(len(p) for p in peaks.values())))
    fig.update_yaxes(log_axis(max(everything.min(), 1e-3), everything.max()))
    title = f"One scale rounds {lost[0]} inputs to 0, and {lost[1]}"
    return plots.style(fig, title, x="input, from the largest down", y="largest value of the input")


def _changed(mark: Mark) -> tuple[float, float, float]:
    """Answers changed with a 95% interval (Wilson)."""
    part, low, high = accuracy(np.arange(mark.sentences) < round(mark.changed))
    return tuple(v * mark.sentences / 100 for v in (part, low, high))  # type: ignore[return-value]


def minilm_front(marks: Mapping[str, Mark], most_mb: float = 30) -> go.Figure:
    """Size against answers changed, for what is smaller than ``most_mb``. Filled is the Pareto front.

    Args:
        marks: bits and remedy, such as ``"INT4 GPTQ"`` -> mark, with FP32 among them.
        most_mb: larger files are left out.
    """
    shown = {name: m for name, m in marks.items() if m.mb < most_mb}
    best = plots.front({n: (m.mb, m.changed) for n, m in shown.items()}, ("low", "low"))
    fig = go.Figure()
    fig.add_scatter(
        x=[shown[n].mb for n in best], y=[shown[n].changed for n in best], mode="lines", hoverinfo="skip",
        line={"color": plots.COLOURS["neutral"], "dash": "dot", "width": 2}, showlegend=False,
    )  # fmt: skip
    symbols = dict(zip(dict.fromkeys(n.split(" ", 1)[1] for n in shown), SYMBOLS, strict=False))
    for name, m in shown.items():
        bits, remedy = name.split(" ", 1)
        middle, low, high = _changed(m)
        symbol = symbols[remedy] + ("" if name in best else "-open")
        edge = {"width": 2, "color": TINTS[bits]}
        fig.add_scatter(
            x=[m.mb], y=[m.changed], name=name, mode="markers", showlegend=False,
            error_y={"array": [high - middle], "arrayminus": [middle - low], "thickness": 1.2},
            marker={"symbol": symbol, "size": 12, "color": TINTS[bits], "line": edge},
            hovertemplate=f"<b>{name}</b><br>%{{x:.1f}} MB<br>%{{y:.0f}} answers changed<extra></extra>",
        )  # fmt: skip
    keys = [(bits, "square", tint) for bits, tint in TINTS.items()]
    keys += [(remedy, symbol, plots.COLOURS["neutral"]) for remedy, symbol in symbols.items()]
    for name, symbol, tint in keys:
        marker = {"symbol": symbol, "size": 11, "color": tint}
        fig.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)
    fig.update_layout(height=450)
    title = f"MiniLM: worth choosing are {', '.join(best)} (FP32 has {marks['FP32'].mb:.0f} MB)"
    sentences = next(iter(marks.values())).sentences
    return plots.style(fig, title, x="size of the file (MB)", y=f"answers changed, of {sentences}")


def smollm2_front(mb: Mapping[str, float], times: Mapping[str, Timing], tokens: int) -> go.Figure:
    """Size against speed."""
    speed: dict[str, Value] = {}
    for name, t in times.items():
        fast, slow = (1000 * tokens / ms for ms in t.ci())
        speed[name] = (1000 * tokens / t.p50, slow, fast)
    first, second, *_ = sorted(times, key=lambda n: times[n].p50)
    _, low, _ = ratio(times[second], times[first])
    verdict = f"{first} writes fastest" if low > 1 else f"{first} and {second} cannot be told apart in speed"
    title = f"SmolLM2, size against speed: {verdict}"
    return plots.pareto(
        {n: (mb[n], speed[n]) for n in mb}, title=title, x="size of the file (MB)", y="tokens per second",
        better=("low", "high"),
    )  # fmt: skip


@cache
def _matrix(name: str) -> np.ndarray:
    """A matrix of MiniLM by its short name."""
    model = onnx.load(artifacts.get("minilm.onnx"))
    constant = next(n for n, label in matrices(model).items() if short(label) == name)
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == constant))


@cache
def _curve(matrix: str, scales: str, block: int) -> tuple[tuple[float, float], ...]:
    """(KB, error in % of the weights' size) of one matrix of MiniLM for 2 to 8 bits."""
    w = _matrix(matrix)
    found = (rounded(w, bits, scales, block) for bits in range(2, 9))
    return tuple(
        ((q.nbytes - 2 * q.scale.size) / 1000, 100 * relative_error(w, q.dequantize())) for q in found
    )


def bits_and_blocks(bits: int, scales: str, block: int, matrix: str) -> go.Figure:
    """One matrix of MiniLM, rounded as the reader likes. For ``lesson.whatif``.

    Args:
        bits: 2 to 8.
        scales: how scales are shared, as in ``rounded``.
        block: weights that share a scale, for ``"blocks"``.
        matrix: as ``short`` calls it, such as ``"layer 0 output"``.
    """
    names = {name: f"blocks of {block}" if name == "blocks" else name for name in SCALES}
    series = {name: np.array(_curve(matrix, name, block)).T for name in SCALES}
    kb, error = series[scales][:, bits - 2]
    title = (
        f"{matrix.capitalize()}, {bits} bits, {names[scales]}: {kb:,.0f} KB, "
        f"{_matrix(matrix).nbytes / 1000 / kb:.1f} times smaller, {error:.1f}% error"
    )
    fig = plots.lines(
        {names[n]: (xs, ys) for n, (xs, ys) in series.items()}, log_y=True,
        title=title, x="size of the matrix (KB)", y="error (% of the weights' size)",
    )  # fmt: skip
    fig.add_scatter(
        x=[kb], y=[error], mode="markers", name="your choice",
        marker={"size": 20, "symbol": "circle-open", "color": plots.COLOURS["neutral"], "line_width": 3},
    )  # fmt: skip
    return plots.style(fig, title)
