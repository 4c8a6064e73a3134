"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from IPython.core.display import Markdown

from kit.measure import Timing, ratio
from kit.plots import number, spread
from kit.quantize.exam import Mark
from kit.quantize.figures import half_step
from kit.quantize.tables import gb_per_s
from kit.quantize.workbench import short


def read_five(w: np.ndarray, back: np.ndarray, scale: float) -> Markdown:
    """Which of a few weights lost most."""
    error = np.abs(back - w)
    worst = int(error.argmax())
    return Markdown(
        f"No weight is off by more than half a step ({scale / 2:.4f}). The weight {w[worst]:g} lost the "
        f"most, {error[worst]:.4f}: it lies farthest from a step. And 0 is still exactly {back[w == 0][0]:g}."
    )


def read_edge(times: Mapping[str, Timing], name: str = "INT8 dynamic") -> Markdown:
    """Is the small file faster?"""
    slower, low, high = ratio(times[name], times["FP32"])
    value = spread((slower, low, high), ".2f")
    if low > 1:
        return Markdown(f"{name} is **slower**: a sentence takes {value} times as long.")
    if high < 1:
        return Markdown(f"{name} is faster on this machine: a sentence takes {value} times as long.")
    return Markdown(f"No difference in speed can be told: {name} takes {value} times as long as FP32.")


def _apart(a: Mark, b: Mark) -> bool:
    """Do the intervals of the points that two variants lost lie apart?"""
    return a.lost[2] < b.lost[1] or b.lost[2] < a.lost[1]


def read_eight(marks: Mapping[str, Mark]) -> Markdown:
    """Dynamic against static, and one scale against many."""
    dynamic, coarse, fine, only = (
        marks[n]
        for n in ("INT8 dynamic", "INT8 static, per tensor", "INT8 static, per channel", "INT8 blocks")
    )
    told = "can be told apart" if _apart(coarse, fine) else "cannot be told apart: their intervals overlap"
    return Markdown(
        "Dynamic and static per channel round the matrices alike: one scale for each output. What differs is "
        "the numbers that flow through: dynamic makes a scale for each input anew at each call; static has "
        "fixed ones, for what comes out and inside attention too. Dynamic changed "
        f"{dynamic.changed:.0f} answers and static {fine.changed:.0f}. Static per tensor "
        f"({coarse.changed:.0f}) and per channel ({fine.changed:.0f}) {told}. In blocks the fewest numbers "
        f"share a scale: they changed {only.changed:.0f} answers."
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
    """Which remedy helped more in INT4, what it cost, and whether INT3 can be told from INT4."""
    plain, spared, gptq, both = (marks["INT4"][n] for n in ("plain", "worst in 8 bits", "GPTQ", "both"))
    tie = abs(spared.changed - gptq.changed) < 2 * (spared.changed + gptq.changed) ** 0.5  # two counts
    order = "about as much as" if tie else "more than" if spared.changed < gptq.changed else "less than"
    together = both.changed < min(spared.changed, gptq.changed)
    text = (
        f"In INT4, 8 bits for the worst eight help {order} GPTQ, but cost {number(spared.mb - plain.mb)} MB "
        "more; GPTQ costs no bytes. Together they "
        f"{'help most' if together else 'help no more than one alone'}."
    )
    finer, coarser = marks["INT4"]["GPTQ"], marks["INT3"]["GPTQ"]
    if not _apart(finer, coarser):
        text += " INT3 and INT4 after GPTQ cannot be told apart in points lost: their intervals overlap."
    if any(m.lost[0] < 0 for kinds in marks.values() for m in kinds.values()):
        text += " A loss below 0 is luck, not a gain."
    return Markdown(text)


def read_smollm2(
    mb: Mapping[str, float], memory: Mapping[str, float], times: Mapping[str, Timing], tokens: int
) -> Markdown:
    """Bytes saved against speed won, and against what this machine can read.

    Args:
        mb: name -> size of the file in MB.
        memory: name -> MB that a process needs to open it.
        times: name -> time of ``tokens`` tokens.
        tokens: made in one timed run.
    """
    faster = {n: spread(ratio(times["FP32"], times[n]), ".2f") for n in ("INT8", "INT4")}
    saved = {n: 1 - memory[n] / memory["FP32"] for n in faster}
    read = {n: gb_per_s(mb[n], t, tokens) for n, t in times.items()}
    text = (
        f"INT8 takes {mb['INT8'] / mb['FP32']:.1%} of the bytes and is {faster['INT8']} times as fast; INT4 "
        f"takes {mb['INT4'] / mb['FP32']:.1%} and is {faster['INT4']} times as fast. A process that opens "
        f"them needs {saved['INT8']:.0%} and {saved['INT4']:.0%} less memory than with FP32. FP32 reads "
        f"{read['FP32']:.0f} GB in a second, INT4 {read['INT4']:.0f}. "
    )
    if read["INT4"] < 0.8 * read["FP32"]:
        text += (
            "So with INT4 reading is no longer all of the wait: unpacking, and the rest of the model, take "
            "time too."
        )
    else:
        text += "So reading is the wait with INT4, too."
    return Markdown(text)


def read_outliers(inputs: np.ndarray) -> Markdown:
    """The largest inputs of one matrix, and what one scale for all leaves of the rest.

    Args:
        inputs: what the matrix is multiplied with, [tokens, inputs].
    """
    peaks = np.abs(inputs).max(0)
    down = np.argsort(peaks)[::-1]
    top = peaks[down]
    few = int(np.argmax(top[:-1] / top[1:] * (np.arange(len(top) - 1) < 8))) + 1  # up to the widest gap
    half = half_step(inputs)
    first = (np.abs(inputs).argmax(0)[down[:few]] == 0).all()
    return Markdown(
        f"The largest {few} of the {len(top):,} inputs are at least {top[few - 1] / top[few]:.0f} times as "
        f"large as all others{', and all of them at the first token' if first else ''}: **outliers**. One "
        f"scale must reach {top[0]:,.0f}, so half a step is {half:.1f}, and every input below that becomes 0."
    )


def read_trap(exact: float, blocks: float, dynamic: float) -> Markdown:
    """Perplexity when all inputs of a call share one scale."""
    return Markdown(
        f"With scales for blocks the perplexity is {blocks:.0f}; FP32's is {exact:.0f}. With one scale for "
        f"all inputs of a call it is **{dynamic:.0f}**, {dynamic / exact:.1f} times as high as FP32's."
    )
