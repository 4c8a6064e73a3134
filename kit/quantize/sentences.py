"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from IPython.core.display import Markdown

from kit.measure import Timing, ratio
from kit.plots import number
from kit.quantize.exam import Mark
from kit.quantize.tables import points, spread
from kit.quantize.workbench import short


def read_five(w: np.ndarray, back: np.ndarray, scale: float) -> Markdown:
    """Which of a few weights lost most."""
    error = np.abs(back - w)
    worst = int(error.argmax())
    return Markdown(
        f"No weight is off by more than half a step ({scale / 2:.4f}). The weight {w[worst]:g} lost the "
        f"most, {error[worst]:.4f}: it lies farthest from a step. And 0 is still exactly {back[w == 0][0]:g}."
    )


def read_edge(times: Mapping[str, Timing], name: str = "INT8") -> Markdown:
    """Is the small file faster?"""
    slower, low, high = ratio(times[name], times["FP32"])
    value = spread((slower, low, high), ".2f")
    if low > 1:
        return Markdown(
            f"{name} is **slower**: a sentence takes {value} times as long. Nothing large is multiplied "
            "here, and turning codes back into floats is extra work for every sentence. On this model you "
            "choose INT8 for its bytes, or not at all."
        )
    if high < 1:
        return Markdown(f"{name} is faster on this machine: a sentence takes {value} times as long.")
    return Markdown(f"No difference in speed can be told: {name} takes {value} times as long as FP32.")


def read_eight(marks: Mapping[str, Mark]) -> Markdown:
    """Dynamic against static, and one scale against many."""
    dynamic, coarse, fine, only = (
        marks[n]
        for n in ("INT8 dynamic", "INT8 static, per tensor", "INT8 static, per channel", "INT8 blocks")
    )
    cost = [round(m.lost[0], 1) for m in (dynamic, coarse, fine, only)]
    return Markdown(
        f"The same 8 bits cost from {min(cost) + 0.0:.1f} to {max(cost):.1f} points: what counts is "
        "how many weights and inputs share a scale. Static with one scale per matrix changed "
        f"{coarse.changed:.0f} answers, with one per channel {fine.changed:.0f}; dynamic, which looks at "
        f"each input first, {dynamic.changed:.0f}; and blocks, where few share a scale, {only.changed:.0f}."
    )


def read_bits(marks: Mapping[tuple[str, int], Mark], weights: Mapping[str, np.ndarray]) -> Markdown:
    """Where each way of sharing scales breaks down, and the largest weight of all."""
    floor = []
    for scales in dict.fromkeys(s for s, _ in marks):
        fine = [b for s, b in marks if s == scales and marks[s, b].lost[0] < 5]
        floor.append(f"{scales} at {min(fine)} bits" if fine else f"{scales} at none of these")
    size = {label: float(np.abs(w).max() / w.std()) for label, w in weights.items()}
    worst = max(size, key=lambda label: size[label])
    return Markdown(
        f"Fewest bits that lose less than 5 points: {', '.join(floor)}. Why so different? One weight in "
        f"*{short(worst)}* is {size[worst]:.0f} times as large as is usual there, and whoever shares a scale "
        "with it is rounded to nearly nothing."
    )


def read_remedies(marks: Mapping[str, Mapping[str, Mark]]) -> Markdown:
    """What each remedy costs in bytes and brings in answers."""
    texts = []
    for bits, kinds in marks.items():
        plain, gptq, both = kinds["plain"], kinds["GPTQ"], kinds["both"]
        texts.append(
            f"**{bits}** changed {plain.changed:.0f} answers and lost {points(plain)} points; with GPTQ it "
            f"changes {gptq.changed:.0f} and loses {points(gptq)}; with both {both.changed:.0f} and "
            f"{points(both)}, for {number(both.mb - plain.mb)} MB more."
        )
    return Markdown(" ".join(texts) + " In brackets: 95% intervals.")


def read_smollm2(
    mb: Mapping[str, float], memory: Mapping[str, float], times: Mapping[str, Timing]
) -> Markdown:
    """Bytes saved against speed won."""
    faster = {n: spread(ratio(times["FP32"], times[n]), ".2f") for n in ("INT8", "INT4")}
    saved = {n: 1 - memory[n] / memory["FP32"] for n in faster}
    return Markdown(
        f"INT8 takes {mb['INT8'] / mb['FP32']:.1%} of the bytes and is {faster['INT8']} times as fast; INT4 "
        f"takes {mb['INT4'] / mb['FP32']:.1%} and is {faster['INT4']} times as fast. A process that opens "
        f"them needs {saved['INT8']:.0%} and {saved['INT4']:.0%} less memory than with FP32."
    )


def read_trap(exact: float, blocks: float, dynamic: float) -> Markdown:
    """Perplexity when all inputs of a call share one scale."""
    return Markdown(
        f"With scales for blocks the perplexity is {blocks:.0f}; FP32's is {exact:.0f}. With one scale for "
        f"all inputs of a call it is **{dynamic:.0f}**, {dynamic / exact:.1f} times as high as FP32's."
    )
