"""What the results of chapter 05 look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from kit import facts, plots
from kit.decode.decoder import Answer
from kit.decode.engines import Speed
from kit.decode.memory import kv_bytes
from kit.decode.roofline import Near, Work, on_device
from kit.decode.sampling import Sampling, probabilities
from kit.decode.speeds import timing
from kit.engine import tokenizer
from kit.measure import Timing, ratio
from kit.plots import number, spread


def word_bars(logits: np.ndarray, temperatures: Sequence[float] = (0.5, 1, 2), most: int = 5) -> go.Figure:
    """The likeliest next tokens at several temperatures."""
    best = np.argsort(-logits, kind="stable")[:most]
    names = [repr(tokenizer().decode([int(i)])) for i in best]
    shown, tail = {}, {}
    for t in temperatures:
        p = probabilities(logits, Sampling(temperature=t))
        shown[f"temperature {t:g}"] = {
            n: round(100 * float(p[i]), 1) for n, i in zip(names, best, strict=True)
        }
        tail[t] = 100 * (1 - float(p[best].sum()))
    coldest, hottest = min(temperatures), max(temperatures)
    title = (
        f"The other {len(logits) - most:,} tokens share {tail[coldest]:.0f}% at temperature {coldest:g}, and "
        f"{tail[hottest]:.0f}% at temperature {hottest:g}"
    )
    return plots.bars(shown, title=title, unit="probability (%)")


def chances(temperature: float, top_k: int, top_p: float, logits: np.ndarray) -> go.Figure:
    """The likeliest next tokens under settings. For ``lesson.whatif``, with ``logits`` filled in."""
    p = probabilities(logits, Sampling(temperature=temperature, top_k=int(top_k), top_p=top_p))
    best = np.argsort(-logits, kind="stable")[:10]
    bars = {repr(tokenizer().decode([int(i)])): round(100 * float(p[i]), 1) for i in best}
    left = int((p > 0).sum())
    title = f"{left:,} tokens can be drawn; the likeliest with {100 * p.max():.0f}%"
    return plots.bars(bars, title=title, unit="probability (%)")


def shown_while_waiting(answer: Answer) -> go.Figure:
    """How much text stands on the screen, with streaming and without."""
    seconds = answer.at_ms / 1000
    tokens = np.arange(1, len(seconds) + 1)
    end = float(seconds[-1])
    fig = go.Figure()
    series = {
        "streamed": ([0, *seconds], [0, *tokens], "edge"),
        "all at once": ([0, end, end], [0, 0, len(tokens)], "cloud"),
    }
    for name, (x, y, tint) in series.items():
        line = {"color": plots.COLOURS[tint], "width": 2.5, "shape": "hv"}
        fig.add_scatter(x=x, y=y, name=name, mode="lines", line=line)
    title = f"The first token is there after {answer.ttft_ms:.0f} ms, the last after {1000 * end:,.0f} ms"
    return plots.style(fig, title, x="time since the question (s)", y="tokens on the screen")


def growth(reading: Mapping[int, Timing], step: Mapping[int, Timing]) -> go.Figure:
    """Time of the next token as the text grows: reading it all again, or one step with a cache."""

    def line(times: Mapping[int, Timing]) -> tuple[list[int], list[float], list[float], list[float]]:
        low, high = zip(*(t.ci() for t in times.values()), strict=True)
        return list(times), [t.p50 for t in times.values()], list(low), list(high)

    longest = max(reading)
    again, cached = reading[longest].p50, step[longest].p50
    title = (
        f"After {longest} tokens the next one takes {again:.0f} ms without a cache, {cached:.1f} ms with it"
    )
    return plots.lines(
        {"reading all again": line(reading), "with a KV cache": line(step)},
        title=title, x="tokens in the text so far", y="time of the next token (ms)", log_y=True,
    )  # fmt: skip


def operators(spent: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Where the time of a token goes, for each file."""
    last = {name: parts["last layer"] / sum(parts.values()) for name, parts in spent.items()}
    matrices = {
        name: (parts["matrices of the layers"] + parts["last layer"]) / sum(parts.values())
        for name, parts in spent.items()
    }
    title = "Matrices take " + ", ".join(f"{100 * part:.0f}% ({name})" for name, part in matrices.items())
    title += f" of a token; the last layer alone {' and '.join(f'{100 * p:.0f}%' for p in last.values())}"
    rounded = {n: {kind: round(ms, 2) for kind, ms in parts.items()} for n, parts in spent.items()}
    return plots.bars(rounded, title=title, unit="time of a token (ms, while profiled)", horizontal=True)


