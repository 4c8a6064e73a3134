"""How often was it right, how sure is that, and did its confidence say so?"""

from __future__ import annotations

import numpy as np


def accuracy(hits: np.ndarray) -> tuple[float, float, float]:
    """Share of hits in percent with its 95% interval (Wilson, 1927): (value, low, high).

    Args:
        hits: whether each answer was right, [n].

    Raises:
        ValueError: no answers.
    """
    from scipy.stats import binomtest

    if len(hits) == 0:
        raise ValueError("no answers were given: a share of nothing is not a number.")
    right = int(np.sum(hits))
    interval = binomtest(right, len(hits)).proportion_ci(method="wilson")
    return 100 * right / len(hits), 100 * interval.low, 100 * interval.high


def lead(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Points of accuracy by which ours is ahead of theirs, with the 95% bootstrap interval over sentences.

    Both answered the same sentences, so sentences are drawn in pairs: what is hard for both cancels out.

    Args:
        ours, theirs: whether each sentence was right, [n]; or the part of several models that had it right.

    Returns:
        ``(points, low, high)``; an interval that holds 0 means: no difference was seen.
    """
    difference = 100 * (np.asarray(ours, float) - np.asarray(theirs, float))
    pick = np.random.default_rng(0).integers(len(difference), size=(2000, len(difference)))
    low, high = np.percentile(difference[pick].mean(1), [2.5, 97.5])
    mean = float(difference.mean())
    return mean, min(float(low), mean), max(float(high), mean)


def calibration(
    confidence: np.ndarray, hits: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers in bins of equal width of confidence.

    Args:
        confidence: probability of the answer given, 0 to 1, [n].
        hits: whether it was right, bool [n].
        bins: how many bins.

    Returns:
        For each bin that is not empty: mean confidence in percent, [bins]; accuracy with its interval as
        from ``accuracy``, [bins, 3]; and the number of answers, [bins].

    Raises:
        ValueError: nothing given, unequal lengths, or a confidence outside 0 to 1.
    """
    confidence, hits = np.asarray(confidence, dtype=float), np.asarray(hits, dtype=bool)
    if len(confidence) != len(hits) or not len(confidence):
        raise ValueError(
            f"confidence and hits must be equally long, not empty: {len(confidence)}, {len(hits)}."
        )
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError("confidence must lie between 0 and 1: use probabilities (softmax), not logits.")
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [which == b for b in np.unique(which)]
    mean = 100 * np.array([confidence[m].mean() for m in members])
    return mean, np.array([accuracy(hits[m]) for m in members]), np.array([m.sum() for m in members])


def ece(confidence: np.ndarray, hits: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error in percent: mean gap between confidence and accuracy, by bins of
    confidence (Guo et al., 2017). Arguments and errors as for ``calibration``."""
    mean, right, count = calibration(confidence, hits, bins)
    return float(np.sum(count * np.abs(right[:, 0] - mean)) / count.sum())
