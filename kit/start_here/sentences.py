"""One sentence per result, computed from it, so that it is true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import Markdown

from kit import facts
from kit.start_here.ask import CLOUDS, Answer, ms, total_ms


def read_race(runs: Mapping[str, Sequence[Answer]]) -> Markdown:
    """How many times slower the clouds were."""
    median = {name: float(np.median(total_ms(answers))) for name, answers in runs.items()}
    near, *others = (f"the {c}{{}} {median[c] / median['device']:,.0f} times" for c in CLOUDS)
    return Markdown(
        f"The device answered in {ms(median['device'])} ms. {near.format(' took').capitalize()} as long, "
        f"{', '.join(o.format('') for o in others)}. The model and its answer were the same everywhere."
    )


def read_hundred(runs: Mapping[str, Sequence[Answer]], labels: Sequence[str]) -> Markdown:
    """Tail against median of the middle cloud, and how many commands were understood."""
    p50, p99 = np.percentile(total_ms(runs["middle cloud"]), [50, 99])
    right = np.mean([a.label == label for a, label in zip(runs["device"], labels, strict=True)])
    return Markdown(
        f"In this simulation the middle cloud *usually* takes {ms(p50)} ms, but one answer in a hundred "
        f"takes {p99 / p50:.1f} times as long: people remember that one. {_measured_tails()} And a fast "
        f"answer is not yet a right one: the model understood {right:.0%} of these commands, wherever it "
        "ran. Chapter 01 is about that."
    )


def _measured_tails() -> str:
    """P99 against the median of the mobile links that somebody measured."""
    rows = [n for n in facts.networks().values() if n.kind.startswith("5G") and not n.is_assumption]
    times = [n.rtt_p99_ms / n.rtt_p50_ms for n in rows if n.rtt_p99_ms and n.rtt_p50_ms]
    return (
        f"Our 4G figures are an assumption. In {len(times)} measured 5G runs the factor was from "
        f"{min(times):.1f} to {max(times):.0f}."
    )
