"""Sentences about a living gateway, each true of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from IPython.core.display import HTML, Markdown

from kit import plots
from kit.plots import number
from kit.route.against import BARS, Compared
from kit.route.trials import Evening


def answers_table(rows: Sequence[dict[str, Any]]) -> HTML:
    """What was said, what was answered, by whom, and why."""
    return plots.table(
        [
            {
                "said": r["said"],
                "answer": r["answer"],
                "by": r["by"],
                "why": r["why"],
                "time (ms)": r["ms"],
            }
            for r in rows
        ]
    )


def read_evening(seen: Evening) -> Markdown:
    """Who answered before, during and after the cut."""
    parts = {
        "Before": seen.between(0, seen.cut_s),
        "while the line was cut": seen.between(seen.cut_s, seen.mended_s),
        "after it was mended": seen.between(seen.mended_s, np.inf),
    }
    said = []
    for name, rows in parts.items():
        far = int((rows["tier"] == "cloud").sum())
        lost = int((rows["outcome"] != "answered").sum())
        said.append(f"{name}, the cloud answered {far} of {len(rows)} requests and {lost} were lost")
    during = parts["while the line was cut"]
    slowest = float(np.nanmax(during["e2e_ms"])) if len(during) else float("nan")
    back = seen.seen.where((seen.seen["tier"] == "cloud") & (seen.seen["scheduled_s"] > seen.mended_s))
    text = "; ".join(said) + f". The slowest answer during the cut took {number(slowest)} ms. "
    if len(back):
        after_s = float(back["scheduled_s"].min()) - seen.mended_s
        text += f"The cloud was used again {number(after_s)} s after the line was back. "
    return Markdown(
        text + "What the edge answered meanwhile was its own best guess, also where it was not sure: "
        "service continues, with a little less quality."
    )


def later_table(steps: Sequence[dict[str, Any]]) -> HTML:
    """An offline queue, step by step."""
    return plots.table(
        [
            {"line": s["line"], "request": s["asked"], "HTTP": str(s["status"]), "answer": s["said"]}
            for s in steps
        ]
    )


def against_table(runs: Sequence[Compared]) -> HTML:
    """Measured and simulated percentiles, and how far they are apart."""
    rows = []
    for run in runs:
        row: dict[str, Any] = {"policy": run.policy, "requests/s": run.requests_per_s, "requests": run.asked}
        real, said = run.percentiles()
        for (level, off), m, p in zip(run.errors().items(), real, said, strict=True):
            row |= {
                f"P{level} measured (ms)": m,
                "simulated " + f"P{level}": p,
                f"off {level} (%)": 100 * off,
            }
        rows.append(row)
    return plots.table(rows)


def read_against(runs: Sequence[Compared]) -> Markdown:
    """How many predictions keep the limits, and which does not."""
    kept = [(run, level, off) for run in runs for level, off in run.errors().items()]
    bad = [(run, level, off) for run, level, off in kept if abs(off) > BARS[level]]
    text = (
        f"{len(kept) - len(bad)} of {len(kept)} percentiles are within the limits that were set before "
        "(P50 and P95 10%, P99 20%). "
    )
    if bad:
        run, level, off = max(bad, key=lambda one: abs(one[2]))
        text += (
            f"The worst is P{level} of {run.policy} at {run.requests_per_s:g} requests/s, {off:+.0%}. "
            "Other programs on this machine show in the measured times, and in no simulation."
        )
    return Markdown(text)
