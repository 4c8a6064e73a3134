"""One sentence per result, computed from it, so that it is true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import Markdown

from kit.plots import number
from kit.start_here.ask import CLOUDS, Answer, total_ms


def read_race(runs: Mapping[str, Sequence[Answer]]) -> Markdown:
    """How many times slower the clouds were."""
    median = {name: float(np.median(total_ms(answers))) for name, answers in runs.items()}
    times = ", ".join(f"the {c} {number(median[c] / median['device'])} times" for c in CLOUDS)
    return Markdown(
        f"The same model gave the same answer everywhere. Compared with the device "
        f"({number(median['device'])} ms), {times} as long."
    )


def read_hundred(runs: Mapping[str, Sequence[Answer]], labels: Sequence[str]) -> Markdown:
    """Tail against median of the middle cloud, and how many commands were understood."""
    p50, p99 = np.percentile(total_ms(runs["middle cloud"]), [50, 99])
    right = np.mean([a.label == label for a, label in zip(runs["device"], labels, strict=True)])
    return Markdown(
        f"The middle cloud is fine *usually* ({number(p50)} ms), but one answer in a hundred takes "
        f"{number(p99 / p50)} times as long: people remember that one. And a fast answer is not yet a right "
        f"one: the model understood {right:.0%} of these commands, wherever it ran. Chapter 01 is about that."
    )
