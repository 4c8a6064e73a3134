"""Would a router notice the cut? A cascade: the edge answers if it is sure enough, else the teacher does.

Chapter 11 makes a policy of it; here it is a line of arithmetic on answers that were kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.compress.exam import Answers, of
from kit.measure import accuracy

Share = tuple[float, float, float]
"""A part in percent, with its 95% interval: (value, low, high)."""


@dataclass(frozen=True)
class Cascade:
    """What users get when an edge model and a teacher share the work.

    Attributes:
        sent: part of the sentences that went to the teacher, in percent, with its interval.
        right: part of all sentences that were answered right, in percent, with its interval.
    """

    sent: Share
    right: Share


def cascade(edge: Answers, cloud: Answers, threshold: float, lang: str | None = "en") -> Cascade:
    """Let the edge answer what it is at least ``threshold`` sure of, and the cloud the rest.

    Args:
        edge, cloud: answers to the same sentences.
        threshold: 0 (nothing is sent) to 1.
        lang: of the sentences; None for both.

    Raises:
        ValueError: a threshold outside 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability from 0 to 1, got {threshold}.")
    stays = (np.array(edge.sure) >= threshold)[of(lang)]
    mine, theirs = edge.hits[of(lang)], cloud.hits[of(lang)]
    return Cascade(accuracy(~stays), accuracy(np.where(stays, mine, theirs)))