def roof(near: Mapping[str, Near], prompts: Mapping[str, Work], kernels: Mapping[str, float]) -> go.Figure:
    """This machine's roofline with decoding and reading a prompt on it.

    Args:
        near: name -> decoding, measured.
        prompts: name -> reading a prompt, measured.
        kernels: name of the arithmetic -> 10^9 operations/s.
    """
    points = {f"{n}, a token": (v.work.intensity, v.work.gops) for n, v in near.items()}
    points |= {f"{n}, a prompt": (w.intensity, w.gops) for n, w in prompts.items()}
    slopes = {f"{v.bytes / 1e6:.0f} MB": float(np.median(v.roof_gb_s)) for v in near.values()}
    title = "A token is on the slope of memory or under it; a prompt does many times the work per byte"
    return plots.roofline(points, bandwidths_gb_s=slopes, peaks_gops=kernels, title=title)


def conversation_mb(weights: int, most: int = 4096) -> go.Figure:
    """The KV cache of SmolLM2 as a text grows, beside the bytes of its weights that a token reads."""
    shape = facts.llms()["smollm2-135m"]
    at = np.linspace(0, most, 33)

    def mb(width: float) -> np.ndarray:
        return np.array(
            [kv_bytes(int(n), shape.layers, shape.kv_heads, shape.head_size, width) for n in at]
        ) / 1e6  # fmt: skip

    crossing = int(weights / kv_bytes(1, shape.layers, shape.kv_heads, shape.head_size))
    title = f"From {crossing:,} tokens on, the FP32 cache is larger than the INT4 weights that a token reads"
    series = {
        "KV cache, FP32": (at, mb(4)),
        "KV cache, INT8": (at, mb(1)),
        "weights, INT4": (at, np.full(len(at), weights / 1e6)),
    }
    return plots.lines(series, title=title, x="tokens in the conversation", y="memory (MB)")


def llm_on_device(model: str, device: str, bits: float, context: int) -> go.Figure:
    """Memory and speed of a language model on a device. For ``lesson.whatif``.

    Args:
        model: id in ``datasets/llms.csv``.
        device: id in ``datasets/devices.csv``.
        bits: of a weight; scales take 0.5 more.
        context: tokens in the conversation, at most what the model was made for; its cache is in FP16.
    """
    shape, box = facts.llms()[model], facts.devices()[device]
    context = min(int(context), shape.context)
    found = on_device(box, shape.parameters, bits + 0.5)
    cache = kv_bytes(context, shape.layers, shape.kv_heads, shape.head_size, 2) / 1e9
    total = found.gb + cache
    parts = {"weights": round(found.gb, 2), f"KV cache, {context:,} tokens": round(cache, 2)}
    if box.memory_gb is not None:
        parts["memory of the device"] = box.memory_gb
    if box.bandwidth_gb_s is None:
        speed = "bandwidth unknown"
    else:
        speed = f"at most {number(box.bandwidth_gb_s / total)} tokens/s"
    room = "" if box.memory_gb is None else ", fits" if total <= 0.8 * box.memory_gb else ", does not fit"
    return plots.bars(
        parts, title=f"{shape.model} on {box.device}: {speed}{room}", unit="memory (GB)", horizontal=True
    )


def tricks(ways: Mapping[str, Near]) -> go.Figure:
    """Speed of one model under several ways to run it, measured in turn; the first is the start."""
    bars, times = {}, {name: timing(way.token_ms) for name, way in ways.items()}
    for name, t in times.items():
        fast, slow = (1000 / ms for ms in t.ci())
        bars[name] = (1000 / t.p50, slow, fast)
    first, *_, last = times
    gain = ratio(times[first], times[last])
    told = "" if gain[1] > 1 else ", which cannot be told from 1"
    title = f"All together: {spread(gain, '.2f')} times as fast{told}"
    return plots.bars(bars, title=title, unit="tokens per second", horizontal=True)


def engine_bars(speeds: Sequence[Speed]) -> go.Figure:
    """Tokens per second of each engine, with quartiles."""
    bars = {}
    for s in speeds:
        low, middle, high = np.percentile(s.tokens_per_s, [25, 50, 75])
        bars[s.engine if s.format in s.engine else f"{s.engine}, {s.format}"] = (middle, low, high)
    first, second, *_ = sorted(speeds, key=lambda s: -float(np.median(s.tokens_per_s)))
    _, low, _ = ratio(*(timing(1000 / np.array(s.tokens_per_s)) for s in (second, first)))
    verdict = f"{first.engine} is fastest" if low > 1 else f"{first.engine} and {second.engine} are level"
    title = f"One model, {len(bars)} ways to run it: {verdict}"
    return plots.bars(bars, title=title, unit="tokens per second (median and quartiles)", horizontal=True)
