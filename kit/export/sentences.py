"""What a measurement says in words, true whichever way it goes."""

from __future__ import annotations

from IPython.core.display import Markdown

FUSED = ("slower", "no difference that we can see", "up to 2 times faster", "over 2 times faster")
"""The choices of the chapter's question about fusing."""


def fused(gain: tuple[float, float, float]) -> str:
    """Which of ``FUSED`` it was.

    Args:
        gain: how many times as fast the fused graph is, with its interval, as ``measure.ratio`` gives it.
    """
    times, low, high = gain
    if low <= 1 <= high:
        return FUSED[1]
    return FUSED[0 if high < 1 else 2 if times < 2 else 3]


def read_fusing(gain: tuple[float, float, float]) -> Markdown:
    """Is the fused graph faster? ``gain`` as for ``fused``."""
    times, low, high = gain
    work = "The matrix products are still there, and they are most of the work"
    if low <= 1 <= high:
        return Markdown(f"No gain can be seen here: the interval holds 1. {work}.")
    if high < 1:
        return Markdown(f"Here the rewritten graph is **slower**, {times:.2f} times as fast: measure first.")
    return Markdown(f"Fusing made it {times:.2f} times as fast. {work}, so do not expect much more.")
