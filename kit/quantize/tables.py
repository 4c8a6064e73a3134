"""The chapter's tables. Notes and verdicts are findings, computed from what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from IPython.core.display import HTML

from kit import facts, plots
from kit.measure import Timing, machine, ratio
from kit.plots import spread
from kit.quantize.exam import Mark
from kit.quantize.graphs import matrices

RUINED = 1.5  # times the perplexity of FP32
SLIGHT = 1.5  # points of accuracy
MOST = 0.7  # of the bytes, to count as 75%


def points(mark: Mark) -> str:
    """Points lost and their interval, one decimal."""
    return spread(mark.lost, ".1f")


def ms(timing: Timing) -> str:
    """Median and its interval in ms."""
    return spread((timing.p50, *timing.ci()), ".2f" if timing.p50 < 1 else ".1f")


def sixteen_bits(values: Sequence[float]) -> HTML:
    """What FP16 and BF16 keep of some numbers."""
    rows = []
    for v in values:
        with np.errstate(over="ignore"):
            half, brain = float(np.float16(v)), float(np.asarray(v, ml_dtypes.bfloat16))
        errors = [abs(x - v) / abs(v) for x in (half, brain)]
        rows.append(
            {
                "number": f"{v:g}",
                "in FP16": f"{half:.7g}",
                "FP16 is off by": {0: "too small", np.inf: "too large"}.get(abs(half), f"{errors[0]:.2%}"),
                "in BF16": f"{brain:.7g}",
                "BF16 is off by": f"{errors[1]:.2%}",
            }
        )
    lost = [r["number"] for r in rows if r["FP16 is off by"].startswith("too")]
    note = (
        "FP16: 1 bit of sign, 5 of exponent, 10 of fraction. BF16: 1, 8 and 7. FP16 is finer, but it has no "
        f"room for {' and '.join(lost)}; BF16 has the range of FP32."
    )
    return plots.table(rows, note=note)


def where_the_bytes_are(path: Path) -> HTML:
    """Largest constants of the edge model, and how much arithmetic a sentence needs of each."""
    model = onnx.load(path)
    found = matrices(model)
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    groups = {
        "tables of n-grams (rows are looked up)": [n for n in sizes if sizes[n] > 1000 and n not in found],
        "matrices (multiplied)": list(found),
    }
    total = sum(sizes.values())
    rows = [
        {
            "": what,
            "numbers": sum(sizes[n] for n in names),
            "part of the file": f"{sum(sizes[n] for n in names) / total:.1%}",
            "multiplications in matrix products": sum(sizes[n] for n in names if n in found),
        }
        for what, names in groups.items()
    ]
    note = (
        "For one sentence. The rows that are looked up are multiplied by their weights too, but that is no "
        "matrix product, and INT8 does not speed it up."
    )
    return plots.table(rows, note=note)


def edge_table(
    people: Mapping[str, Mark], templates: Mapping[str, Mark], times: Mapping[str, Timing]
) -> HTML:
    """The edge model in each format; the first one is what the others are held against."""
    first = next(iter(people))
    rows = [
        {
            "": name,
            "MB": mark.mb,
            "people (%)": f"{100 * mark.accuracy:.1f}",
            "points lost, people": points(mark) if name != first else "",
            "templates (%)": f"{100 * templates[name].accuracy:.1f}",
            "one sentence (ms)": ms(times[name]),
            "times faster": spread(ratio(times[first], times[name]), ".2f") if name != first else "",
        }
        for name, mark in people.items()
    ]
    return plots.table(rows, note="In brackets: 95% intervals. Below 1 in the last column is slower.")


def minilm_table(marks: Mapping[str, Mark], times: Mapping[str, Timing]) -> HTML:
    """MiniLM in each format: size, losses, and time where a file runs as it is."""
    rows = [
        {
            "": name,
            "MB": mark.mb,
            "right (%)": f"{100 * mark.accuracy:.1f}",
            "points lost": points(mark),
            "answers changed": round(mark.changed),
            "likeness": f"{mark.likeness:.4f}",
            "one sentence (ms)": ms(times[name]) if name in times else None,
        }
        for name, mark in marks.items()
    ]
    noisy = next((t.why for t in times.values() if t.noisy), "")
    note = "In brackets: 95% intervals; one that holds 0 means that no loss can be told from luck."
    return plots.table(rows, note=note + (f" The timing is doubtful: {noisy}." if noisy else ""))


def smollm2_table(
    mb: Mapping[str, float], memory: Mapping[str, float], times: Mapping[str, Timing],
    perplexities: Mapping[str, float], tokens: int,
) -> HTML:  # fmt: skip
    """SmolLM2 in each format.

    Args:
        mb: name -> size of the file in MB.
        memory: name -> MB that a process needs to open it.
        times: name -> time of ``tokens`` tokens; the first is what the others are held against.
        perplexities: name -> perplexity.
        tokens: made in one timed run.
    """
    first = next(iter(mb))
    rows = []
    for name, t in times.items():
        slow, fast = (1000 * tokens / t_ms for t_ms in reversed(t.ci()))
        rows.append(
            {
                "": name,
                "file (MB)": mb[name],
                "of FP32": f"{mb[name] / mb[first]:.1%}",
                "memory (MB)": memory[name],
                "tokens/s": spread((1000 * tokens / t.p50, slow, fast), ".1f"),
                "times faster": spread(ratio(times[first], t), ".2f") if name != first else "",
                "read (GB/s)": gb_per_s(mb[name], t, tokens),
                "perplexity": perplexities[name],
            }
        )
    noisy = next((t.why for t in times.values() if t.noisy), "")
    note = "In brackets: 95% intervals. Read: the file, once for each token."
    return plots.table(rows, note=note + (f" The timing is doubtful: {noisy}." if noisy else ""))


def gb_per_s(mb: float, time: Timing, tokens: int) -> float:
    """10⁹ bytes read a second, if a file of ``mb`` is read once for each of the ``tokens``."""
    return mb * tokens / time.p50  # MB per ms


def machine_table() -> HTML:
    """How fast this machine multiplies, by type, and whether it has instructions for small integers.

    A single token is left out: there reading is measured, and an INT8 matrix may fit the cache.
    """
    here = machine()
    names = {"prefill": "128 tokens at once", "square": "1024 × 1024"}
    speeds = {(row["shape"], row["type"]): row["gops"] for row in here.matmul}
    rows = [
        {
            "matrix product": text,
            "FP32 (10⁹ operations/s)": speeds[shape, "fp32"],
            "INT8 (10⁹ operations/s)": speeds[shape, "int8"],
            "INT8 is faster (times)": speeds[shape, "int8"] / speeds[shape, "fp32"],
        }
        for shape, text in names.items()
        if (shape, "fp32") in speeds
    ]
    small = [f for f in here.features if "vnni" in f or f in ("amx_int8", "asimddp", "i8mm")]
    note = (
        f"This processor has {' and '.join(small)}: one instruction multiplies and adds four pairs of "
        "8-bit numbers."
        if small
        else "This processor has no instructions for small integers (VNNI, dot product): 8-bit numbers are "
        "widened first, and little is won by them."
    )
    return plots.table(rows, note=note + " FP32 is multiplied by PyTorch, INT8 by ONNX Runtime.")


def remedies_table(marks: Mapping[str, Mapping[str, Mark]]) -> HTML:
    """What each remedy costs in bytes and brings: ``{"INT4": {"plain": mark, ...}, ...}``."""
    rows = [
        {
            "": f"{bits}, {name}",
            "MB": mark.mb,
            "answers changed": round(mark.changed),
            "points lost": points(mark),
        }
        for bits, kinds in marks.items()
        for name, mark in kinds.items()
    ]
    return plots.table(rows, note="Sizes are calculated. In brackets: 95% intervals.")


def _slight(lost: Mapping[str, Mark]) -> str:
    """Which losses are surely below ``SLIGHT`` points, which surely above, and of which it cannot be told."""
    good = [name for name, m in lost.items() if m.lost[2] < SLIGHT]
    bad = [name for name, m in lost.items() if m.lost[1] > SLIGHT]
    open_ = len(lost) - len(good) - len(bad)
    return (
        f"Holds for {'; '.join(good) or 'none'}"
        + (f". Not for {'; '.join(bad)}" if bad else "")
        + (f". For {open_} of {len(lost)} it cannot be told" if open_ else "")
    )


def claims_table(
    saved: Mapping[str, float],
    memory_saved: float,
    faster: Mapping[str, tuple[float, float, float]],
    lost: Mapping[str, Mark],
    ruined: float,
    int4: Mark,
    mended: Mark,
) -> HTML:
    """What people say, what was measured, and whether it held. All words follow from the numbers.

    Args:
        saved: model -> part of the file that INT8 saves, 0 to 1.
        memory_saved: part of SmolLM2's memory that INT8 saves.
        faster: model -> how many times faster INT8 is, with its interval.
        lost: INT8 variant -> mark.
        ruined: how many times as high SmolLM2's perplexity is in dynamic INT8.
        int4: MiniLM in plain INT4.
        mended: MiniLM in INT4 after GPTQ.
    """
    quarter = [m for m, part in saved.items() if part >= MOST]
    inside = [m for m, (times, _, _) in faster.items() if 2 <= times <= 4]
    slower = [m for m, (_, _, high) in faster.items() if high < 1]
    visible, undone = int4.lost[1] > 0, mended.lost[0] < int4.lost[0] / 2
    found = {
        "C07": (
            "; ".join(f"{m} {part:.0%}" for m, part in saved.items())
            + f" less on disk; SmolLM2 {memory_saved:.0%} less memory to open",
            f"Holds on disk for {len(quarter)} of {len(saved)}"
            + ("; in memory too" if memory_saved >= MOST else "; less in memory"),
        ),
        "C08": (
            "; ".join(f"{m} {spread(times, '.2f')}" for m, times in faster.items()) + " times as fast",
            f"Holds for {len(inside)} of {len(faster)}"
            + (f"; {' and '.join(slower)} got slower" if slower else ""),
        ),
        "C09": (
            "Points lost: "
            + "; ".join(f"{name} {round(m.lost[0], 1) + 0.0:.1f}" for name, m in lost.items())
            + f". SmolLM2 dynamic: perplexity times {ruined:.1f}",
            _slight(lost) + (". SmolLM2 dynamic is ruined" if ruined > RUINED else ""),
        ),
        "C10": (
            f"MiniLM lost {points(int4)} points; after GPTQ {points(mended)}",
            "Not tested on reasoning or code. On commands: "
            + (
                "a loss, and " + ("most of it undone" if undone else "it stayed")
                if visible
                else "no loss that can be told from luck"
            ),
        ),
    }
    rows = [
        {
            "": str(number),
            "claim": facts.claims()[id].claim,
            "measured here": measured,
            "verdict": verdict,
        }
        for number, (id, (measured, verdict)) in enumerate(found.items(), 1)
    ]
    note = (
        f"Counted as holding: claim 1 from {MOST:.0%} saved; 2 from 2 to 4 times; 3 if the whole 95% "
        f"interval of the points lost is below {SLIGHT}, and not if all of it is above (ruined: a "
        f"perplexity over {RUINED} times FP32's); 4 if the interval is above 0."
    )
    return plots.table(rows, note=note)
