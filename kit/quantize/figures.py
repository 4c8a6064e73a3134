"""The chapter's figures. Titles are findings, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import plotly.graph_objects as go

from kit import artifacts, plots
from kit.measure import Timing, accuracy, ratio
from kit.plots import Value, number
from kit.plots.style import log_axis
from kit.quantize.by_hand import affine_int8, relative_error, rounded, sqnr_db
from kit.quantize.exam import Mark
from kit.quantize.graphs import matrices
from kit.quantize.workbench import short

SCALES = ("per tensor", "per channel", "blocks")
LIMIT, FP32 = plots.COLOURS["limit"], plots.COLOURS["fp32"]
LAYER_TINTS = ("#C6DBEF", "#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#084594")  # first to last


def number_line(w: np.ndarray, bits: int) -> go.Figure:
    """Weights above, the values that ``bits`` bits can hold below, and where each weight goes."""
    scale = float(w.max() - w.min()) / (2**bits - 1)
    zero = round(-float(w.min()) / scale)
    back = (np.clip(np.round(w / scale) + zero, 0, 2**bits - 1) - zero) * scale
    steps = (np.arange(2**bits) - zero) * scale
    worst = int(np.abs(back - w).argmax())
    fig = go.Figure()
    fig.add_scatter(
        x=steps, y=np.zeros(2**bits), mode="markers", name="values that can be stored",
        marker={"symbol": "line-ns-open", "size": 22, "line_width": 2, "color": plots.COLOURS["neutral"]},
    )  # fmt: skip
    for a, b in zip(w, back, strict=True):
        fig.add_annotation(x=b, y=0.12, ax=a, ay=0.9, axref="x", ayref="y", arrowhead=2, arrowcolor=LIMIT)
    fig.add_scatter(
        x=w, y=np.ones(len(w)), mode="markers+text", name="weights", text=[f"{v:g}" for v in w],
        textposition="top center", marker={"size": 11, "color": FP32}, cliponaxis=False,
    )  # fmt: skip
    fig.update_layout(height=260)
    fig.update_yaxes(visible=False, range=[-0.3, 1.5])
    title = (
        f"{bits} bits leave {2**bits} values: {w[worst]:g} becomes {back[worst]:.3f}, "
        f"the worst of the five (a step is {scale:.3f})"
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
            x=kinds, y=[names[f"layer {layer} {k}"] for k in kinds], name=f"layer {layer}", marker_color=tint
        )
    fig.update_layout(barmode="group", bargap=0.2)
    order = sorted(names, key=lambda n: names[n], reverse=True)
    share = sum(names[n] for n in order[:8]) / sum(names.values())
    title = (
        f"{order[0].capitalize()} minds most; eight of the {len(names)} matrices do {share:.0%} of the damage"
    )
    return plots.style(fig, title, x="matrix", y="embeddings moved (1/1000)")


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
    return plots.bars(moved, title=title, unit="embeddings moved (1/1000)", horizontal=True)


def outliers(inputs: Mapping[str, np.ndarray]) -> go.Figure:
    """Largest input of each channel, from the largest down, and half a step of one common scale.

    Args:
        inputs: name -> what one matrix is multiplied with, [samples, channels]; two of them.
    """
    fig, kept = go.Figure(), {}
    peaks = {name: np.sort(np.abs(x).max(0))[::-1] for name, x in inputs.items()}
    for (name, x), tint, side in zip(inputs.items(), (LIMIT, FP32), ("right", "left"), strict=True):
        count = len(peaks[name])
        half = float(max(x.max(), 0) - min(x.min(), 0)) / 255 / 2  # as DynamicQuantizeLinear does
        kept[name] = f"{(peaks[name] > half).sum():,} of {count:,}"
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
    title = "With one scale for all inputs, " + "; ".join(f"{n} keeps {k} channels" for n, k in kept.items())
    return plots.style(fig, title, x="channel, from the largest input down", y="largest input of the channel")


def _changed(mark: Mark) -> Value:
    """Answers changed with a 95% interval (Wilson)."""
    part, low, high = accuracy(np.arange(mark.sentences) < round(mark.changed))
    return tuple(v * mark.sentences / 100 for v in (part, low, high))  # type: ignore[return-value]


def minilm_front(marks: Mapping[str, Mark], most_mb: float = 30) -> go.Figure:
    """Size against answers changed, for what is smaller than ``most_mb``."""
    shown = {name: m for name, m in marks.items() if m.mb < most_mb}
    best = plots.front({n: (m.mb, m.changed) for n, m in shown.items()}, ("low", "low"))
    title = f"MiniLM: worth choosing are {', '.join(best)} (FP32 has {marks['FP32'].mb:.0f} MB)"
    sentences = next(iter(marks.values())).sentences
    return plots.pareto(
        {name: (m.mb, _changed(m)) for name, m in shown.items()},
        title=title, x="size of the file (MB)", y=f"answers changed, of {sentences}", better=("low", "low"),
    )  # fmt: skip


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
    """(KB, SQNR in dB) of one matrix of MiniLM for 2 to 8 bits."""
    w = _matrix(matrix)
    found = (rounded(w, bits, scales, block) for bits in range(2, 9))
    return tuple(((q.nbytes - 2 * q.scale.size) / 1000, sqnr_db(w, q.dequantize())) for q in found)


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
    kb, db = series[scales][:, bits - 2]
    title = (
        f"{matrix.capitalize()}, {bits} bits, {names[scales]}: {kb:,.0f} KB, "
        f"{_matrix(matrix).nbytes / 1000 / kb:.1f} times smaller, {100 * 10 ** (-db / 20):.1f}% error"
    )
    fig = plots.lines(
        {names[n]: (xs, ys) for n, (xs, ys) in series.items()},
        title=title, x="size of the matrix (KB)", y="signal to error (dB)",
    )  # fmt: skip
    fig.add_scatter(
        x=[kb], y=[db], mode="markers", name="your choice",
        marker={"size": 20, "symbol": "circle-open", "color": plots.COLOURS["neutral"], "line_width": 3},
    )  # fmt: skip
    return plots.style(fig, title)
