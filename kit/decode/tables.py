"""The chapter's tables. Notes are findings, computed from what is shown."""

from __future__ import annotations

from collections.abc import Mapping

from IPython.core.display import HTML

from kit import facts, plots
from kit.decode.decoder import Answer
from kit.decode.roofline import Near, Work, bound_by_memory, on_device
from kit.measure import Timing, machine, ratio
from kit.measure.limits import SHAPES
from kit.plots import spread

MODEL = "mistral-7b"
NEAR = 50  # percent of the reading speed: "bound by memory"
GREAT, FELT = 3, 2  # times faster: "greatly"; times sooner: "feels faster"


def near_table(near: Mapping[str, Near], kernels: Mapping[str, float]) -> HTML:
    """How near each file comes to what memory allows, and to what its arithmetic allows."""
    rows = []
    for name, v in near.items():
        rows.append(
            {
                "": name,
                "read for a token (MB)": round(v.bytes / 1e6, 1),
                "tokens/s": round(1 / v.work.seconds, 1),
                "memory would allow": round(v.limit),
                "of the reading speed": spread(v.percent, ".0f") + "%",
                "arithmetic would allow": round(kernels[name] * 1e9 / v.operations),
            }
        )
    note = (
        "tokens/s: median. Memory: reading as many bytes with as many threads, measured after each run. "
        "Arithmetic: the same kind of product over and over on a matrix that stays in the nearest cache."
    )
    return plots.table(rows, note=note)


def device_table(model: str = MODEL) -> HTML:
    """A model in 4 bits on every device of the facts."""
    shape = facts.llms()[model]
    rows, found = [], [on_device(d, shape.parameters) for d in facts.devices().values() if d.memory_gb]
    for d in found:
        rows.append(
            {
                "device": d.device,
                "fits": {None: None, True: "yes", False: "no"}[d.fits],
                "tokens/s by memory, at most": d.by_memory,
                "tokens/s by INT8 operations": d.by_tops,
                "part of the operations used": None if d.share_of_tops is None else f"{d.share_of_tops:.1%}",
            }
        )
    note = (
        f"{shape.model}: {found[0].gb:.1f} GB in 4 bits and a scale for every 32 weights. Nominal figures, "
        "one conversation, dense operations. A dash: the facts do not say. Devices "
        "whose memory is unknown are left out."
    )
    return plots.table(rows, note=note)


def boxes_table(near: Mapping[str, Near], prompts: Mapping[str, Work]) -> HTML:
    """How much of this machine's INT8 arithmetic anything uses."""
    rates = box_rates()
    best = max(rates.values())
    rows = [
        {"work": f"INT8 product, {' x '.join(map(str, SHAPES[shape]))}", "Gop/s": rate}
        for shape, rate in sorted(rates.items(), key=lambda item: -item[1])
        if shape != "decode"
    ]
    rows += [{"work": f"SmolLM2 {name}, reading a prompt", "Gop/s": w.gops} for name, w in prompts.items()]
    rows += [{"work": f"SmolLM2 {name}, writing", "Gop/s": v.work.gops} for name, v in near.items()]
    for row in rows:
        row["part of the best"] = f"{row['Gop/s'] / best:.1%}"
    return plots.table(
        rows, note="The best that this machine reached in INT8 stands for the number on a box."
    )


def int8_kv_table(
    puzzled: Mapping[str, float], mb: Mapping[str, float], steps: Mapping[str, Mapping[int, Timing]]
) -> HTML:
    """The cache in FP32 and in INT8: bytes, time of a token, and what the model loses."""
    rows = [
        {
            "KV cache": name,
            "MB for 2,048 tokens": round(mb[name], 1),
            **{f"a token after {n:,} (ms)": round(t.p50, 2) for n, t in steps[name].items()},
            "perplexity": round(puzzled[name], 2),
        }
        for name in puzzled
    ]
    return plots.table(rows, note="Perplexity on sentences that the scales were not measured on.")


def claims_table(
    *,
    near: Mapping[str, Near],
    prompts: Mapping[str, Work],
    reading: Mapping[int, Timing],
    step: Mapping[int, Timing],
    answer: Answer,
    kernels: Mapping[str, float],
) -> HTML:
    """Claims C14 to C18: what they say, what was measured, what follows."""
    best = max(box_rates().values())
    prompt = 100 * max(w.gops for w in prompts.values()) / best
    writing = 100 * max(v.work.gops for v in near.values()) / best
    bound = {n: v.percent[0] > NEAR and bound_by_memory(v, kernels[n]) for n, v in near.items()}
    longest = max(reading)
    faster = ratio(reading[longest], step[longest])
    shape = facts.llms()[MODEL]
    gb = shape.parameters * 4.5 / 8 / 1e9
    sooner = float(answer.at_ms[-1] / answer.ttft_ms)
    shares = ", ".join(f"{n} {v.percent[0]:.0f}%" for n, v in near.items())
    rows = {
        "C14": (
            f"reading a prompt uses {prompt:.0f}%, writing {writing:.1f}% of the best INT8 rate measured "
            "here; no nominal figure is known",
            _yes(prompt <= 60),
        ),
        "C15": (
            f"of the reading speed: {shares}",
            ", ".join(f"{n} {_yes(ok)}" for n, ok in bound.items()),
        ),
        "C16": (f"after {longest} tokens {spread(faster, '.0f')} times faster", _yes(faster[1] > GREAT)),
        "C17": (f"{shape.model}: {gb:.1f} GB of weights, calculated", _yes(gb > 2)),
        "C18": (
            f"first token after {answer.ttft_ms:.0f} ms, the last after {answer.at_ms[-1]:,.0f} ms: "
            f"{sooner:.0f} times sooner",
            _yes(sooner > FELT),
        ),
    }
    claims = facts.claims()
    shown = [
        {"": number, "claim": claims[number].claim, "what we found": text, "holds here": verdict}
        for number, (text, verdict) in rows.items()
    ]
    note = (
        f"Limits: C14 at most 60% while a prompt is read; C15 over {NEAR}% of the reading speed, and memory "
        f"allows less than arithmetic; C16 at least {GREAT} times, with its whole interval; C17 over 2 GB; "
        f"C18 over {FELT} times sooner. What people feel, we did not ask."
    )
    return plots.table(shown, note=note)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def box_rates() -> dict[str, float]:
    """This machine's INT8 arithmetic in 10^9 operations/s, as measured once, by shape of the product."""
    return {r["shape"]: r["gops"] for r in machine().matmul if r["type"] == "int8"}
